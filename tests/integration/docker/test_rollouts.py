"""Rollouts to a real Docker Engine: under load, of a bad release, and by a worker that is killed."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import httpx
import pytest

from hybrid_provider.rollout.engine import Rollout
from hybrid_provider.rollout.policy import RolloutPolicy
from hybrid_provider.rollout.probe import HttpProbe
from hybrid_provider.targets.docker import DockerTarget, Serving, Strategy
from hybrid_provider.targets.target import Placement
from tests.images import ROUTER, SERVER
from tests.integration.deploying_worker import killed_at
from tests.integration.docker.load import load
from tests.integration.docker.targets import deploy, opened, order_of
from tests.integration.test_rollout import FAST
from tests.releases import make_release
from tests.servers import free_port

POLICY = {**FAST, "bake_time": 0.2, "min_healthy_time": 0.1, "drain": 5}
DRAIN = timedelta(seconds=10)


@pytest.fixture(params=list(Strategy))
def target(docker, request):
    port = free_port()
    return DockerTarget(
        name="edge",
        address=docker.address,
        serving=Serving(
            image=SERVER,
            address="127.0.0.1",
            port=port,
            strategy=request.param,
            router_image=ROUTER if request.param is Strategy.BLUE_GREEN else None,
        ),
        placement=Placement(probe_url=f"http://127.0.0.1:{port}/ping"),
    )


async def roll_out(target, release, rollout_id, **settings):
    policy = RolloutPolicy.of({**POLICY, **settings})
    opened_target = target.open(Placement())
    return await Rollout(release, [opened_target], HttpProbe(), policy, rollout_id=rollout_id).run()


def served(target):
    return httpx.get(target.placement.probe_url).headers["X-Release-Id"]


def facts(docker, model):
    """What the engine's volumes are for."""
    return [name.split("..")[2] for name in docker.names("volume", model)]


@pytest.mark.parametrize("target", [Strategy.BLUE_GREEN], indirect=True)
async def test_no_request_fails_while_releases_change_under_load(target, releases):
    """Connections are kept, requests of 5 s are under way at each switch, and no client asks twice."""
    first, second, third = (release.release_id for release in releases[:3])
    await deploy(target, releases[0])
    forth = order_of(releases[1], "r-2", drain=DRAIN)
    bad = order_of(releases[2], "r-3", drain=DRAIN)
    async with load(target.serving.port, quick=4, slow=3, seconds=5) as clients, opened(target) as each:
        await clients.slow_ones(3)
        await each.preflight(forth)
        await each.stage(forth, lambda _: None)
        await each.activate(forth, second)
        await clients.answered_by(second)
        await each.commit(forth)
        await each.finish(forth)
        # The next one is on trial, and goes back.
        await each.preflight(bad)
        await each.stage(bad, lambda _: None)
        await each.activate(bad, third)
        await clients.answered_by(third)
        assert await each.revert(bad)
        await each.finish(bad)
        await clients.answered_by(second)
    assert clients.failed == []
    assert clients.answers.keys() == {first, second, third}
    assert sum(clients.answers.values()) > 100


@pytest.mark.parametrize("target", [Strategy.BLUE_GREEN], indirect=True)
async def test_no_request_reaches_a_container_that_is_not_ready_yet(target, releases, tmp_path, model):
    """It listens at once, and answers 503 until its model is loaded; none of the clients asks twice."""
    first = releases[0].release_id
    slow = make_release(tmp_path / "store", {"answer": b"late", "warm": b"2"}, 9, model)
    await deploy(target, releases[0])
    order = order_of(slow, "r-2", drain=DRAIN)
    async with load(target.serving.port, quick=4, slow=0, seconds=0) as clients, opened(target) as each:
        await clients.answered_by(first)
        await each.preflight(order)
        await each.stage(order, lambda _: None)
        await each.activate(order, slow.release_id)
        await clients.answered_by(slow.release_id)
        await each.commit(order)
        await each.finish(order)
    assert (clients.failed, clients.answers.keys()) == ([], {first, slow.release_id})


