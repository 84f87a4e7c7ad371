"""From an artifact in cloud storage to a release in the store, in one pass over its bytes."""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hybrid_provider.artifacts.admission import Admission
from hybrid_provider.artifacts.archive import Limits
from hybrid_provider.artifacts.artifact import Artifact
from hybrid_provider.artifacts.channels import CANDIDATE
from hybrid_provider.artifacts.fetch import Fetch
from hybrid_provider.artifacts.folder import store_errors_explained
from hybrid_provider.artifacts.objects import Location, artifact_of
from hybrid_provider.artifacts.origin import check_origin
from hybrid_provider.artifacts.policy import ArtifactPolicy
from hybrid_provider.artifacts.reading import stored_objects
from hybrid_provider.artifacts.retention import in_use
from hybrid_provider.artifacts.reuse import (
    OBJECTS,
    KnownFiles,
    kept_for_a_retry,
    leftover_of,
    objects_read,
)
from hybrid_provider.artifacts.signature import MAX_SIGNATURE_BYTES
from hybrid_provider.artifacts.transfer import Download, parts_of
from hybrid_provider.artifacts.transfer_policy import TransferPolicy
from hybrid_provider.exceptions import ArtifactNotFound, ArtifactRefused, ConfigurationError, ReleaseNotFound
from hybrid_provider.names import checked_name

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime

    from hybrid_provider.artifacts.objects import StoredObject
    from hybrid_provider.artifacts.progress import Progress
    from hybrid_provider.artifacts.reading import Access
    from hybrid_provider.artifacts.release import Release
    from hybrid_provider.artifacts.store import ReleaseStore

_SHA256 = frozenset("0123456789abcdef")
_SHA256_DIGITS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncResult:
    """What a sync did.

    Attributes:
        release: The release, which is in the store now.
        seconds: How long it took.
        reused_bytes: How many of the artifact's bytes did not have to be fetched, since the store had them.
        read_bytes: How many were fetched.
    """

    release: Release
    seconds: float
    reused_bytes: int
    read_bytes: int


def sync(
    access: Access,
    source: Artifact | str,
    model: str,
    store: ReleaseStore,
    *,
    progress: Callable[[Progress], None] | None = None,
    expected_sha256: str | None = None,
    created: datetime | None = None,
    provenance: Mapping[str, object] | None = None,
    limits: Limits | None = None,
    transfer: TransferPolicy | None = None,
    policy: ArtifactPolicy | None = None,
) -> SyncResult:
    """Bring an artifact into the store, as its ``candidate``; one that is there already is not read again.

    Args:
        access: The account that holds it.
        source: The artifact, or a URI of what is there now.
        model: The model's name; the call waits while another process syncs the same model.
        store: Where the release goes.
        progress: Called as bytes come, and each second in which none do; on the caller's thread.
        expected_sha256: Of the object's bytes as they are in the cloud; 64 hex digits.
        created: The release's date; the artifact's own where None.
        provenance: Further facts to keep with the release: plain values, no secrets.
        limits: What an archive may unpack to.
        transfer: How it is read.
        policy: From where, in which formats and signed by whom it must be; it also holds for a release
            that is there already.

    Raises:
        ArtifactError: Its kinds are in :mod:`hybrid_provider.exceptions`; the store is then as it was.
        ConfigurationError: A name, URI, credential or checksum that cannot be right.
    """
    begun = time.monotonic()
    checked_name("model", model)
    expected_sha256 = None if expected_sha256 is None else _checked_sha256(expected_sha256)
    transfer, policy = transfer or TransferPolicy(), policy or ArtifactPolicy()
    policy.check_source(source.uri if isinstance(source, Artifact) else source)
    artifact, seen = _looked_at(access, source, transfer)
    if policy.asks_for_origin:
        check_origin(access, artifact, policy)
    fetch = Fetch(access, artifact, seen, expected_sha256, progress, limits or Limits(), transfer)
    admission = Admission(policy, store, model, lambda: _signature_beside(access, artifact, transfer))
    # What is brought or found is held until the channel keeps it: another sync may prune meanwhile.
    with ExitStack() as held:
        release, reused_bytes = _found_or_brought(
            fetch, admission, created or artifact.last_modified, provenance or {}, held
        )
        store.point(model, CANDIDATE, release.release_id)
    return SyncResult(
        release=release,
        seconds=time.monotonic() - begun,
        reused_bytes=reused_bytes,
        read_bytes=artifact.size_bytes - reused_bytes,
    )


