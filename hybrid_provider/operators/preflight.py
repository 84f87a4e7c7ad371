"""Asks whether a fleet could take a release, before one is trained for it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, TypedDict

from hybrid_provider._explained import explained
from hybrid_provider.exceptions import RolloutError, RolloutPostponed
from hybrid_provider.operators._rollout_state import rollout_id_of
from hybrid_provider.operators.fleet import FleetOperator
from hybrid_provider.rollout.preflight import Preflight
from hybrid_provider.rollout.states import FAILURES, TargetState

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow.sdk import Context

    from hybrid_provider.rollout.result import TargetResult

# A deploy waits for another rollout's end, which will have come when the training is over.
_FAULTS: Final = FAILURES - {TargetState.LOCKED}


class AskedDict(TypedDict):
    """One target of a preflight."""

    name: str
    state: str
    error: str | None


class PreflightDict(TypedDict):
    """A preflight as an XCom."""

    model: str
    targets: list[AskedDict]


class FleetPreflightOperator(FleetOperator):
    """Find, before a training is paid for, what would keep the fleet from taking its release.

    Put it before the training, with the arguments of the deploy that comes after it::

        FleetPreflightOperator(task_id="preflight", **fleet) >> train

    It reads the policy, the probe, the connections and inventories, and asks each target as a deploy does
    first: whether it can be reached, whether its key is the known one, and whether programs, folders, images
    and networks are there. Only for the release's size there can be no answer yet. Nothing is sent, and
    each target is let go of at once. One on which a rollout works is not waited for.

    The model's asset is an inlet of the task: nobody who waits for the model is told.

    Args:
        kwargs: Of :class:`~hybrid_provider.operators.fleet.FleetOperator`: the model, the fleet, and how it
            moves.

    Returns:
        A :class:`PreflightDict`.

    Raises:
        ConfigurationError: All that cannot be right in the arguments, connections and inventories at once.
        RolloutPostponed: More targets than ``max_failures`` were unreachable. Tried again.
        RolloutError: More targets than ``max_failures`` could take no release; the message lists each, and
            all that it lacks.
    """

    is_news = False

    def __init__(self, **kwargs: Any) -> None:  # noqa: ANN401 - a fleet operator's own
        super().__init__(announces=self.is_news, **kwargs)

    @explained
    def execute(self, context: Context) -> PreflightDict:
        """Ask, with a line in the log for each target."""
        fleet = self._fleet()
        preflight = Preflight(
            fleet.targets,
            fleet.model,
            fleet.probe,
            fleet.policy,
            rollout_id=rollout_id_of(context),
            tell=lambda name, state, detail: self.log.info("%s: %s %s", name, state, detail),
            skip=self._skipped(),
        )
        self._moving = preflight
        results = asyncio.run(preflight.run())
        _raise_if_unready(fleet.model, results, fleet.policy.max_failures)
        return {"model": fleet.model, "targets": list(map(_asked, results))}


def _asked(result: TargetResult) -> AskedDict:
    return {"name": result.name, "state": result.state.value, "error": result.error}


def _raise_if_unready(model: str, results: Sequence[TargetResult], may: int) -> None:
    failed = [result for result in results if result.state in _FAULTS]
    if len(failed) <= may:
        return
    lost = all(result.state is TargetState.UNREACHABLE for result in failed)
    listed = "\n".join(f"  {result.name}: {result.error}" for result in failed)
    raise (RolloutPostponed if lost else RolloutError)(
        f"{len(failed)} of {len(results)} targets of {model} could take no release; correct what is below "
        f"and clear the task\n{listed}"
    )
