"""Whole rollouts to real SSH hosts with a service on each."""

from __future__ import annotations

import json
import os
from contextlib import ExitStack
from dataclasses import replace
from datetime import timedelta

import pytest

from hybrid_provider.rollout.engine import Rollout
from hybrid_provider.rollout.policy import RolloutPolicy
from hybrid_provider.rollout.probe import HttpProbe
from hybrid_provider.targets.local import LocalTarget
from hybrid_provider.targets.target import Placement
from tests.integration.sshhosts import sshd
from tests.releases import make_release

FAST = {
    "bake_time": 0.3,
    "min_healthy_time": 0.2,
    "healthy_deadline": 20,
    "progress_deadline": 30,
    "probe_interval": 0.05,
    "probe_timeout": 2,
}
WEIGHTS = os.urandom(300_000)


def rollout(release, hosts, rollout_id="r-1", journal=None, age=timedelta(0), **settings):
    return Rollout(
        release,
        [host.target.open(Placement()) for host in hosts],
        HttpProbe(),
        RolloutPolicy.of({**FAST, **settings}),
        rollout_id=rollout_id,
        journal=journal,
        age=age,
    )


async def deploy(release, hosts, rollout_id="r-1", **settings):
    return await rollout(release, hosts, rollout_id, **settings).run()


def states(result):
    return [str(target.state) for target in result.targets]


@pytest.fixture
def hosts(tmp_path):
    with ExitStack() as stack:
        yield [stack.enter_context(sshd(tmp_path / f"edge-{n}", f"edge-{n}")) for n in range(3)]


@pytest.fixture
def first(tmp_path):
    return make_release(tmp_path / "store", {"model.onnx": WEIGHTS, "code/labels.txt": b"0 1 2"}, minute=0)


@pytest.fixture
def second(tmp_path):
    return make_release(tmp_path / "store", {"model.onnx": WEIGHTS, "code/labels.txt": b"0 1 2 3"}, minute=1)


@pytest.fixture
def broken(tmp_path):
    return make_release(tmp_path / "store", {"model.onnx": WEIGHTS, "broken": b"1"}, minute=2)


async def test_a_fleet_moves_to_its_first_release_and_then_to_the_next(hosts, first, second):
    result = await deploy(first, hosts)
    assert (str(result.state), states(result)) == ("SUCCEEDED", ["SUCCEEDED"] * 3), result.reasons()
    assert [target.from_release for target in result.targets] == [None] * 3

    result = await deploy(second, hosts, "r-2")
    assert str(result.state) == "SUCCEEDED", result.reasons()
    for host, target in zip(hosts, result.targets, strict=True):
        assert host.current == second.release_id
        assert target.from_release == first.release_id
        assert (target.bytes_sent, target.bytes_linked) == (7, len(WEIGHTS))
        for file in second.manifest.files:
            assert (host.model / "current" / file.path).read_bytes() == (second.path / file.path).read_bytes()
        state = json.loads((host.model / "state.json").read_text())
        assert (state["release_id"], state["previous"]) == (second.release_id, first.release_id)
        assert state["digest"] == second.digest
        assert host.leftovers() == []
        assert host.lock_is_free()


async def test_a_second_deploy_of_the_same_release_touches_nothing(hosts, first):
    await deploy(first, hosts)
    before = [(host.model / "state.json").stat().st_mtime_ns for host in hosts]
    result = await deploy(first, hosts, "r-2")
    assert states(result) == ["ALREADY_CURRENT"] * 3
    assert sum(target.bytes_sent for target in result.targets) == 0
    assert [(host.model / "state.json").stat().st_mtime_ns for host in hosts] == before


async def test_a_release_that_fails_its_probe_goes_back_on_the_canary_and_reaches_no_other(
    hosts, first, broken
):
    await deploy(first, hosts)
    result = await deploy(broken, hosts, "r-2", healthy_deadline=3)
    assert str(result.state) == "PAUSED"
    assert states(result) == ["REVERTED", "VERIFIED", "VERIFIED"]
    assert "HTTP 500" in result.targets[0].error
    assert [host.current for host in hosts] == [first.release_id] * 3
    assert all(host.lock_is_free() for host in hosts)
    assert (await deploy(first, hosts, "r-3")).state == "SUCCEEDED"


async def test_one_host_under_several_names_is_found_before_a_byte_is_sent(host, first, tmp_path):
    """By its address, by its name and as this machine: of these no address and no key shows that they are one."""
    by_address = replace(host.target, placement=Placement(base_folder=f"{tmp_path}/models"))
    by_name = replace(by_address, name="by-name", address=replace(host.address, host="localhost"))
    local = LocalTarget(placement=by_address.placement)
    elsewhere = replace(by_address, name="other", placement=Placement(base_folder=f"{tmp_path}/others"))
    for specs, places in (
        ((by_address, by_name, elsewhere), "by-name and edge"),
        ((by_address, by_name, local), "by-name and edge and localhost"),
    ):
        opened = [spec.open(Placement()) for spec in specs]
        policy = RolloutPolicy.of({**FAST, "max_failures": 5})
        result = await Rollout(first, opened, HttpProbe(), policy, rollout_id="r-1").run()
        assert str(result.state) == "FAILED"
        assert f"{places} are one place under several names; name it once" in result.detail
        told = {target.name: target.error or "" for target in result.targets}
        assert [name for name in told if places in told[name]] == [
            spec.name for spec in specs if spec.name in places.split(" and ")
        ]
    assert not (tmp_path / "models/digits").exists()
    assert not (tmp_path / "others/digits").exists()
