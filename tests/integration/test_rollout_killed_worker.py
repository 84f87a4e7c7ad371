"""A worker is killed (-9) in the middle of a switch; the hosts must end on one whole, proven release."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
from contextlib import ExitStack
from dataclasses import replace
from datetime import timedelta

import pytest

from hybrid_provider.rollout.states import RolloutState, TargetState
from hybrid_provider.targets.target import Placement
from tests.integration.deploying_worker import killed_at
from tests.integration.posixtargets import order_of
from tests.integration.sshhosts import sshd
from tests.integration.test_rollout import FAST, deploy, rollout
from tests.releases import make_release

AT_ONCE = {"min_healthy_time": 0, "bake_time": 0}


@pytest.fixture
def host(hosts):
    return hosts[0]


@pytest.fixture(scope="module")
def hosts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fleet")
    with ExitStack() as stack:
        yield [stack.enter_context(sshd(folder / f"edge-{n}", f"edge-{n}")) for n in range(3)]


@pytest.fixture(autouse=True)
def nothing_is_there(hosts):
    """A test begins with hosts that have had no release."""
    yield
    for host in hosts:
        host.model.mkdir(exist_ok=True)
        wait_for_the_activation(host)
        for left in host.model.iterdir():
            left.unlink() if left.is_symlink() or left.is_file() else shutil.rmtree(left)


@pytest.fixture
def first(tmp_path):
    return make_release(tmp_path / "store", {"model.onnx": b"one" * 1000}, minute=0)


@pytest.fixture
def second(tmp_path):
    return make_release(tmp_path / "store", {"model.onnx": b"two" * 1000}, minute=1)


def killed(entry, release, hosts, rollout_id, **policy):
    """Deploy in a process of its own, and kill it as ``who: state`` is entered."""
    specs = [
        replace(host.target, placement=replace(host.placement, drain_command="sleep 0.2")) for host in hosts
    ]
    killed_at(entry, release, specs, rollout_id, {**FAST, **policy})


def wait_for_the_activation(host):
    """Until the detached script has let go of the model's lock, which it holds from its start to its end."""
    subprocess.run(["flock", "--wait", "60", host.model, "true"], check=True)


# What a deploy enters, as of one canary and two hosts that are switched at once after it.
TRANSITIONS = (
    *("rollout: PREFLIGHT", "edge-1: PREFLIGHT", "edge-1: READY"),
    *("rollout: STAGING", "edge-2: STAGING", "edge-1: VERIFIED"),
    *("rollout: CANARY", "edge-0: DRAINING", "edge-0: ACTIVATING", "edge-0: PROBING", "edge-0: SOAKING"),
    *("edge-0: SUCCEEDED", "rollout: BAKING"),
    *("rollout: WAVE", "edge-1: DRAINING", "edge-2: ACTIVATING", "edge-1: PROBING", "edge-2: SOAKING"),
    *("edge-2: SUCCEEDED", "rollout: SUCCEEDED"),
)
# What it enters where a host of the wave does not answer.
UNDONE = {
    "edge-1: REVERTING": {},
    "edge-1: REVERTED": {},
    "rollout: PAUSED": {},
    "rollout: ROLLING_BACK": {"on_breach": "rollback"},
    "rollout: ROLLED_BACK": {"on_breach": "rollback"},
}
# Of a target that is left alone, or that is lost (test_rollout_dying_hosts); and ends that somebody outside asks for,
# or in which nothing was switched.
NOT_A_DEPLOYS = {
    *("PENDING", "PINNED", "SKIPPED", "UNREACHABLE", "FAILED_NO_CHANGE", "REVERT_FAILED"),
    *("FAILED", "ABORTED", "SUPERSEDED", "ROLLBACK_PAUSED"),
}
APACE = {"max_unavailable": "100%", "waves": [1, "100%"]}
# Far from its own deadline: what the dead worker began is undone because the retry asks for it.
PATIENT = {"healthy_deadline": 200, "progress_deadline": 300, "min_healthy_time": 0.3}


