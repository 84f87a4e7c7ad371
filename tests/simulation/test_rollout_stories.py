"""Single rollouts under virtual time, each one promise of the policy."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from hybrid_provider.rollout.policy import OnBreach
from tests.simulation.hosts import FOREVER, Fault, SimulatedTarget
from tests.simulation.stories import Blinking, Counting, Rebooting, fleet, go_back, healthy, move
from tests.simulation.world import NEW, OLD


def test_a_release_that_dies_within_min_healthy_time_is_never_committed():
    hosts = healthy(1)
    hosts[0].sick = {NEW: 8}
    _, states, _ = move(hosts)
    assert states == ["REVERTED"]
    assert hosts[0].history == []


def test_a_release_that_blinks_must_answer_for_min_healthy_time_once_more():
    _, states, steady = move(healthy(1))
    _, _, blinking = move(healthy(1), Blinking(8))
    assert states == ["SUCCEEDED"]
    late = blinking.seconds("edge-0", "SUCCEEDED") - steady.seconds("edge-0", "SUCCEEDED")
    assert late > 6


def test_a_canary_that_dies_while_it_bakes_goes_back_and_nobody_follows():
    hosts = healthy(3)
    hosts[0].sick = {NEW: 40}
    result, states, _ = move(hosts)
    assert (str(result.state), states) == ("PAUSED", ["REVERTED", "VERIFIED", "VERIFIED"])
    assert [host.live for host in hosts] == [OLD] * 3
    assert "HTTP 500" in result.targets[0].error


@pytest.mark.parametrize(("seconds", "ends"), [(120, "REVERTED"), (FOREVER, "REVERT_FAILED")])
def test_a_canary_that_is_away_in_its_bake_is_waited_for_and_taken_back(seconds, ends):
    """As one that reboots is."""
    hosts = healthy(2)
    result, states, _ = move(hosts, Rebooting(30, seconds))
    assert (str(result.state), states) == ("PAUSED", [ends, "VERIFIED"])
    lost = "; going back: lost in drain" in result.targets[0].error
    assert (hosts[0].live, lost) == ((OLD, False) if ends == "REVERTED" else (NEW, True))
    # A drain, and progress_deadline.
    assert result.seconds < 30 + 600 + 100


class AnswerLost(SimulatedTarget):
    """The first activation of the old release begins, and nobody hears of it."""

    async def activate(self, order, release_id):
        if release_id == OLD:
            self.at.faults.setdefault("activate", (Fault.LATE, 1))
        return await super().activate(order, release_id)


def test_a_way_back_whose_beginning_was_not_heard_of_is_begun_again_and_not_twice_at_once():
    hosts = healthy(2)
    hosts[0].sick = {NEW: 40}
    _, states, _ = move(hosts, kind=AnswerLost)
    assert states == ["REVERTED", "VERIFIED"]
    assert (hosts[0].live, hosts[0].faults, hosts[0].problems) == (OLD, {"activate": (Fault.LATE, 0)}, [])


def test_a_canary_on_its_first_release_has_nothing_to_go_back_to_and_says_so():
    hosts = healthy(2, committed=None)
    hosts[0].sick = {NEW: 40}
    result, states, _ = move(hosts)
    assert states == ["REVERT_FAILED", "VERIFIED"]
    assert "no earlier release" in result.targets[0].error


@pytest.mark.parametrize(
    ("owner", "live", "age", "left"),
    [("r-1", 86400, 10, [50]), ("r-1", 20, 30, [40]), ("r-0", 86400, 10, []), ("r-1", 86400, 60, [])],
    ids=["put forward", "right", "switched by another rollout", "old enough"],
)
def test_a_bake_that_goes_on_is_not_cut_short_by_a_host_s_clock_that_was_put_forward(owner, live, age, left):
    hosts = healthy(2)
    hosts[0].live = hosts[0].committed = NEW
    hosts[0].previous, hosts[0].owner, hosts[0].since = OLD, owner, -live
    hosts[0].releases.add(NEW)
    result, states, journal = move(hosts, age=age)
    assert (str(result.state), states) == ("SUCCEEDED", ["ALREADY_CURRENT", "SUCCEEDED"])
    baked = [float(entry.detail.removesuffix(" s")) for entry in journal if entry.state == "BAKING"]
    # What a preflight takes counts as well.
    assert baked == pytest.approx(left, abs=2)


def test_lost_probes_in_a_bake_are_noise_and_three_in_a_row_are_not():
    result, _, _ = move(healthy(2), Blinking(30, 31, 33, 34))
    assert str(result.state) == "SUCCEEDED"
    result, _, _ = move(healthy(2), Blinking(30, 31, 32))
    assert str(result.state) == "PAUSED"


def test_the_canary_bakes_before_the_second_wave():
    _, _, journal = move(healthy(2), bake_time=timedelta(minutes=30))
    assert journal.seconds("edge-1", "ACTIVATING") - journal.seconds("edge-0", "SUCCEEDED") >= 1800


def test_a_retry_bakes_only_what_is_left():
    """An earlier try switched the canary an hour ago (the simulated hosts' word)."""
    hosts = healthy(2)
    hosts[0].live = hosts[0].committed = NEW
    hosts[0].releases.add(NEW)
    _, states, journal = move(hosts, bake_time=timedelta(minutes=90))
    assert states == ["ALREADY_CURRENT", "SUCCEEDED"]
    assert 1800 <= journal.seconds("edge-1", "ACTIVATING") < 1950


def test_a_release_that_is_live_but_was_never_committed_is_not_taken_as_done():
    hosts = healthy(1)
    hosts[0].live = NEW
    _, states, _ = move(hosts)
    assert states == ["SUCCEEDED"]
    assert hosts[0].committed == NEW


def test_a_breach_with_rollback_takes_the_fleet_back():
    hosts = healthy(4)
    hosts[2].sick = {NEW: 0}
    result, states, _ = move(hosts, on_breach=OnBreach.ROLLBACK, waves=(1,))
    assert (str(result.state), states) == ("ROLLED_BACK", ["REVERTED", "REVERTED", "REVERTED", "VERIFIED"])
    assert [host.live for host in hosts] == [OLD] * 4


def test_a_breach_in_a_retry_also_takes_back_what_an_earlier_try_switched():
    hosts = healthy(3)
    hosts[2].sick = {NEW: 0}
    move(hosts, ask="abort", at=("edge-1", "PROBING"))
    assert hosts[0].live == NEW
    result, states, _ = move(hosts, age=600, on_breach=OnBreach.ROLLBACK)
    assert (str(result.state), states) == ("ROLLED_BACK", ["REVERTED"] * 3)
    assert [host.live for host in hosts] == [OLD] * 3


def test_a_rollback_that_fails_is_not_rolled_back():
    """Swarm's rule: there is no third release to try."""
    hosts = healthy(2)
    hosts[0].sick, hosts[1].sick = {OLD: 0}, {NEW: 0}
    result, states, _ = move(hosts, on_breach=OnBreach.ROLLBACK)
    assert (str(result.state), states) == ("ROLLBACK_PAUSED", ["REVERT_FAILED", "REVERTED"])
    assert hosts[0].live == NEW
    assert "the release before is no better: probing did not end" in result.targets[0].error


def test_a_failed_transfer_changes_nothing_anywhere():
    hosts = fleet({}, {}, {"stage": Fault.FAILS})
    result, _, _ = move(hosts)
    assert str(result.state) == "FAILED"
    assert [host.live for host in hosts] == [OLD] * 3
    with pytest.raises(Exception, match=r"(?s)nothing was switched.*edge-2: FAILED_NO_CHANGE: stage fails"):
        result.raise_unless_succeeded()


def test_a_cut_transfer_goes_on_as_often_as_the_policy_says():
    hosts = healthy(1)
    hosts[0].faults = {"stage": (Fault.UNREACHABLE, 3)}
    assert move(hosts, transfer_retries=3)[1] == ["SUCCEEDED"]
    hosts = healthy(1)
    hosts[0].faults = {"stage": (Fault.UNREACHABLE, 3)}
    assert move(hosts, transfer_retries=2)[1] == ["UNREACHABLE"]


def test_a_transfer_may_take_longer_than_the_progress_deadline_as_long_as_bytes_arrive():
    class Slow(SimulatedTarget):
        async def stage(self, order, progress):
            for _ in range(10):
                await asyncio.sleep(500)
                progress(1)
            return await super().stage(order, progress)

    result, states, _ = move(healthy(1), kind=Slow)
    assert states == ["SUCCEEDED"]
    assert result.seconds > 5000


def test_an_abort_begins_nothing_more_and_takes_back_what_is_being_switched():
    hosts = healthy(3)
    result, states, _ = move(hosts, ask="abort", at=("edge-0", "PROBING"))
    assert str(result.state) == "ABORTED"
    assert states == ["REVERTED", "VERIFIED", "VERIFIED"]
    assert [host.live for host in hosts] == [OLD] * 3


def test_a_pause_lets_what_is_being_switched_come_to_its_end():
    hosts = healthy(3)
    result, states, _ = move(hosts, ask="pause", at=("edge-0", "PROBING"))
    assert (str(result.state), states) == ("PAUSED", ["SUCCEEDED", "VERIFIED", "VERIFIED"])


def test_a_host_that_is_in_the_fleet_under_two_names_is_found_before_anything_is_sent():
    hosts = healthy(3)
    result, states, journal = move([hosts[0], hosts[1]], twice=hosts[:1], max_failures=3)
    assert (str(result.state), states) == ("FAILED", ["FAILED_NO_CHANGE", "READY", "FAILED_NO_CHANGE"])
    assert "edge-0 and edge-0-by-another-name are one place" in result.targets[0].error
    assert result.targets[0].error == result.targets[2].error == result.detail
    assert journal.targets_in("STAGING") == []
    assert not result.retryable
    assert [host.holder for host in hosts] == [None] * 3
    back, states, _ = go_back(healthy(1, previous=OLD), twice=True)
    assert (str(back.state), states) == ("FAILED", ["FAILED_NO_CHANGE"] * 2)


def test_a_retry_takes_over_the_leases_of_a_dead_worker_and_takes_no_host_for_another():
    hosts = healthy(2)
    for host in hosts:
        host.lease, host.epoch = ("r-1", 7, 10**9), 7
    result, _, _ = move(hosts, age=60)
    assert str(result.state) == "SUCCEEDED"


def test_a_host_that_stays_locked_past_the_wait_leaves_no_other_behind_unasked():
    """The rest was let go of while it was waited for, and a budget that bears one failure goes on with all of it."""
    hosts = healthy(3)
    hosts[1].lease = ("another", 1, 10**9)
    result, states, _ = move(
        hosts, max_failures=1, lock_wait=timedelta(seconds=40), lock_poll=timedelta(seconds=9)
    )
    assert (str(result.state), states) == ("SUCCEEDED", ["SUCCEEDED", "LOCKED", "SUCCEEDED"])


def test_max_unavailable_bounds_the_switches_at_once():
    hosts = healthy(8)
    probe = Counting(hosts)
    result, _, _ = move(hosts, probe, waves=("100%",), max_unavailable=3)
    assert str(result.state) == "SUCCEEDED"
    assert probe.most == 3


def test_two_of_one_rack_are_never_down_together_whatever_max_unavailable_says():
    hosts = healthy(6)
    for number, host in enumerate(hosts):
        host.group = f"rack-{number % 2}"
    probe = Counting(hosts)
    result, _, _ = move(hosts, probe, waves=("100%",), max_unavailable="100%")
    assert str(result.state) == "SUCCEEDED"
    assert probe.most == 2


def test_a_pinned_host_is_left_where_it_is_and_the_fleet_moves_on():
    hosts = healthy(3)
    hosts[1].pinned = OLD
    result, states, _ = move(hosts)
    assert (str(result.state), states) == ("SUCCEEDED", ["SUCCEEDED", "PINNED", "SUCCEEDED"])
    assert hosts[1].live == OLD


class PinnedMeanwhile(SimulatedTarget):
    """Somebody pins the second host after it was found free."""

    async def stage(self, order, progress):
        if self.name == "edge-1":
            self.at.pinned = OLD
        return await super().stage(order, progress)


def test_a_host_that_is_pinned_while_the_rollout_runs_refuses_the_switch():
    hosts = healthy(3)
    result, states, _ = move(hosts, kind=PinnedMeanwhile, max_failures=1, bake_time=timedelta(0))
    assert (str(result.state), states) == ("SUCCEEDED", ["SUCCEEDED", "REVERTED", "SUCCEEDED"])
    assert "pinned to release r2-old" in result.targets[1].error
    assert (hosts[1].live, hosts[1].history) == (OLD, [])


def test_no_other_of_a_rack_is_switched_where_one_could_not_be_taken_back():
    hosts = fleet({"activate": Fault.LATE, "revert": Fault.FAILS}, {}, {}, {})
    for number, host in enumerate(hosts):
        host.group = f"rack-{number % 2}"
    result, states, _ = move(hosts, waves=(1,), max_failures=1, max_unavailable="100%")
    assert (str(result.state), states) == ("PAUSED", ["REVERT_FAILED", "SUCCEEDED", "VERIFIED", "VERIFIED"])
    assert "edge-2" in result.detail
