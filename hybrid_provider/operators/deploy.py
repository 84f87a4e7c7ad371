"""Puts a release live on a fleet, in waves that undo themselves."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from airflow.sdk import conf

from hybrid_provider._explained import explained
from hybrid_provider.artifacts.retention import in_use
from hybrid_provider.artifacts.store import ReleaseStore
from hybrid_provider.artifacts.sync import sync
from hybrid_provider.exceptions import ConfigurationError, HybridError, InvalidName
from hybrid_provider.fleet.state import FleetState
from hybrid_provider.hooks.aws import aws_access
from hybrid_provider.hooks.ssh import ssh_target
from hybrid_provider.names import checked_name
from hybrid_provider.operators._fleet import FleetOperator
from hybrid_provider.operators._literal import literal
from hybrid_provider.rollout.engine import Rollout
from hybrid_provider.rollout.policy import RolloutPolicy
from hybrid_provider.rollout.probe import HttpProbe
from hybrid_provider.targets.target import Placement

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from os import PathLike

    from airflow.sdk import Context

    from hybrid_provider.artifacts.artifact import Artifact
    from hybrid_provider.artifacts.release import Release, ReleaseDict
    from hybrid_provider.rollout.probe import Probe
    from hybrid_provider.rollout.result import JournalEntry, RolloutDict
    from hybrid_provider.targets.target import Target, TargetSpec

_RELEASE_KEYS = {"model", "release_id", "digest", "artifact"}


class OnPremDeployOperator(FleetOperator):
    """Stage a release on all targets, then switch them wave by wave, each proved by a probe or taken back.

    A retry continues: a target that serves the release already is left alone. When the task is killed, each
    target ends on the old release or the new one by itself.

    Args:
        model_name: The model; letters, digits, ``.``, ``_`` and ``-``.
        release: What the sync operator returned, or a release id, ``latest`` or a channel. Templated.
        targets: Ids of ``ssh`` connections, or target objects such as
            :class:`~hybrid_provider.targets.local.LocalTarget`; the first are the canary. Templated.
        policy: A :class:`~hybrid_provider.rollout.policy.RolloutPolicy`, or a mapping of its settings with
            durations in seconds. Templated.
        probe: What proves that a target serves the release; ``GET http://<host>:8080/ping`` where None.
        base_folder: On the targets, relative to HOME or absolute; ``models`` where None. Templated.
        reload_command: Shell text, run on each target after each switch. Templated.
        store_root: The folder of releases; ``[hybrid] store_root`` where None. Templated.
        aws_conn_id: Where the artifact is read again when this worker's store lacks the release.
        region_name: As in the amazon provider.

    A connection's extras ``base_folder``, ``reload_command`` and ``probe_url`` go before the arguments.

    Returns:
        A :class:`~hybrid_provider.rollout.result.RolloutDict`.
    """

    template_fields: Sequence[str] = (
        "release",
        "targets",
        "policy",
        "base_folder",
        "reload_command",
        "store_root",
        "aws_conn_id",
        "region_name",
    )

    def __init__(
        self,
        *,
        model_name: str,
        release: object,
        targets: object,
        policy: object = None,
        probe: Probe | None = None,
        base_folder: str | None = None,
        reload_command: str | None = None,
        store_root: str | PathLike[str] | None = None,
        aws_conn_id: str | None = "aws_default",
        region_name: str | None = None,
        **kwargs: Any,  # noqa: ANN401 - BaseOperator's own arguments
    ) -> None:
        super().__init__(model_name=model_name, **kwargs)
        self.release = release
        self.targets = targets
        self.policy = policy
        self.probe = probe
        self.base_folder = base_folder
        self.reload_command = reload_command
        self.store_root = store_root
        self.aws_conn_id = aws_conn_id
        self.region_name = region_name
        self._rollout: Rollout | None = None

    @explained
    def execute(self, context: Context) -> RolloutDict:
        """Deploy, with a line in the log for each transition and a table at the end."""
        checked_name("model", self.model_name)
        policy = RolloutPolicy.of(cast("Mapping[str, object] | None", literal("policy", self.policy)))
        fleet = fleet_of(self.targets)
        placement = Placement(base_folder=self.base_folder, reload_command=self.reload_command)
        store = ReleaseStore(Path(self.store_root or conf.get("hybrid", "store_root")))
        release = self._release(store)
        targets = [spec.open(placement) for spec in fleet]
        state = FleetState(
            context,
            kind="deploy",
            rollout=rollout_id_of(context),
            model=release.model,
            release=release.release_id,
            digest=release.digest,
            groups={target.name: target.group for target in targets},
            max_failures=policy.max_failures,
        )
        self._rollout = self._rollout_of(release, targets, policy, state, rollout_id_of(context))
        with in_use(store, release), state:
            result = asyncio.run(self._rollout.run())
            state.ended(result.to_dict())
            state.announce(result.to_dict(), _training_of(store, release))
        self.log.info("Rollout %s in %.1f s\n%s", result.state, result.seconds, result.table())
        result.raise_unless_succeeded()
        return result.to_dict()

    def on_kill(self) -> None:
        """Begin nothing more; the targets finish or go back by themselves."""
        if self._rollout is not None:
            self._rollout.abort()

    def _rollout_of(
        self,
        release: Release,
        targets: Sequence[Target],
        policy: RolloutPolicy,
        state: FleetState,
        rollout_id: str,
    ) -> Rollout:
        self.log.info(
            "Deploying release %s of model %s to %d targets (rollout %s)",
            release.release_id,
            release.model,
            len(targets),
            rollout_id,
        )

        def journal(entry: JournalEntry) -> None:
            self.log.info("%s", entry)
            state.entered(entry)

        rollout = Rollout(
            release, targets, self.probe or HttpProbe(), policy, rollout_id=rollout_id, journal=journal
        )
        state.planned(rollout.waves)
        return rollout

    def _release(self, store: ReleaseStore) -> Release:
        """The release on this worker's disk; an earlier task may have run on another worker."""
        wanted = literal("release", self.release)
        if isinstance(wanted, str):
            return store.release(self.model_name, wanted)
        if not isinstance(wanted, Mapping) or not wanted.keys() >= _RELEASE_KEYS:
            raise ConfigurationError(
                f"release is {wanted!r}; give the sync task's output (sync.output), a release id, 'latest' "
                "or a channel. None means that the task before returned nothing"
            )
        if wanted["model"] != self.model_name:
            raise ConfigurationError(
                f"release {wanted['release_id']} is one of model {wanted['model']!r}, and model_name is "
                f"{self.model_name!r}"
            )

        def fetch(artifact: Artifact, created: datetime) -> Release:
            self.log.info("This worker's store %s lacks the release; syncing it again", store.root)
            access = aws_access(self.aws_conn_id, self.region_name)
            return sync(access, artifact, self.model_name, store, created=created).release

        return store.ensure(cast("ReleaseDict", wanted), fetch)


