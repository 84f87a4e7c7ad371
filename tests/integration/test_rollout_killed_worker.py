"""A worker is killed (-9) in the middle of a switch; the hosts must end on one whole, proven release."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

import pytest

from hybrid_provider.targets.target import Placement
from tests.integration.posixtargets import order_of
from tests.integration.sshhosts import sshd
from tests.integration.test_rollout import FAST, deploy
from tests.releases import make_release

ROOT = Path(__file__).parents[2]


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


def killed_at(state, release, hosts, rollout_id, **policy):
    """Deploy in a process of its own, and kill it as ``who: state`` is entered."""
    order = {
        "release_id": release.release_id,
        "manifest": release.manifest.text(),
        "path": str(release.path),
        "rollout": rollout_id,
        "policy": {**FAST, **policy},
        "hosts": [
            {
                "name": host.name,
                "port": host.port,
                "host_key": host.host_key,
                "key_file": str(host.key_file),
                "placement": asdict(host.placement) | {"drain_command": "sleep 0.2"},
            }
            for host in hosts
        ],
    }
    command = [sys.executable, "-m", "tests.integration.deploying_worker", json.dumps(order)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as worker:
        for line in worker.stdout:
            if f"  {state}" in line:
                worker.kill()
                return
    raise AssertionError(f"the worker never came to {state}")


def wait_for_the_activation(host):
    """Until the detached script has let go of the model's lock, which it holds from its start to its end."""
    subprocess.run(["flock", host.model, "true"], check=True)


@pytest.mark.parametrize(
    "state",
    [
        "edge-1: PREFLIGHT",
        "edge-2: STAGING",
        "edge-1: VERIFIED",
        "rollout: CANARY",
        "edge-0: DRAINING",
        "edge-0: ACTIVATING",
        "edge-2: SOAKING",
        "rollout: BAKING",
        "rollout: WAVE",
        "edge-1: PROBING",
        "edge-2: SUCCEEDED",
    ],
)
async def test_the_retry_of_a_killed_deploy_continues_and_leaves_nothing_behind(hosts, first, second, state):
    """Two hosts of the second wave are under way at once when their worker dies."""
    apace = {"max_unavailable": "100%", "waves": [1, "100%"]}
    await deploy(first, hosts, "r-1", waves=["100%"], max_unavailable="100%")
    # Far from its own deadline: what the dead worker began is undone because the retry asks for it.
    killed_at(
        state,
        second,
        hosts,
        "r-2",
        healthy_deadline=200,
        progress_deadline=300,
        min_healthy_time=0.3,
        **apace,
    )
    result = await deploy(second, hosts, "r-2", **apace)
    assert str(result.state) == "SUCCEEDED", result.reasons()
    for host in hosts:
        assert host.current == second.release_id
        assert host.leftovers() == []
        assert host.lock_is_free()
        assert json.loads((host.model / "state.json").read_text())["previous"] == first.release_id


async def test_without_a_retry_the_host_goes_back_by_itself_at_its_deadline(host, first, second):
    await deploy(first, [host], "r-1")
    killed_at("edge-0: PROBING", second, [host], "r-2", healthy_deadline=6, min_healthy_time=3)
    wait_for_the_activation(host)
    assert host.current == first.release_id
    assert json.loads((host.model / "state.json").read_text())["release_id"] == first.release_id


async def test_another_deploy_waits_for_its_turn(host, first, second):
    await deploy(first, [host], "r-1")
    killed_at(
        "edge-0: SOAKING",
        second,
        [host],
        "r-2",
        healthy_deadline=200,
        progress_deadline=300,
        min_healthy_time=1,
    )
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
