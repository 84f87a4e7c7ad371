"""What the live table of a fleet that moves has room for."""

from __future__ import annotations

from hybrid_provider.rollout.states import TargetState
from hybrid_provider.rollout.watching import shown_first

STATES = {
    "a": TargetState.SUCCEEDED,
    "b": TargetState.READY,
    "c": TargetState.PROBING,
    "d": TargetState.REVERTED,
}


def test_a_small_terminal_shows_what_failed_then_what_moves_then_what_waits():
    assert shown_first(list(STATES), STATES, 1) == ["d"]
    assert shown_first(list(STATES), STATES, 2) == ["c", "d"]
    assert shown_first(list(STATES), STATES, 3) == ["b", "c", "d"]


def test_a_terminal_of_no_height_shows_one_and_a_high_one_keeps_the_fleets_order():
    assert shown_first(list(STATES), STATES, -5) == ["d"]
    assert shown_first(list(STATES), STATES, 9) == list(STATES)