def fleet_of(targets: object) -> list[TargetSpec]:
    """The fleet that a DAG gives: ids of ssh connections and target objects, in the order of its waves.

    Raises:
        InvalidName: Names are outside the grammar; all of them in one message.
        ConfigurationError: It is no list, or connections are missing or not complete; likewise.
    """
    given = literal("targets", targets)
    if isinstance(given, str) and not re.search(r"[\s,]", given):
        given = [given]
    if not isinstance(given, list | tuple):
        raise ConfigurationError(
            f"targets is {given!r}; give a list of ssh connection ids, such as ['edge_01', 'edge_02']"
        )
    faults: list[HybridError] = []
    fleet: list[TargetSpec] = []
    for target in given:
        try:
            fleet.append(_spec(ssh_target(target) if isinstance(target, str) else target))
        except ConfigurationError as fault:
            faults.append(fault)
    if len(faults) == 1:
        raise faults[0]
    if faults:
        kind = InvalidName if all(isinstance(fault, InvalidName) for fault in faults) else ConfigurationError
        raise kind("\n".join(map(str, faults)))
    return fleet


def _spec(target: object) -> TargetSpec:
    if not hasattr(target, "open") or not hasattr(target, "name"):
        raise ConfigurationError(f"target {target!r}: give the id of an ssh connection, or a target object")
    return cast("TargetSpec", target)


def _training_of(store: ReleaseStore, release: Release) -> Mapping[str, Any] | None:
    """What trained the release, as its provenance in the store has it."""
    training = store.provenance(release).get("training")
    return training if isinstance(training, Mapping) else None


def rollout_id_of(context: Context) -> str:
    """The same for all tries of one task instance, so that a retry takes over what its predecessor held."""
    ti = context["ti"]
    parts = (ti.dag_id, ti.run_id, ti.task_id, str(getattr(ti, "map_index", -1)))
    readable = re.sub(r"[^A-Za-z0-9_-]+", "-", f"{ti.dag_id}-{ti.task_id}").strip("-_")[:40]
    return f"{readable or 'deploy'}-{hashlib.sha256(chr(0).join(parts).encode()).hexdigest()[:12]}"
