"""Single rollouts under virtual time, each one promise of the policy."""

from __future__ import annotations

import asyncio
import random
from datetime import timedelta

import pytest

from hybrid_provider.rollout.engine import Rollout
from hybrid_provider.rollout.policy import OnBreach, RolloutPolicy
from hybrid_provider.rollout.probe import Answer
from tests.simulation.fleet import NEW, OLD, RELEASE, Fault, SimulatedProbe, SimulatedTarget
from tests.simulation.virtual_time import run_in_virtual_time


def fleet(*faults, committed=OLD):
    return [
        SimulatedTarget(
            name=f"edge-{n}",
            committed=committed,
            faults=fault,
            random=random.Random(n),
            stepped=[],
        )
        for n, fault in enumerate(faults)
    ]


class SickeningProbe(SimulatedProbe):
    """The new release answers well on one target until some seconds after the switch."""

    def __init__(self, name, healthy_seconds):
        self.name, self.healthy_seconds, self.first = name, healthy_seconds, None

    async def check(self, target, release_id):
        answer = await super().check(target, release_id)
        now = asyncio.get_running_loop().time()
        if target.name != self.name or release_id != NEW or not answer.healthy:
            return answer
        self.first = self.first if self.first is not None else now
        return answer if now - self.first < self.healthy_seconds else Answer("out of memory")


def move(targets, probe=None, abort_at=None, **policy):
    journal = []

    async def run():
        rollout = Rollout(
            RELEASE,
            targets,
            probe or SimulatedProbe(),
            RolloutPolicy(**policy),
            rollout_id="r-1",
            journal=journal.append,
        )
        if abort_at is not None:
            asyncio.get_running_loop().call_later(abort_at, rollout.abort)
        return await rollout.run()

    result = run_in_virtual_time(run())
    return result, [str(target.state) for target in result.targets], journal


def test_a_release_that_dies_within_min_healthy_time_is_never_committed():
    targets = fleet({})
    _, states, _ = move(targets, SickeningProbe("edge-0", healthy_seconds=8))
    assert states == ["REVERTED"]
    assert targets[0].history == []


def test_a_canary_that_dies_while_it_bakes_goes_back_and_nobody_follows():
    targets = fleet({}, {}, {})
    result, states, _ = move(targets, SickeningProbe("edge-0", healthy_seconds=40))
    assert (str(result.state), states) == ("PAUSED", ["REVERTED", "VERIFIED", "VERIFIED"])
    assert [target.live for target in targets] == [OLD] * 3
    assert "out of memory" in result.targets[0].error


def test_a_canary_on_its_first_release_has_nothing_to_go_back_to_and_says_so():
    result, states, _ = move(fleet({}, {}, committed=None), SickeningProbe("edge-0", healthy_seconds=40))
    assert states == ["REVERT_FAILED", "VERIFIED"]
    assert "no earlier release" in result.targets[0].error


def test_one_lost_probe_in_a_bake_is_noise():
    class Blinking(SimulatedProbe):
        asked = 0

        async def check(self, target, release_id):
            self.asked += 1
            answer = await super().check(target, release_id)
            return Answer("lost") if self.asked in {30, 31} else answer

    result, _, _ = move(fleet({}, {}), Blinking())
    assert str(result.state) == "SUCCEEDED"


def test_the_canary_bakes_before_the_second_wave():
    _, _, journal = move(fleet({}, {}), bake_time=timedelta(minutes=30))
    canary = next(e.seconds for e in journal if e.target == "edge-0" and e.state == "SUCCEEDED")
    second = next(e.seconds for e in journal if e.target == "edge-1" and e.state == "ACTIVATING")
    assert second - canary >= 1800


def test_a_retry_bakes_only_what_is_left():
    """An earlier try switched the canary an hour ago (the simulated targets' word)."""
    targets = fleet({}, {})
    targets[0].live = targets[0].committed = NEW
    targets[0].releases.add(NEW)
    _, states, journal = move(targets, bake_time=timedelta(minutes=90))
    assert states == ["ALREADY_CURRENT", "SUCCEEDED"]
    second = next(e.seconds for e in journal if e.target == "edge-1" and e.state == "ACTIVATING")
    assert 1800 <= second < 1900


