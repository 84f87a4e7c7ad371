"""Brings a model artifact from cloud storage into the on-premises store."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from airflow.sdk import BaseOperator, conf

from hybrid_provider._explained import explained
from hybrid_provider.artifacts.policy import ArtifactPolicy
from hybrid_provider.artifacts.progress import in_units
from hybrid_provider.artifacts.retention import check_keep, prune
from hybrid_provider.artifacts.source import ArtifactSource
from hybrid_provider.artifacts.store import ReleaseStore
from hybrid_provider.artifacts.sync import SyncResult, sync
from hybrid_provider.artifacts.transfer_policy import TransferPolicy
from hybrid_provider.hooks.objects import access_for
from hybrid_provider.names import checked_name
from hybrid_provider.operators._events import announce
from hybrid_provider.operators._evidence import run_of
from hybrid_provider.operators._literal import literal
from hybrid_provider.operators._sync_events import event_extra, lineage

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import timedelta
    from os import PathLike

    from airflow.sdk import Context

    from hybrid_provider.artifacts.archive import Limits
    from hybrid_provider.artifacts.progress import Progress
    from hybrid_provider.artifacts.release import ReleaseDict
    from hybrid_provider.operators._events import Lineage

SECONDS_BETWEEN_LINES = 5.0
_PATIENT = TransferPolicy()


class ModelArtifactSyncOperator(BaseOperator):
    """Read an artifact once, verify it, and keep it as a release.

    The same artifact again is a matter of milliseconds, and the same files always have the same release.
    Where ``hybrid://model/<model_name>`` is an outlet, its event says which release came, from where, and the
    head of the store's evidence.

    Args:
        model_name: The model; letters, digits, ``.``, ``_`` and ``-``.
        artifact: What the training operator or the sensor returned, an artifact's dict, or a URI:
            ``s3://bucket/path/model.tar.gz``, or a prefix of objects with a ``/`` at its end; also
            ``gs://``, ``az://container/…``, ``abfs://container@account…/…`` and ``file:///…``. Templated.
        store_root: The folder of releases; ``[hybrid] store_root`` where None. Templated.
        expected_sha256: Of the object's bytes as they are in the cloud, 64 hex digits; another object is
            refused. None compares with nothing but what the store of objects says itself. Templated.
        policy: From where, in which formats and signed by whom it must be: an
            :class:`~hybrid_provider.artifacts.policy.ArtifactPolicy`, or a mapping of its rules. Templated.
        keep_releases: How many of the newest releases stay after the sync; those that a channel names, that
            are pinned or read stay as well. None, the default, removes none.
        max_bytes_per_second: Of the transfer, on average; None for as fast as it comes.
        resumable_from: One object whose transfer takes so long keeps its parts on the disk until the end, so
            that a retry goes on from them; 0 always. A prefix of objects always goes on.
        limits: What an archive may unpack to; the defaults are those of
            :class:`~hybrid_provider.artifacts.archive.Limits`.
        aws_conn_id: As in the amazon provider. Templated.
        region_name: As in the amazon provider. Templated.
        verify: As in the amazon provider.
        botocore_config: As in the amazon provider.
        gcp_conn_id: For ``gs://``, as in the google provider, which need not be installed. Templated.
        wasb_conn_id: For ``az://`` and ``abfs://``, as in Azure's provider, likewise. Templated.

    Returns:
        A :class:`~hybrid_provider.artifacts.release.ReleaseDict`, which the gate and the deploy operator take
        as it is: ``release=sync.output``.

    Raises:
        ConfigurationError: A name, URI, policy or checksum that cannot be right.
        ArtifactNotFound: Nothing, or an empty object, is at the URI, or it may not be read.
        ArtifactRefused: The policy, a signature, or what is in the archive.
        ArtifactUnavailable: The object store. Tried again, and so are ``ArtifactChanged`` and ``StoreError``;
            the others fail the task at once. In each case the store is as it was.
    """

    template_fields: Sequence[str] = (
        "artifact",
        "store_root",
        "expected_sha256",
        "policy",
        "aws_conn_id",
        "region_name",
        "gcp_conn_id",
        "wasb_conn_id",
    )

    def __init__(
        self,
        *,
        model_name: str,
        artifact: object,
        store_root: str | PathLike[str] | None = None,
        expected_sha256: str | None = None,
        policy: object = None,
        keep_releases: int | None = None,
        max_bytes_per_second: int | None = None,
        resumable_from: timedelta = _PATIENT.resumable_from,
        limits: Limits | None = None,
        aws_conn_id: str | None = "aws_default",
        region_name: str | None = None,
        verify: bool | str | None = None,
        botocore_config: dict[str, Any] | None = None,
        gcp_conn_id: str | None = "google_cloud_default",
        wasb_conn_id: str | None = "wasb_default",
        **kwargs: Any,  # noqa: ANN401 - BaseOperator's own arguments
    ) -> None:
        super().__init__(**kwargs)
        self.model_name = model_name
        self.artifact = artifact
        self.store_root = store_root
        self.expected_sha256 = expected_sha256
        self.policy = policy
        self.keep_releases = keep_releases
        self.max_bytes_per_second = max_bytes_per_second
        self.resumable_from = resumable_from
        self.limits = limits
        self.aws_conn_id = aws_conn_id
        self.region_name = region_name
        self.verify = verify
        self.botocore_config = botocore_config
        self.gcp_conn_id = gcp_conn_id
        self.wasb_conn_id = wasb_conn_id
        self._release: ReleaseDict | None = None

    @explained
    def execute(self, context: Context) -> ReleaseDict:
        """Sync, with a line in the log every few seconds."""
        checked_name("model", self.model_name)
        if self.keep_releases is not None:
            check_keep(self.keep_releases)  # before hours of transfer rather than after them
        source = ArtifactSource.read(self.artifact)
        policy = ArtifactPolicy.of(cast("Mapping[str, object] | None", literal("policy", self.policy)))
        access = access_for(self, source.uri)
        store = ReleaseStore(Path(self.store_root or conf.get("hybrid", "store_root")))
        self.log.info("Syncing %s into %s as a release of model %s", source.uri, store.root, self.model_name)
        result = sync(
            access,
            source.artifact or source.uri,
            self.model_name,
            store,
            progress=_every(SECONDS_BETWEEN_LINES, lambda progress: self.log.info("%s", progress)),
            expected_sha256=self.expected_sha256,
            created=source.created,
            limits=self.limits,
            transfer=TransferPolicy(
                max_bytes_per_second=self.max_bytes_per_second, resumable_from=self.resumable_from
            ),
            provenance={"training": source.training, "run": run_of(context)},
            policy=policy,
        )
        self.log.info("%s", _summary(result))
        if self.keep_releases is not None:
            self._prune(store, self.keep_releases)
        self._release = result.release.to_dict(seconds=result.seconds, reused_bytes=result.reused_bytes)
        extra = event_extra(self._release, source, run_of(context), store.evidence.head())
        announce(context, self, self.model_name, extra)
        return self._release

    def get_openlineage_facets_on_start(self) -> Lineage:
        """The artifact."""
        return lineage(self.artifact, None)

    def get_openlineage_facets_on_complete(self, _task_instance: object) -> Lineage:
        """The artifact and the release's folder."""
        return lineage(self.artifact, self._release)

    def get_openlineage_facets_on_failure(self, _task_instance: object) -> Lineage:
        """The artifact."""
        return lineage(self.artifact, None)

    def _prune(self, store: ReleaseStore, keep: int) -> None:
        pruned = prune(store, self.model_name, keep)
        if pruned.removed:
            self.log.info(
                "Pruned %d releases, %s: %s",
                len(pruned.removed),
                in_units(pruned.freed_bytes),
                ", ".join(pruned.removed),
            )


def _every(seconds: float, report: Callable[[Progress], None]) -> Callable[[Progress], None]:
    """Call ``report`` with the first progress that comes ``seconds`` or more after the last that it got."""
    due = time.monotonic() + seconds

    def throttled(progress: Progress) -> None:
        nonlocal due
        if time.monotonic() >= due:
            report(progress)
            due = time.monotonic() + seconds

    return throttled


def _summary(result: SyncResult) -> str:
    release = result.release
    if result.read_bytes == 0:
        how = f"was in the store already ({result.seconds * 1000:.0f} ms)"
    else:
        how = f"synced and verified in {result.seconds:.1f} s"
        if result.reused_bytes:
            how += f", {in_units(result.reused_bytes)} of it from this disk"
    return (
        f"Release {release.release_id} {how}: {len(release.manifest.files)} files, "
        f"{in_units(release.manifest.size_bytes)}, digest {release.digest[:12]}, in {release.path}"
    )