def test_a_worker_is_killed_at_every_state_that_a_deploy_enters():
    entered = {*TRANSITIONS, *UNDONE, "edge-0: ALREADY_CURRENT", "edge-1: LOCKED"}
    states = {entry.partition(": ")[2] for entry in entered}
    assert states == {*map(str, RolloutState), *map(str, TargetState)} - NOT_A_DEPLOYS


async def retried(hosts, first, second):
    """The retry ends well, and leaves nothing behind."""
    result = await rollout(second, hosts, "r-2", age=timedelta(minutes=1), **APACE).run()
    assert str(result.state) == "SUCCEEDED", result.reasons()
    for host in hosts:
        assert host.current == second.release_id
        assert host.leftovers() == []
        assert host.lock_is_free()
        assert json.loads((host.model / "state.json").read_text())["previous"] == first.release_id


async def begun(hosts, first):
    result = await deploy(first, hosts, "r-1", waves=["100%"], max_unavailable="100%", **AT_ONCE)
    assert str(result.state) == "SUCCEEDED", result.reasons()


@pytest.mark.parametrize("entry", TRANSITIONS)
async def test_the_retry_of_a_killed_deploy_continues_and_leaves_nothing_behind(hosts, first, second, entry):
    await begun(hosts, first)
    killed(entry, second, hosts, "r-2", **PATIENT, **APACE)
    await retried(hosts, first, second)


@pytest.mark.parametrize("entry", UNDONE)
async def test_so_does_that_of_one_that_was_going_back(hosts, first, second, entry):
    """A host of the wave does not answer, until the worker is dead."""
    await begun(hosts, first)
    service = hosts[1].processes[0]
    service.send_signal(signal.SIGSTOP)
    try:
        hasty = {"healthy_deadline": 2, "probe_timeout": 0.5, "min_healthy_time": 0.1}
        killed(entry, second, hosts, "r-2", **hasty, **APACE, **UNDONE[entry])
    finally:
        service.send_signal(signal.SIGCONT)
    await retried(hosts, first, second)


async def test_so_does_that_of_one_that_had_found_a_host_done(hosts, first, second):
    await begun(hosts, first)
    killed("rollout: WAVE", second, hosts, "r-2", **PATIENT, **APACE)
    killed("edge-0: ALREADY_CURRENT", second, hosts, "r-2", **PATIENT, **APACE)
    await retried(hosts, first, second)


async def test_so_does_that_of_one_that_had_waited_for_another(hosts, first, second):
    await begun(hosts, first)
    other, order = hosts[1].target.open(Placement()), order_of(second, "r-other")
    await other.preflight(order)
    killed("edge-1: LOCKED", second, hosts, "r-2", **PATIENT, **APACE)
    await other.finish(order)
    await other.close()
    await retried(hosts, first, second)


async def test_without_a_retry_the_host_goes_back_by_itself_at_its_deadline(host, first, second):
    await deploy(first, [host], "r-1")
    killed("edge-0: PROBING", second, [host], "r-2", healthy_deadline=4, min_healthy_time=1)
    wait_for_the_activation(host)
    assert host.current == first.release_id
    assert json.loads((host.model / "state.json").read_text())["release_id"] == first.release_id


async def test_another_deploy_waits_for_its_turn(host, first, second):
    await deploy(first, [host], "r-1")
    killed("edge-0: SOAKING", second, [host], "r-2", **PATIENT)
    result = await deploy(second, [host], "r-3", lock_wait=1, lock_poll=0.2)
    assert [str(target.state) for target in result.targets] == ["LOCKED"]
    assert "rollout r-2" in result.targets[0].error
    assert result.retryable
    await deploy(second, [host], "r-2")


async def test_a_worker_that_was_thought_dead_cannot_act_any_more(host, first, second):
    """The lease is fenced: the slow worker's epoch is over once a retry has taken its place."""
    slow, retry = (host.target.open(Placement()) for _ in range(2))
    order = order_of(second, "r-1")
    await slow.preflight(order)
    await retry.preflight(order)
    try:
        with pytest.raises(Exception, match="superseded"):
            await slow.stage(order, lambda _: None)
        assert host.current is None
    finally:
        await retry.finish(order)
        await slow.close()
        await retry.close()
