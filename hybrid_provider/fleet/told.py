"""The rows that no target can tell, in the events of a model: an audit writes them again from there.

A host says itself what it serves. How the last rollout went, and which ones failed, only Airflow keeps:
each rollout that ended well puts its row into its event, and an audit puts in what the events before it do
not tell, since Airflow emits none for a task that failed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, cast

from hybrid_provider.fleet.rows import FAILED_KEY, ROLLOUT_KEY
from hybrid_provider.rollout.states import TargetState

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from hybrid_provider.fleet.rows import FailedRow, RolloutRow

# In a packed row: targets of a wave that ended otherwise than most do.
_OTHERS: Final = "others"
_MOST: Final = TargetState.SUCCEEDED.value


def packed(row: RolloutRow) -> dict[str, Any]:
    """A rollout's row, in which a thousand targets that went well are named once, in their waves."""
    waved = {name for wave in row["waves"] for name in wave}
    targets = row["targets"].items()
    others = {name: state for name, state in targets if state != _MOST or name not in waved}
    return {**{key: value for key, value in row.items() if key != "targets"}, _OTHERS: others}


def unpacked(told: Mapping[str, Any]) -> RolloutRow:
    """The row again."""
    went_well = {name: _MOST for wave in told["waves"] for name in wave}
    row = {key: value for key, value in told.items() if key != _OTHERS}
    return cast("RolloutRow", {**row, "targets": {**went_well, **told[_OTHERS]}})


def rows_told(extras: Iterable[Mapping[str, Any]]) -> dict[str, RolloutRow | FailedRow]:
    """The rows by key, as these events' extras tell them, the newest event first.

    A rollout that failed, was told of, and later ended well by a retry is no failed one any more.
    """
    found: dict[str, RolloutRow | FailedRow] = {}
    ended = set()
    for extra in extras:
        rows = extra.get("rows") or {}
        if ROLLOUT_KEY in rows and ROLLOUT_KEY not in found:
            found[ROLLOUT_KEY] = unpacked(rows[ROLLOUT_KEY])
        if FAILED_KEY in rows and FAILED_KEY not in found:
            kept = [one for one in rows[FAILED_KEY]["rollouts"] if one["rollout"] not in ended]
            found[FAILED_KEY] = {"rollouts": kept}
        ended.add(extra.get("rollout"))
    return found


def rows_untold(
    rows: Mapping[str, Mapping[str, Any] | None], told: Mapping[str, RolloutRow | FailedRow]
) -> dict[str, Any]:
    """Those of these rows that the events do not tell as they are, for the next event."""
    untold = {key: row for key, row in rows.items() if row is not None and row != told.get(key)}
    return {
        key: packed(cast("RolloutRow", row)) if key == ROLLOUT_KEY else row for key, row in untold.items()
    }