def _looked_at(
    access: Access, source: Artifact | str, transfer: TransferPolicy
) -> tuple[Artifact, Sequence[StoredObject] | None]:
    """The artifact, and where only its URI was given the objects that it is now."""
    if isinstance(source, Artifact):
        return source, None
    location = Location.parse(source)
    seen = stored_objects(access, location, transfer)
    return artifact_of(location, seen), seen


def _found_or_brought(
    fetch: Fetch, admission: Admission, created: datetime, provenance: Mapping[str, object], held: ExitStack
) -> tuple[Release, int]:
    """The artifact's release and how many of its bytes were here; it is not pruned while ``held`` is open."""
    store, model = admission.store, admission.model
    known = _found(fetch, admission, held)
    if known is None:
        with store.locked(model):
            # Another process may have brought it while this one waited.
            known = _found(fetch, admission, held)
            if known is None:
                release, reused_bytes = _bring(fetch, admission, created, provenance)
                held.enter_context(in_use(store, release))
                return release, reused_bytes
    admission.admit_known(known)
    return known, fetch.artifact.size_bytes


def _found(fetch: Fetch, admission: Admission, held: ExitStack) -> Release | None:
    """The release that the store has of the artifact."""
    store = admission.store
    known = store.find(admission.model, fetch.artifact, archive_sha256=fetch.expected_sha256)
    if known is not None:
        try:
            held.enter_context(in_use(store, known))
        except ReleaseNotFound:
            return None
    return known


def _bring(
    fetch: Fetch, admission: Admission, created: datetime, provenance: Mapping[str, object]
) -> tuple[Release, int]:
    """Fetch, admit and add; the release, and how many bytes were on the disk already.

    The caller holds the model's lock.
    """
    store, model, artifact = admission.store, admission.model, fetch.artifact
    objects = fetch.objects()
    with ExitStack() as stack:
        leftover = stack.enter_context(leftover_of(store.root / model / ".staging"))
        folder = stack.enter_context(store.staging(model))
        stack.enter_context(store_errors_explained(folder, artifact.size_bytes))
        stack.enter_context(kept_for_a_retry(folder.parent, leftover))
        if artifact.is_prefix:
            manifest, reused_bytes = fetch.prefix(objects, folder, KnownFiles(store, model, leftover))
            read = objects_read(objects, Location.parse(artifact.uri).key)
            provenance = {**provenance, OBJECTS: read}
        else:
            manifest, reused_bytes = fetch.object(objects[0], folder, leftover)
        admitted = admission.admit(folder, manifest)
        release = store.add(
            model,
            folder,
            manifest,
            created=created,
            artifact=artifact,
            archive_sha256=fetch.expected_sha256,
            provenance={**provenance, **admitted.facts()},
            signature=admitted.signature,
        )
        admission.remember(admitted)
        return release, reused_bytes


def _signature_beside(access: Access, artifact: Artifact, transfer: TransferPolicy) -> str | None:
    """The object that lies beside the artifact and vouches for it: its name and ``.sig``."""
    location = Location.parse(artifact.uri.rstrip("/") + ".sig")
    try:
        objects = stored_objects(access, location, transfer)
    except ArtifactNotFound:
        return None
    if objects[0].size_bytes > MAX_SIGNATURE_BYTES:
        raise ArtifactRefused(
            f"{location} has {objects[0].size_bytes} bytes, more than a signature has; sign again"
        )
    with Download(access, location, parts_of(objects, transfer.part_bytes), transfer) as download:
        content = b"".join(bytes(chunk) for arrived in download for chunk in arrived.chunks)
    return content.decode(errors="replace")


def _checked_sha256(text: str) -> str:
    digits = text.strip().lower()
    if len(digits) != _SHA256_DIGITS or not _SHA256.issuperset(digits):
        raise ConfigurationError(f"expected_sha256 {text!r} is not 64 hex digits")
    return digits