async def test_a_bad_release_gives_way_to_the_one_before(target, releases, tmp_path, model, docker):
    for n in (0, 1):
        result = await roll_out(target, releases[n], f"r-{n}")
        assert str(result.state) == "SUCCEEDED", result.reasons()
        assert served(target) == releases[n].release_id
    assert result.targets[0].from_release == releases[0].release_id

    broken = make_release(tmp_path / "store", {"broken": b"1"}, 9, model)
    result = await roll_out(target, broken, "r-9", healthy_deadline=2.5)
    # Behind a router it is found before it gets a request, so nothing had to go back.
    assert str(result.targets[0].state) in {"REVERTED", "FAILED_NO_CHANGE"}
    assert served(target) == releases[1].release_id
    assert not {"lease", "trial"} & {*facts(docker, model)}
    again = await roll_out(target, releases[1], "r-10")
    assert (str(again.state), str(again.targets[0].state)) == ("SUCCEEDED", "ALREADY_CURRENT")


def killed(state, release, target, rollout_id, **settings):
    """Deploy in a process of its own, and kill it as it enters ``state``."""
    patient = {"healthy_deadline": 200, "progress_deadline": 300, "min_healthy_time": 1}
    policy = {**POLICY, **patient, **settings}
    killed_at(f"{target.name}: {state}", release, [target], rollout_id, policy)


@pytest.mark.parametrize(
    ("target", "state"),
    [
        *((Strategy.RECREATE, state) for state in ("STAGING", "ACTIVATING", "PROBING", "SUCCEEDED")),
        *((Strategy.BLUE_GREEN, state) for state in ("ACTIVATING", "PROBING")),
    ],
    indirect=["target"],
)
async def test_the_retry_of_a_killed_deploy_continues_and_leaves_nothing_behind(
    target, releases, model, docker, state
):
    await deploy(target, releases[0])
    killed(state, releases[1], target, "r-2")
    result = await roll_out(target, releases[1], "r-2")
    assert str(result.state) == "SUCCEEDED", result.reasons()
    assert served(target) == releases[1].release_id
    async with opened(target) as each:
        found = await each.inspect(model, rehash=True)
    assert (found.committed, found.previous, found.holder, found.changed) == (
        *(releases[1].release_id, releases[0].release_id),
        *(None, ()),
    )
    assert facts(docker, model) == ["proof", "proof", "record", "release", "release"]
    roles = [name.split("..")[2] for name in docker.names("container", model)]
    assert roles.count("serving") == 2
    assert "loader" not in roles


@pytest.mark.parametrize("target", [Strategy.RECREATE], indirect=True)
async def test_a_dead_worker_s_release_gives_way_at_its_deadline_though_no_retry_comes(
    target, releases, model
):
    await deploy(target, releases[0])
    killed("PROBING", releases[1], target, "r-2", healthy_deadline=4)
    async with opened(target) as each, asyncio.timeout(60):
        while True:
            found = await each.inspect(model)
            if found.holder is None and found.release == releases[0].release_id:
                break
            await asyncio.sleep(0.2)
    assert served(target) == releases[0].release_id
    assert found.committed == releases[0].release_id


@pytest.mark.parametrize("target", [Strategy.BLUE_GREEN], indirect=True)
async def test_the_load_notices_a_container_that_ends_under_its_requests(target, releases, model, docker):
    """What proves that no request fails can see one that does."""
    await deploy(target, releases[0])
    (container,) = [name for name in docker.names("container", model) if "..serving.." in name]
    async with load(target.serving.port, quick=0, slow=2, seconds=5) as clients:
        await clients.slow_ones(2)
        docker.engine.docker("kill", "--signal", "TERM", container)
        await clients.answered_by("nobody, as this returns at the first failure")
    assert clients.failed
