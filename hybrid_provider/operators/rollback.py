"""Takes a fleet back to what it served well before; nobody types a version."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.sdk import conf

from hybrid_provider._explained import explained
from hybrid_provider.artifacts.store import ReleaseStore
from hybrid_provider.exceptions import ArtifactError
from hybrid_provider.operators._arguments import names, release_id_of
from hybrid_provider.operators._fleet import FleetOperator
from hybrid_provider.operators._rollout_state import RolloutMemory
from hybrid_provider.operators.deploy import CHAMPION
from hybrid_provider.rollout.rollback import Rollback

if TYPE_CHECKING:
    from collections.abc import Sequence
    from os import PathLike

    from airflow.sdk import Context

    from hybrid_provider.rollout.result import JournalEntry, RolloutDict, RolloutResult


class OnPremRollbackOperator(FleetOperator):
    """Take each target back to the release that was proved healthy on it before the live one.

    It skips the canary, since the release is known to be good, and never has more than ``max_unavailable``
    down; two targets of one group are never down together. A target without an earlier release fails and the
    others go back; a rollback is never rolled back. A retry goes on with the rest.

    The model's asset is an outlet of the task by itself. When the whole fleet is back on one release, the
    store's channel ``champion`` names that one again.

    Args:
        model_name: The model; known where the DAG is parsed.
        targets: As of :class:`~hybrid_provider.operators.deploy.OnPremDeployOperator`. Templated.
        policy: Likewise; its waves and its bake are not used. Templated.
        probe: What proves that a target serves its earlier release, as of the deploy. Templated.
        only_from: Take back only targets on which this release is live: a release id, or what the sync or
            deploy operator returned. For the canary of a deploy that nobody approved. Templated.
        skip: Names of targets that are left alone. Templated.
        base_folder: As of the deploy. Templated.
        reload_command: As of the deploy. Templated.
        store_root: The folder of releases; ``[hybrid] store_root`` where None. Templated.

    Returns:
        A :class:`~hybrid_provider.rollout.result.RolloutDict`, whose ``release_id`` is None: each target has
        its own ``to_release``.
    """

    template_fields: Sequence[str] = (*FleetOperator.template_fields, "only_from", "skip", "store_root")

    def __init__(
        self,
        *,
        model_name: str,
        targets: object,
        policy: object = None,
        probe: object = None,
        only_from: object = None,
        skip: object = (),
        base_folder: str | None = None,
        reload_command: str | None = None,
        store_root: str | PathLike[str] | None = None,
        **kwargs: Any,  # noqa: ANN401 - BaseOperator's own arguments
    ) -> None:
        super().__init__(
            model_name=model_name,
            targets=targets,
            policy=policy,
            probe=probe,
            base_folder=base_folder,
            reload_command=reload_command,
            **kwargs,
        )
        self.only_from = only_from
        self.skip = skip
        self.store_root = store_root
        self._rollback: Rollback | None = None

    @explained
    def execute(self, context: Context) -> RolloutDict:
        """Go back, with a line in the log for each transition and a table at the end."""
        fleet = self._fleet()
        memory = RolloutMemory.begin(context)
        state = fleet.state(context, kind="rollback", memory=memory)

        def journal(entry: JournalEntry) -> None:
            self.log.info("%s", entry)
            state.entered(entry)

        self._rollback = Rollback(
            self.model_name,
            fleet.targets,
            fleet.probe,
            fleet.policy,
            rollout_id=memory.rollout,
            only_from=release_id_of("only_from", self.only_from),
            skip=names("skip", self.skip),
            journal=journal,
        )
        self.log.info("Taking %d targets of model %s back", len(fleet.targets), self.model_name)
        result = fleet.moved(self._rollback, state)
        self.log.info("Rollback %s in %.1f s\n%s", result.state, result.seconds, result.table())
        result.raise_unless_succeeded()
        memory.end()
        self._name_champion(result)
        state.announce(result.to_dict(), training=None)
        return result.to_dict()

    def on_kill(self) -> None:
        """Begin nothing more; the targets finish or go back by themselves."""
        if self._rollback is not None:
            self._rollback.abort()

    def _name_champion(self, result: RolloutResult) -> None:
        """The store's channel follows the fleet, where this worker has the store and the release."""
        live = {target.live for target in result.targets}
        if len(live) != 1 or (release_id := live.pop()) is None:
            return
        store = ReleaseStore(Path(self.store_root or conf.get("hybrid", "store_root")))
        try:
            store.point(self.model_name, CHAMPION, store.release(self.model_name, release_id).release_id)
        except ArtifactError as error:
            self.log.warning("The channel %s of model %s stays: %s", CHAMPION, self.model_name, error)
