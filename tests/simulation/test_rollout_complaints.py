"""What users of other systems complain of, each as one rollout that does better; their issues are named."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from hybrid_provider.exceptions import ConfigurationError
from hybrid_provider.rollout.engine import Rollout
from hybrid_provider.rollout.policy import OnUnreachable, RolloutPolicy
from tests.simulation.hosts import STEPS, Fault, SimulatedProbe, SimulatedTarget
from tests.simulation.stories import Counting, Journal, Silent, fleet, go_back, healthy, move
from tests.simulation.virtual_time import run_in_virtual_time
from tests.simulation.world import NEW, NEWER, OLD, OLDER, RELEASES


def test_no_success_while_the_old_bits_run():
    """hawkbit#3185: a host says that it has switched, or that it has the release, and another one answers."""
    for lie in ("activate", "preflight"):
        hosts = fleet({}, {lie: Fault.LIES})
        result, states, _ = move(hosts)
        assert states[1] != "SUCCEEDED" or hosts[1].live == NEW, lie
        assert states[1] != "ALREADY_CURRENT", lie
        assert (str(result.state) == "SUCCEEDED") == (hosts[1].live == NEW), lie


def test_the_fleets_success_hides_no_hosts_failure():
    """aws-cli#6185."""
    result, states, _ = move(fleet({}, {"stage": Fault.FAILS}, {}), max_failures=1)
    assert (str(result.state), states) == ("SUCCEEDED", ["SUCCEEDED", "FAILED_NO_CHANGE", "SUCCEEDED"])
    assert result.failures == 1
    assert "edge-1: FAILED_NO_CHANGE: stage fails" in result.reasons()


@pytest.mark.parametrize("step", STEPS)
def test_nothing_is_stuck_for_ever(step):
    """greengrass#807, hawkbit#693, argo#4128, nomad#10465: a host that hangs in any step meets a deadline."""
    faults = {step: Fault.HANGS} | ({"commit": Fault.FAILS} if step == "revert" else {})
    result, _, _ = move(fleet(faults, {}), age=1)
    assert result.seconds < 2500
    # After a commit whose answer never came, the host is found to have kept the release.
    assert step in {"finish", "inspect", "commit"} or result.failures == 1


@pytest.mark.parametrize("number", [1, 30], ids=["at the switch", "in the bake"])
def test_a_probe_that_never_answers_meets_a_timeout_of_its_own(number):
    """argo#4128 again, and airflow#16364: it says which one."""
    result, states, _ = move(healthy(2), Silent(number))
    assert states == ["REVERTED", "VERIFIED"]
    assert result.seconds < 600
    assert "no answer within 5 s (probe_timeout)" in result.targets[0].error


def test_a_host_that_never_says_whose_its_release_is_stops_nobody_for_ever():
    hosts = fleet({"inspect": Fault.HANGS}, {})
    hosts[0].live = hosts[0].committed = NEWER
    hosts[0].since = 0
    result, _, _ = move(hosts, age=6000)
    assert str(result.state) == "SUPERSEDED"
    assert result.seconds < 700


@pytest.mark.parametrize("ask", ["pause", "abort", "supersede", "roll_back"])
@pytest.mark.parametrize("state", ["STAGING", "PROBING", "SUCCEEDED"])
def test_no_lock_is_left_by_whoever_ends_a_rollout(ask, state):
    """deployer#3335: a stale lock after a cancel."""
    hosts = healthy(3)
    move(hosts, ask=ask, at=("edge-0", state))
    assert [host.holder for host in hosts] == [None] * 3


@pytest.mark.parametrize("state", ["STAGING", "PROBING", "SUCCEEDED"])
def test_a_run_that_is_cancelled_ends_only_when_all_is_given_back(state):
    """deployer#3335 once more: as Ctrl-C cancels it."""
    hosts, journal = healthy(3), Journal("cancel", ("edge-0", state))

    async def cancelled():
        targets = [SimulatedTarget(host) for host in hosts]
        moving = Rollout(
            RELEASES[NEW], targets, SimulatedProbe(), RolloutPolicy(), rollout_id="r-1", journal=journal
        )
        journal.rollout = asyncio.create_task(moving.run())
        with pytest.raises(asyncio.CancelledError):
            await journal.rollout
        return moving.result(), [(host.holder, host.settled()) for host in hosts]

    result, left = run_in_virtual_time(cancelled())
    assert (str(result.state), left) == ("ABORTED", [(None, True)] * 3)


def test_the_lock_of_a_dead_worker_ends_by_itself():
    """deployer#3335 again: nobody has to remove it by hand."""
    hosts = healthy(2)
    for host in hosts:
        host.lease = ("r-dead", 1, 600.0)
    result, states, _ = move(hosts)
    assert states == ["SUCCEEDED"] * 2
    assert 600 < result.seconds < 1200


def test_a_health_check_that_could_never_pass_is_refused_beforehand():
    """swarmcli#475: the monitor is shorter than the health check."""
    with pytest.raises(ConfigurationError, match="no probe could ever pass"):
        RolloutPolicy(healthy_deadline=timedelta(seconds=10), min_healthy_time=timedelta(seconds=10))


def test_failures_count_over_all_waves():
    """ansible#33672: a threshold that begins anew with each batch."""
    hosts = healthy(6)
    hosts[1].sick = hosts[3].sick = {NEW: 0}
    result, states, _ = move(hosts, waves=(1,), max_failures=1)
    assert str(result.state) == "PAUSED"
    assert states == ["SUCCEEDED", "REVERTED", "SUCCEEDED", "REVERTED", "VERIFIED", "VERIFIED"]


