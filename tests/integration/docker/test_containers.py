"""The containers that serve a release: as they were asked for, or with the reason why not."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta

import pytest

from hybrid_provider.exceptions import (
    TargetFailed,
    TargetUnreachable,
)
from hybrid_provider.targets.docker import Healthcheck, Layout
from tests.integration.docker.targets import (
    answer,
    behind_a_router,
    deploy,
    listens,
    opened,
    order_of,
    served,
    serving,
)
from tests.releases import make_release

NOW = timedelta(seconds=5)
BY_ID = {"DeviceIDs": ["GPU-1"], "Capabilities": [["gpu"]]}


async def test_a_container_knows_its_release_and_cannot_change_it(target, releases, model):
    await deploy(target, releases[0])
    async with opened(target) as each:
        await each.inspect(model)
        wrote = await each.run("echo x >/opt/ml/model/answer", NOW)
        assert (wrote.exit_code, "Read-only" in wrote.stderr) == (1, True)
        told = await each.run("echo $HYBRID_MODEL $HYBRID_RELEASE_ID $HYBRID_DIGEST; exit 3", NOW)
        assert told.stdout.split() == [model, releases[0].release_id, releases[0].digest]
        assert told.exit_code == 3
        with pytest.raises(TargetUnreachable, match="did not end within"):
            await each.run("sleep 1000", timedelta(seconds=0.3))


async def test_nothing_of_a_first_release_that_fails_is_left(target, tmp_path, model, docker):
    release = make_release(tmp_path / "store", {"crash": b"1"}, model=model)
    for each_target in (target, behind_a_router(target)):
        order = order_of(release)
        async with opened(each_target) as each:
            await each.preflight(order)
            await each.stage(order, lambda _: None)
            # Its container runs for a moment, as every one does.
            with pytest.raises(TargetFailed):  # noqa: PT012
                await each.activate(order, release.release_id)
                await asyncio.sleep(1)
                await each.commit(order)
            assert await each.revert(order)
            await each.finish(order)
        assert docker.names("container", model) == []
        assert [name.split("..")[2] for name in docker.names("volume", model)] == ["proof", "release"]


async def test_a_container_that_ends_says_what_it_wrote(target, releases, tmp_path, model):
    await deploy(target, releases[0])
    check = Healthcheck(command=("/bin/cat", "/opt/ml/model/ready"))
    bad = make_release(tmp_path / "store", {"crash": b"1"}, 7, model)
    order = order_of(bad, "r-2")
    async with opened(serving(target, healthcheck=check)) as each:
        await each.preflight(order)
        await each.stage(order, lambda _: None)
        with pytest.raises(TargetFailed, match="ended with exit code 1: the model cannot be loaded"):
            await each.activate(order, bad.release_id)
        assert await served(target) == releases[0].release_id
        assert await each.revert(order)
        await each.finish(order)


async def test_a_container_that_docker_calls_unhealthy_gives_way_to_the_one_before(target, releases, docker):
    await deploy(target, releases[0])
    check = Healthcheck(
        command=("/bin/cat", "/no/such"),
        interval=timedelta(seconds=0.1),
        retries=1,
        start_period=timedelta(0),
    )
    order = order_of(releases[1], "r-2")
    async with opened(serving(target, healthcheck=check)) as each:
        await each.preflight(order)
        await each.stage(order, lambda _: None)
        with pytest.raises(TargetFailed, match=r"unhealthy: exit code 1: cat: .*/no/such"):
            await each.activate(order, releases[1].release_id)
        await each.finish(order)
    assert await served(target) == releases[0].release_id
    assert len(docker.names("container", releases[0].model)) == 1


async def test_a_router_that_somebody_removed_is_there_again_after_a_preflight(target, releases, docker):
    target = behind_a_router(target)
    await deploy(target, releases[0])
    docker.engine.docker("rm", "--force", f"hybrid..{releases[0].model}..router")
    assert not listens(target)
    order = order_of(releases[0], "r-2")
    async with opened(target) as each:
        await each.preflight(order)
        await each.finish(order)
    assert await served(target) == releases[0].release_id


@pytest.mark.parametrize(
    ("layout", "folder"),
    [(Layout.TENSORFLOW_SERVING, "/models/{model}/20261123180000"), (Layout.PLAIN, "/model")],
)
async def test_each_layout_finds_the_model_where_its_servers_look(target, releases, model, layout, folder):
    env = {"MODEL_FOLDER": folder.format(model=model), "PORT": "8501"}
    target = serving(behind_a_router(target), layout=layout, env=env, container_port=8501)
    await deploy(target, releases[0])
    asked = await answer(target, "POST", b"0")
    assert (asked.text, asked.headers["X-Release-Id"]) == ("0", releases[0].release_id)


async def test_a_container_is_made_as_it_is_asked_for(target, releases, docker, model):
    docker.engine.docker("network", "create", f"net-{model}")
    asked = serving(
        target,
        user="65534:65534",
        labels={"team": "vision"},
        networks=(f"net-{model}",),
        memory_bytes=2**27,
        cpus=0.5,
        shm_bytes=2**20,
        host_config={"CapDrop": ["ALL"], "ReadonlyRootfs": True},
    )
    try:
        await deploy(asked, releases[0])
        name = docker.names("container", model)[0]
        made = json.loads(docker.engine.docker("inspect", name))[0]
        host = made["HostConfig"]
        assert (host["Memory"], host["NanoCpus"], host["ShmSize"]) == (2**27, 5 * 10**8, 2**20)
        assert (host["CapDrop"], host["ReadonlyRootfs"]) == (["ALL"], True)
        assert host["RestartPolicy"]["Name"] == "unless-stopped"
        assert (made["Config"]["User"], made["Config"]["Labels"]["team"]) == ("65534:65534", "vision")
        assert list(made["NetworkSettings"]["Networks"]) == [f"net-{model}"]
        assert await served(target) == releases[0].release_id
    finally:
        docker.clear(model)
        docker.engine.docker("network", "rm", f"net-{model}")


@pytest.mark.parametrize("asked", [{"gpus": -1}, {"host_config": {"DeviceRequests": [BY_ID]}}])
async def test_gpus_reach_the_engine_and_where_it_has_none_the_release_before_goes_on_serving(
    target, releases, asked
):
    await deploy(target, releases[0])
    order = order_of(releases[1], "r-2")
    async with opened(serving(target, **asked)) as each:
        await each.preflight(order)
        await each.stage(order, lambda _: None)
        with pytest.raises(TargetFailed, match=r"device driver.*\[\[gpu\]\]; install .* container toolkit"):
            await each.activate(order, releases[1].release_id)
        assert await served(target) == releases[0].release_id
        assert await each.revert(order)
        await each.finish(order)
    assert await served(target) == releases[0].release_id
