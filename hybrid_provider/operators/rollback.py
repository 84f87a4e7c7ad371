"""Takes a fleet back to what it served well before; nobody types a version."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hybrid_provider._explained import explained
from hybrid_provider.exceptions import ArtifactError, StoreError
from hybrid_provider.fleet.rows import live_after
from hybrid_provider.operators._arguments import release_id_of
from hybrid_provider.operators._evidence import head_of, run_of, training_of
from hybrid_provider.operators._rollout_state import RolloutMemory
from hybrid_provider.operators.deploy import CHAMPION
from hybrid_provider.operators.fleet import FleetOperator
from hybrid_provider.rollout.activations import Activations
from hybrid_provider.rollout.rollback import Rollback

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow.sdk import Context

    from hybrid_provider.artifacts.store import ReleaseStore
    from hybrid_provider.rollout.result import JournalEntry, RolloutDict, RolloutResult


class OnPremRollbackOperator(FleetOperator):
    """Take each target back to the release that was proved healthy on it before the live one.

    It skips the canary, since the release is known to be good, and never has more than ``max_unavailable``
    down; two targets of one group are never down together. A target without an earlier release fails and the
    others go back; a rollback is never rolled back. A retry goes on with the rest.

    When the whole fleet is back on one release, the store's channel ``champion`` names that one again.

    Args:
        only_from: Take back only targets on which this release is live: a release id, or what the sync or
            deploy operator returned. For the canary of a deploy that nobody approved. Templated.
        kwargs: Of :class:`~hybrid_provider.operators.fleet.FleetOperator`: the model, the fleet, and how it
            moves; a policy's waves and bake are not used.

    Returns:
        A :class:`~hybrid_provider.rollout.result.RolloutDict`, whose ``release_id`` is None: each target has
        its own ``to_release``.

    Raises:
        ConfigurationError: Arguments, connections or inventories that cannot be right.
        RolloutPostponed: Targets were unreachable or locked, and nothing was switched. Tried again.
        RolloutError: Some targets did not go back; the message lists each, and why.
    """

    template_fields: Sequence[str] = (*FleetOperator.template_fields, "only_from")

    def __init__(self, *, only_from: object = None, **kwargs: Any) -> None:  # noqa: ANN401 - as of the base
        super().__init__(**kwargs)
        self.only_from = only_from

    @explained
    def execute(self, context: Context) -> RolloutDict:
        """Go back, with a line in the log for each transition and a table at the end."""
        fleet = self._fleet()
        memory = RolloutMemory.begin(context)
        store = self._store()
        state = fleet.state(context, kind="rollback", memory=memory, digests=self._digests(store))
        facts = {"model": self.model_name, "rollout": memory.rollout, "run": run_of(context)}
        evidence = Activations(store.evidence, facts)

        def journal(entry: JournalEntry) -> None:
            try:
                evidence(entry)
            except StoreError as error:
                # The way back is not barred by a record that cannot be kept.
                self.log.warning("%s", error)
            self.log.info("%s", entry)
            state.entered(entry)

        rollback = Rollback(
            self.model_name,
            fleet.targets,
            fleet.probe,
            fleet.policy,
            rollout_id=memory.rollout,
            only_from=release_id_of("only_from", self.only_from),
            skip=self._skipped(),
            journal=journal,
        )
        self.log.info("Taking %d targets of model %s back", len(fleet.targets), self.model_name)
        result = self._moved(rollback, state)
        result.raise_unless_succeeded()
        memory.end()
        self._name_champion(result)
        state.announce(result, self._training(result), head=head_of(store))
        return result.to_dict()

    def _digests(self, store: ReleaseStore) -> Mapping[str, str]:
        """Of the releases that the fleet may go back to; a store that cannot be read bars no way back."""
        try:
            return {release.release_id: release.digest for release in store.releases(self.model_name)}
        except ArtifactError as error:
            self.log.warning("The fleet's state shows no digests: %s", error)
            return {}

    def _training(self, result: RolloutResult) -> Mapping[str, Any] | None:
        """What trained the release that the fleet is back on, where this worker has that one."""
        store, release_id = self._store(), live_after(result)
        try:
            return training_of(store, store.release(self.model_name, release_id)) if release_id else None
        except ArtifactError:
            return None

    def _name_champion(self, result: RolloutResult) -> None:
        """The store's channel follows the fleet, where this worker has the store and the release."""
        live = {target.live for target in result.targets}
        if len(live) != 1 or (release_id := live.pop()) is None:
            return
        store = self._store()
        try:
            store.point(self.model_name, CHAMPION, store.release(self.model_name, release_id).release_id)
        except ArtifactError as error:
            self.log.warning("The channel %s of model %s stays: %s", CHAMPION, self.model_name, error)
