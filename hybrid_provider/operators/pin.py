"""Keeps hosts on the release that they have, or lets them take part in rollouts again."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypedDict, cast

from hybrid_provider._explained import explained
from hybrid_provider.exceptions import RolloutError
from hybrid_provider.fleet.rows import host_key
from hybrid_provider.fleet.state import StateRows
from hybrid_provider.operators._arguments import flag
from hybrid_provider.operators.fleet import FleetOperator
from hybrid_provider.rollout.pinning import pin_targets, to_live

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow.sdk import Context

    from hybrid_provider.fleet.rows import HostRow
    from hybrid_provider.rollout.pinning import Pinned, PinnedDict


class PinDict(TypedDict):
    """What became of the targets, as an XCom."""

    model: str
    targets: list[PinnedDict]


class OnPremPinOperator(FleetOperator):
    """Pin each target to the release that is live on it, or unpin it; nothing is switched.

    No rollout moves a target that is pinned to another release. The target itself keeps the pin, so that it
    holds whoever deploys.

    The model's asset is an inlet of the task: nobody who waits for the model is told.

    Args:
        pin: True to pin, False to unpin. Templated.
        kwargs: Of :class:`~hybrid_provider.operators.fleet.FleetOperator`: the model and the fleet.

    Returns:
        A :class:`PinDict`: for each target what it is pinned to now.

    Raises:
        ConfigurationError: Arguments, connections or inventories that cannot be right.
        RolloutError: Some targets are as they were; the message lists each, and why.
    """

    is_news = False
    template_fields: Sequence[str] = (*FleetOperator.template_fields, "pin")

    def __init__(self, *, pin: object = True, **kwargs: Any) -> None:  # noqa: ANN401 - a fleet operator's own
        super().__init__(announces=self.is_news, **kwargs)
        self.pin = pin

    @explained
    def execute(self, context: Context) -> PinDict:
        """Pin or unpin, with a line in the log for each target."""
        fleet, skip = self._fleet(), self._skipped()
        targets = [target for target in fleet.targets if target.name not in skip]
        wanted = to_live if flag("pin", self.pin) else None
        pinned = asyncio.run(pin_targets(targets, fleet.model, wanted, fleet.policy))
        for one in pinned:
            did = f"pinned to {one.release_id}" if one.release_id else "not pinned"
            self.log.info("%s: %s", one.name, one.error or did)
        self._write(context, pinned)
        if failed := [f"  {one.name}: {one.error}" for one in pinned if one.error]:
            raise RolloutError(
                f"{len(failed)} of {len(pinned)} targets of {fleet.model} are as they were; correct what is "
                "below and clear the task\n" + "\n".join(failed)
            )
        return {"model": fleet.model, "targets": [one.to_dict() for one in pinned]}

    def _write(self, context: Context, pinned: Sequence[Pinned]) -> None:
        """Into the rows that there are; those that there are not, an audit writes."""
        rows = StateRows(context, self.model_name)
        for one in pinned:
            row = cast("HostRow | None", rows.get(host_key(one.name))) if one.error is None else None
            if row is not None and row["pinned"] != one.release_id:
                rows.set(host_key(one.name), {**row, "pinned": one.release_id})