def test_as_many_failures_as_may_be_are_no_breach_and_one_more_is():
    """ansible#33672: whether the threshold itself is allowed."""
    for failing, end in ((1, "SUCCEEDED"), (2, "PAUSED")):
        hosts = healthy(4)
        for host in hosts[1 : 1 + failing]:
            host.sick = {NEW: 0}
        result, _, _ = move(hosts, waves=(1,), max_failures=1)
        assert str(result.state) == end, failing


def test_an_unreachable_host_is_a_failure_unless_the_policy_says_otherwise():
    """ansible#56265."""
    result, states, _ = move(fleet({}, {"preflight": Fault.UNREACHABLE}))
    assert (str(result.state), states) == ("FAILED", ["READY", "UNREACHABLE"])
    assert result.retryable
    hosts = fleet({}, {"preflight": Fault.UNREACHABLE})
    result, states, _ = move(hosts, unreachable=OnUnreachable.SKIP)
    assert (str(result.state), states) == ("SUCCEEDED", ["SUCCEEDED", "SKIPPED"])


def test_a_retry_does_not_start_over():
    """argo#3120: what is done is recognised, and neither brought nor switched again."""
    hosts = healthy(4)
    move(hosts, ask="abort", at=("edge-2", "PROBING"), waves=(1,))
    before = [list(host.history) for host in hosts]
    result, states, journal = move(hosts, age=600, waves=(1,))
    assert str(result.state) == "SUCCEEDED"
    assert states == ["ALREADY_CURRENT", "ALREADY_CURRENT", "SUCCEEDED", "SUCCEEDED"]
    assert [host.history for host in hosts[:2]] == before[:2]
    for state in ("STAGING", "ACTIVATING"):
        assert set(journal.targets_in(state)) == {"edge-2", "edge-3"}


def test_a_rollback_wants_no_version_each_host_knows_its_own():
    """kamal#1677."""
    hosts = healthy(3, previous=OLDER)
    move(hosts[:2])
    result, states, _ = go_back(hosts)
    assert (str(result.state), states) == ("ROLLED_BACK", ["SUCCEEDED"] * 3)
    assert [host.live for host in hosts] == [OLD, OLD, OLDER]


def test_a_rollback_takes_no_more_down_than_a_rollout():
    """nomad#3836 and nomad#14200: it kills healthy instances. nomad#10882: it waits for no canary."""
    hosts = healthy(8, previous=OLDER)
    probe = Counting(hosts)
    result, _, journal = go_back(hosts, probe, max_unavailable=2)
    assert str(result.state) == "ROLLED_BACK"
    assert probe.most == 2
    assert "BAKING" not in {str(entry.state) for entry in journal}


def test_a_rollback_to_what_is_no_better_stops_at_the_first_host():
    """nomad#3836: the others serve, and each would be down until it is back."""
    hosts = healthy(3, previous=OLDER)
    for host in hosts:
        host.sick = {OLDER: 0}
    result, states, _ = go_back(hosts, max_unavailable=1)
    assert (str(result.state), states) == ("ROLLBACK_PAUSED", ["REVERTED", "READY", "READY"])
    assert [host.live for host in hosts] == [OLD] * 3


def test_a_deadline_that_passes_has_consequences_and_says_which_it_was():
    """argo#1376: it is reported and nothing done. airflow#16364: one word for all timeouts."""
    hosts = healthy(2)
    hosts[0].sick = {NEW: 0}
    result, states, _ = move(hosts)
    assert (str(result.state), states) == ("PAUSED", ["REVERTED", "VERIFIED"])
    assert [host.live for host in hosts] == [OLD] * 2
    assert "did not end within 300 s (healthy_deadline); last probe: HTTP 500" in result.targets[0].error


@pytest.mark.parametrize(
    ("step", "setting"),
    [
        ("preflight", "progress"),
        ("stage", "progress"),
        ("drain", "drain + progress"),
        ("activate", "healthy"),
    ],
)
def test_each_timeout_is_called_by_its_setting(step, setting):
    """airflow#16364."""
    result, _, _ = move(fleet({step: Fault.HANGS}))
    assert f"({setting}_deadline)" in result.targets[0].error


def test_a_newer_rollout_supersedes_one_that_is_paused():
    hosts = healthy(3)
    move(hosts, ask="pause", at=("edge-0", "PROBING"))
    result, _, _ = move(hosts, to=NEWER, rollout_id="r-2")
    assert str(result.state) == "SUCCEEDED"
    result, _, _ = move(hosts, age=6000)
    assert str(result.state) == "SUPERSEDED"
    assert [host.live for host in hosts] == [NEWER] * 3


def test_a_host_that_another_rollout_took_over_is_left_to_it():
    """Two DAG runs never interleave: the older one's word counts no more, and it says so."""

    class Taken(SimulatedTarget):
        async def commit(self, order):
            self.at.undo()
            self.at.epoch += 1
            self.at.lease = ("r-2", self.at.epoch, 1e6)
            await asyncio.sleep(0)
            await super().commit(order)

    hosts = healthy(2)
    result, states, _ = move(hosts, kind=Taken)
    assert (str(result.state), states) == ("SUPERSEDED", ["LOCKED", "VERIFIED"])
    assert [host.live for host in hosts] == [OLD] * 2
    assert hosts[0].holder == "r-2"