def test_a_release_that_is_live_but_was_never_committed_is_not_taken_as_done():
    targets = fleet({})
    targets[0].live = NEW
    _, states, _ = move(targets)
    assert states == ["SUCCEEDED"]
    assert targets[0].committed == NEW


def test_a_breach_with_rollback_takes_the_fleet_back():
    targets = fleet({}, {}, {"probe": Fault.FAILS}, {})
    result, states, _ = move(targets, on_breach=OnBreach.ROLLBACK, waves=(1,))
    assert (str(result.state), states) == ("ROLLED_BACK", ["REVERTED", "REVERTED", "REVERTED", "VERIFIED"])
    assert [target.live for target in targets] == [OLD] * 4


def test_a_rollback_that_fails_is_not_rolled_back():
    class OldIsBadToo(SimulatedProbe):
        async def check(self, target, release_id):
            if release_id == OLD:
                return Answer("the old one fails now")
            return await super().check(target, release_id)

    targets = fleet({}, {"probe": Fault.FAILS})
    result, states, _ = move(targets, OldIsBadToo(), on_breach=OnBreach.ROLLBACK)
    assert (str(result.state), states) == ("ROLLBACK_PAUSED", ["REVERT_FAILED", "REVERTED"])
    assert targets[0].live == NEW
    assert "the old one fails now" in result.targets[0].error


def test_an_unreachable_target_is_a_failure():
    result, states, _ = move(fleet({}, {"preflight": Fault.UNREACHABLE}))
    assert (str(result.state), states) == ("FAILED", ["READY", "UNREACHABLE"])
    assert result.retryable


def test_failures_within_the_budget_do_not_stop_the_fleet_and_are_told():
    result, states, _ = move(fleet({}, {"stage": Fault.FAILS}, {}), max_failures=1)
    assert (str(result.state), states) == ("SUCCEEDED", ["SUCCEEDED", "FAILED_NO_CHANGE", "SUCCEEDED"])
    assert "edge-1: FAILED_NO_CHANGE: stage fails" in result.reasons()


def test_a_failed_transfer_changes_nothing_anywhere():
    targets = fleet({}, {}, {"stage": Fault.FAILS})
    result, _, _ = move(targets)
    assert str(result.state) == "FAILED"
    assert [target.live for target in targets] == [OLD] * 3
    with pytest.raises(Exception, match=r"(?s)nothing was switched.*edge-2: FAILED_NO_CHANGE: stage fails"):
        result.raise_unless_succeeded()


def test_a_target_that_hangs_in_any_step_meets_a_deadline():
    for step in ("preflight", "stage", "activate", "probe", "commit", "revert", "finish"):
        result, _, _ = move(
            fleet({step: Fault.HANGS, "commit": Fault.FAILS} if step == "revert" else {step: Fault.HANGS})
        )
        assert result.seconds < 2500, step


def test_a_transfer_may_take_longer_than_the_progress_deadline_as_long_as_bytes_arrive():
    class Slow(SimulatedTarget):
        async def stage(self, order, progress):
            for _ in range(10):
                await asyncio.sleep(500)
                progress(1)
            return await super().stage(order, progress)

    target = fleet({})[0]
    target.__class__ = Slow
    result, states, _ = move([target])
    assert states == ["SUCCEEDED"]
    assert result.seconds > 5000


def test_an_abort_begins_nothing_more_and_takes_back_what_is_being_switched():
    targets = fleet({}, {}, {})
    result, states, _ = move(targets, abort_at=14, bake_time=timedelta(0))
    assert str(result.state) == "ABORTED"
    assert states == ["REVERTED", "VERIFIED", "VERIFIED"]
    assert [target.live for target in targets] == [OLD] * 3


def test_max_unavailable_bounds_the_switches_at_once():
    targets = fleet(*[{}] * 8)
    most = 0

    class Counting(SimulatedProbe):
        async def check(self, target, release_id):
            nonlocal most
            most = max(most, sum(other.switching for other in targets))
            return await super().check(target, release_id)

    result, _, _ = move(targets, Counting(), waves=("100%",), max_unavailable=3)
    assert str(result.state) == "SUCCEEDED"
    assert most == 3
