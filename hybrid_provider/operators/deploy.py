"""Puts a release live on a fleet, in waves that undo themselves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Never, cast

from airflow.sdk import conf

from hybrid_provider._explained import explained
from hybrid_provider.artifacts.retention import in_use
from hybrid_provider.artifacts.sync import sync
from hybrid_provider.exceptions import ConfigurationError
from hybrid_provider.hooks.aws import aws_access
from hybrid_provider.operators._evidence import check_direction, head_of, run_of, training_of
from hybrid_provider.operators._literal import literal
from hybrid_provider.operators._rollout_state import RolloutMemory
from hybrid_provider.operators.fleet import Fleet, FleetOperator
from hybrid_provider.rollout.activations import Activations
from hybrid_provider.rollout.engine import Rollout
from hybrid_provider.rollout.probe_settings import bound
from hybrid_provider.rollout.states import RolloutState

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime, timedelta

    from airflow.sdk import Context

    from hybrid_provider.artifacts.artifact import Artifact
    from hybrid_provider.artifacts.release import Release, ReleaseDict
    from hybrid_provider.artifacts.store import ReleaseStore
    from hybrid_provider.fleet.state import FleetState
    from hybrid_provider.rollout.result import RolloutDict, RolloutResult

_RELEASE_KEYS: Final = {"model", "release_id", "digest", "artifact"}
CANARY: Final = "canary"
CHAMPION: Final = "champion"


class OnPremDeployOperator(FleetOperator):
    """Stage a release on all targets, then switch them wave by wave, each proved by a probe or taken back.

    A retry continues: a target that serves the release already is left alone. When the task is killed, each
    target ends on the old release or the new one by itself. ``docs/rollout.md`` says what happens when.

    When the whole fleet serves the release, the store's channel ``champion`` names it.

    ::

        OnPremDeployOperator(
            task_id="deploy",
            model_name="digits",
            release=sync.output,
            targets=["edge_01", "edge_02"],  # ids of ssh connections; the first is the canary
            policy={"waves": [1, "100%"], "bake_time": 60},
            probe={"kind": "http", "port": 8080},
        )

    Args:
        release: What the sync operator returned, or a release id, ``latest`` or a channel. Templated.
        on_breach: ``pause`` leaves the fleet as it is when more targets failed than may, ``rollback`` takes
            back what was switched; as the policy says where None. Templated.
        stop_after: ``canary`` ends the task well once the canary is switched and baked, with the state
            ``PAUSED``: for an approval before a second task that deploys the same release to all. The
            model's asset is an inlet of such a task, since nobody should be told of a release yet.
        deferrable: Wait for the canary's bake in the triggerer, on a timer that needs no connection and
            holds no lease; ``[operators] default_deferrable`` where None.
        approved_by: Who allowed it, for the evidence, the fleet's state and the model's event:
            ``{{ ti.xcom_pull('approval', key='answered_by') }}`` of a
            :class:`~hybrid_provider.operators.approval.ApprovalBranchOperator`. Templated.
        aws_conn_id: Where the artifact is read again when this worker's store lacks the release. Templated.
        region_name: As in the amazon provider. Templated.
        kwargs: Of :class:`~hybrid_provider.operators.fleet.FleetOperator`: the model, the fleet, and how it
            moves.

    Returns:
        A :class:`~hybrid_provider.rollout.result.RolloutDict`, of which a rollback takes ``only_from`` and an
        audit ``release`` as it is.

    Raises:
        ConfigurationError: All that cannot be right in the arguments, connections and inventories at once.
        ReleaseNotFound: Neither this worker's store nor the cloud has the release.
        RolloutPostponed: Targets were unreachable or locked, and nothing was switched. Tried again.
        RolloutError: Any other end; the message lists each target that failed, and what to do.
    """

    template_fields: Sequence[str] = (
        *FleetOperator.template_fields,
        "release",
        "on_breach",
        "approved_by",
        "aws_conn_id",
        "region_name",
    )

    def __init__(
        self,
        *,
        release: object,
        on_breach: str | None = None,
        stop_after: str | None = None,
        deferrable: bool | None = None,
        approved_by: str | None = None,
        aws_conn_id: str | None = "aws_default",
        region_name: str | None = None,
        **kwargs: Any,  # noqa: ANN401 - a fleet operator's own arguments
    ) -> None:
        super().__init__(announces=stop_after is None, **kwargs)
        self.release = release
        self.on_breach = on_breach
        self.stop_after = stop_after
        self.deferrable = deferrable
        self.approved_by = approved_by
        self.aws_conn_id = aws_conn_id
        self.region_name = region_name

    @explained
    def execute(self, context: Context) -> RolloutDict:
        """Deploy, with a line in the log for each transition and a table at the end."""
        return self._deploy(context, RolloutMemory.begin(context))

    @explained
    def resume(self, context: Context, event: object = None) -> RolloutDict:  # noqa: ARG002 - the timer's
        """Go on after the canary's bake."""
        return self._deploy(context, RolloutMemory.resume(context))

    def _deploy(self, context: Context, memory: RolloutMemory) -> RolloutDict:
        if self.stop_after not in {None, CANARY}:
            raise ConfigurationError(f"stop_after is {self.stop_after!r}; give 'canary' or None")
        fleet = self._fleet(on_breach=self.on_breach)
        store = self._store()
        release = self._release(store)
        skip = self._skipped()
        check_direction(store, release, fleet.targets)
        deployment = _Deployment(memory=memory, fleet=fleet, store=store, release=release, skip=skip)
        with in_use(store, release):
            result, state = self._run(context, deployment)
        if result.state is RolloutState.BAKING:
            self._defer(result.bake_left)
        result.raise_unless_succeeded()
        memory.end()
        if result.state is RolloutState.SUCCEEDED and not skip:
            store.point(self.model_name, CHAMPION, release.release_id)
        if self.announces:
            state.announce(result, training_of(store, release), head=head_of(store))
        return result.to_dict()

    def _run(self, context: Context, deployment: _Deployment) -> tuple[RolloutResult, FleetState]:
        memory, fleet, release = deployment.memory, deployment.fleet, deployment.release
        self.log.info(
            "Deploying release %s of model %s to %d targets (rollout %s)",
            release.release_id,
            release.model,
            len(fleet.targets),
            memory.rollout,
        )
        state = fleet.state(
            context,
            kind="deploy",
            memory=memory,
            release=release.release_id,
            digests={release.release_id: release.digest},
            approved_by=self._approver,
        )

        facts = {"model": release.model, "digest": release.digest, "rollout": memory.rollout}
        evidence = Activations(
            deployment.store.evidence, {**facts, "run": run_of(context), "approved_by": self._approver}
        )

        rollout = Rollout(
            release,
            fleet.targets,
            bound(fleet.probe, release),
            fleet.policy,
            rollout_id=memory.rollout,
            journal=self._journal(evidence, state),
            skip=deployment.skip,
            stop_after_canary=self.stop_after == CANARY,
            bake_outside=self._defers(),
            age=memory.age,
        )
        return self._moved(rollout, state), state

    @property
    def _approver(self) -> str | None:
        """Nobody where the template found nobody, which as text is "None"."""
        return self.approved_by if self.approved_by not in {None, "", "None"} else None

    def _defers(self) -> bool:
        if self.deferrable is None:
            return conf.getboolean("operators", "default_deferrable", fallback=False)
        return self.deferrable

    def _defer(self, left: timedelta) -> Never:
        """Wait on a timer alone; it knows no target, so that killing it leaves nothing behind."""
        from airflow.providers.standard.triggers.temporal import TimeDeltaTrigger

        self.log.info("The canary bakes for %s; waiting for that in the triggerer", left)
        self.defer(trigger=TimeDeltaTrigger(left), method_name="resume")
        raise RuntimeError("defer returned")  # it raises always, which its annotation does not say

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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Deployment:
    """What one run of the task moves, and what it remembers of the runs before."""

    memory: RolloutMemory
    fleet: Fleet
    store: ReleaseStore
    release: Release
    skip: tuple[str, ...]
