"""A Docker Engine as a target, on a real dockerd."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import socket
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import httpx
import pytest

from hybrid_provider.exceptions import (
    TargetFailed,
    TargetLocked,
    TargetNotReady,
    TargetRefused,
    TargetUnreachable,
)
from hybrid_provider.targets.docker import DockerTarget, EngineAddress, Healthcheck, Layout, Serving, Strategy
from hybrid_provider.targets.target import Order, Placement
from tests.images import ROUTER, SERVER
from tests.integration.sshhosts import make_key, sshd
from tests.releases import make_release
from tests.servers import free_port

NOW = timedelta(seconds=5)
numbers = itertools.count(1)


@pytest.fixture
def model(docker):
    """A model of this test's own; nothing of it is left on the engine."""
    name = f"model-{next(numbers)}"
    yield name
    docker.clear(name)


@pytest.fixture
def target(docker):
    """A target that serves at a port of its own, one container after the other."""
    serving = Serving(image=SERVER, address="127.0.0.1", port=free_port())
    return DockerTarget(name="edge", address=docker.address, serving=serving)


@pytest.fixture
def releases(tmp_path, model):
    """Five releases, each newer than the one before."""
    return [
        make_release(tmp_path / "store", {"answer": b"%d" % minute, "w": os.urandom(9)}, minute, model)
        for minute in range(5)
    ]


def serving(target, **settings):
    """The same target, serving in another way."""
    return replace(target, serving=replace(target.serving, **settings))


def behind_a_router(target):
    return serving(target, strategy=Strategy.BLUE_GREEN, router_image=ROUTER)


def order_of(release, rollout="r-1", *, seconds=20.0, keep=5, **more):
    return Order(
        model=release.model,
        release=release,
        rollout=rollout,
        healthy_deadline=timedelta(seconds=seconds),
        lease=timedelta(seconds=60),
        keep_releases=keep,
        **more,
    )


@asynccontextmanager
async def opened(target):
    each = target.open(Placement())
    try:
        yield each
    finally:
        await each.close()


async def deploy(target, release, rollout="r-1", **more):
    order = order_of(release, rollout, **more)
    async with opened(target) as each:
        await each.preflight(order)
        staged = await each.stage(order, lambda _: None)
        await each.activate(order, release.release_id)
        await each.commit(order)
        await each.finish(order)
    return staged


async def inspect(target, model, **how):
    async with opened(target) as each:
        return await each.inspect(model, **how)


async def answer(target, method="GET", content=None):
    """What the container at the target's port answers, once it listens."""
    async with httpx.AsyncClient() as client, asyncio.timeout(30):
        while True:
            try:
                return await client.request(
                    method, f"http://127.0.0.1:{target.serving.port}/ping", content=content
                )
            except httpx.TransportError:
                await asyncio.sleep(0.05)


def listens(target):
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", target.serving.port)) == 0


async def served(target):
    """The release that answers."""
    return (await answer(target)).headers.get("X-Release-Id")


async def test_bytes_arrive_as_they_are_under_any_name(target, tmp_path, model):
    files = {
        "model.onnx": os.urandom(700_000),
        "a b/ü 'quoted' $(name)": b"odd",
        "-rf": b"dash",
        "x" * 200: b"long",
        "empty": b"",
    }
    release = make_release(tmp_path / "store", files, model=model)
    assert (await deploy(target, release)).bytes_sent == release.manifest.size_bytes
    found = await inspect(target, model, rehash=True)
    assert (found.release, found.digest, found.changed) == (release.release_id, release.digest, ())
    assert (found.releases, found.committed, found.holder) == (
        (release.release_id,),
        release.release_id,
        None,
    )


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


async def test_all_that_is_wrong_with_an_engine_is_in_one_message(target, releases, model, docker):
    docker.engine.docker(
        *("run", "--detach", "--label", f"hybrid.model={model}", "--name", f"squatter-{model}"),
        *("--publish", f"{target.serving.port}:8080", SERVER, "/bin/sleep", "1000"),
    )
    wrong = serving(
        target,
        image="127.0.0.1:1/no/such@sha256:" + "0" * 64,
        networks=("lost",),
        memory_bytes=2**60,
        cpus=999,
    )
    async with opened(wrong) as each:
        with pytest.raises(TargetNotReady) as raised:
            await each.preflight(order_of(releases[0]))
        for word in (
            "memory_bytes is 1152921504606846976",
            "cpus is 999",
            "network lost is not on the engine",
        ):
            assert word in raised.value.reason
        assert "image 127.0.0.1:1/no/such@sha256:" in raised.value.reason
        assert "is not on the engine and cannot be pulled" in raised.value.reason
        assert f"port {target.serving.port} is held by the container squatter-{model}" in raised.value.reason
    assert docker.names("volume", model) == []


async def test_another_strategy_is_not_taken_up_in_silence(target, releases):
    await deploy(target, releases[0])
    async with opened(behind_a_router(target)) as each:
        with pytest.raises(TargetNotReady, match="it serves the model by another strategy"):
            await each.preflight(order_of(releases[1], "r-2"))


async def test_a_second_deploy_of_the_same_release_in_the_same_way_finds_it_done(target, releases):
    await deploy(target, releases[0])
    same, other_way = order_of(releases[0], "r-2"), serving(target, env={"GREETING": "hello"})
    async with opened(target) as each:
        assert (await each.preflight(same)).committed
        assert (await each.stage(same, lambda _: None)).bytes_sent == 0
        await each.finish(same)
    async with opened(other_way) as each:
        found = await each.preflight(same)
        assert (found.committed, found.present, found.current) == (False, True, releases[0].release_id)
        await each.finish(same)
    await deploy(other_way, releases[0], "r-3")
    assert (await answer(target)).text == "hello"


async def test_going_back_starts_the_container_that_was_kept_as_it_was(target, releases, docker):
    old_way = serving(target, env={"GREETING": "old"})
    await deploy(old_way, releases[0])
    await deploy(serving(target, env={"GREETING": "new"}), releases[1], "r-2")
    kept = docker.names("container", releases[0].model)
    assert len(kept) == 2
    back = replace(order_of(releases[1], "r-3"), release=None)
    async with opened(target) as each:
        found = await each.preflight(back)
        assert (found.current, found.previous) == (releases[1].release_id, releases[0].release_id)
        await each.activate(back, str(found.previous))
        await each.commit(back)
        await each.finish(back)
        found = await each.inspect(releases[0].model)
        assert (found.committed, found.previous) == (releases[0].release_id, releases[1].release_id)
    assert (await answer(target)).text == "old"
    assert docker.names("container", releases[0].model) == kept


async def test_old_releases_go_but_never_the_live_the_previous_and_the_pinned(
    target, releases, docker, model
):
    await deploy(target, releases[0])
    async with opened(target) as each:
        await each.pin(model, releases[0].release_id)
    async with opened(target) as each:
        order = order_of(releases[1], "r-2")
        assert (await each.preflight(order)).pinned == releases[0].release_id
        await each.stage(order, lambda _: None)
        with pytest.raises(TargetFailed, match="pinned to release"):
            await each.activate(order, releases[1].release_id)
        await each.pin(model, None)
        await each.activate(order, releases[1].release_id)
        await each.commit(order)
        await each.pin(model, releases[1].release_id)
        await each.finish(order)
        await each.pin(model, None)
        with pytest.raises(TargetFailed, match="is not here"):
            await each.pin(model, "20200101T000000Z-000000000000")
    for n in (2, 3, 4):
        await deploy(target, releases[n], f"r-{n + 1}", keep=1)
    found = await inspect(target, model)
    assert found.releases == (releases[3].release_id, releases[4].release_id)
    assert len(docker.names("container", model)) == 2
    assert sorted(name.split("..")[2] for name in docker.names("volume", model)) == [
        *("proof", "proof", "record", "release", "release")
    ]


async def test_a_release_that_was_pruned_is_refused_before_anything_is_touched(target, releases):
    await deploy(target, releases[0])
    order = order_of(releases[1], "r-2")
    async with opened(target) as each:
        await each.preflight(order)
        with pytest.raises(TargetFailed, match="is not here, whole; it was changed or pruned"):
            await each.activate(order, releases[1].release_id)
        await each.finish(order)
    assert await served(target) == releases[0].release_id


async def test_a_file_changed_on_the_engine_is_named_and_sent_again(target, releases, model, docker):
    await deploy(target, releases[0])
    volume = f"hybrid..{model}..release..{releases[0].release_id}"
    folder = Path(docker.engine.docker("volume", "inspect", volume, "--format", "{{.Mountpoint}}").strip())
    (folder / "w").write_bytes(b"no weight")
    assert (await inspect(target, model, rehash=True)).changed == ("w",)
    assert (await inspect(target, model)).changed == ()
    order = order_of(releases[0], "r-2", verify_all=True)
    async with opened(target) as each:
        await each.preflight(order)
        assert (await each.stage(order, lambda _: None)).bytes_sent == releases[0].manifest.size_bytes
        await each.finish(order)
    assert (await inspect(target, model, rehash=True)).changed == ()


async def test_a_release_that_is_not_what_its_manifest_says_never_becomes_one(
    target, releases, model, docker
):
    (releases[0].path / "w").write_bytes(b"not nine!")
    order = order_of(releases[0])
    async with opened(target) as each:
        await each.preflight(order)
        with pytest.raises(TargetFailed, match="unproven after it was sent: w"):
            await each.stage(order, lambda _: None)
        (releases[0].path / "w").write_bytes(b"short")
        with pytest.raises(
            TargetFailed, match=r"cannot be read on this worker: .*shorter than its manifest says"
        ):
            await each.stage(order, lambda _: None)
        await each.finish(order)
    assert docker.names("volume", model) == []
    assert docker.names("container", model) == []


async def test_a_deploy_cancelled_in_mid_stream_leaves_no_release(target, tmp_path, model, docker):
    release = make_release(tmp_path / "store", {"model.onnx": bytes(5_000_000)}, model=model)
    order = order_of(release)
    async with opened(target) as each:
        await each.preflight(order)
        staging = asyncio.create_task(each.stage(order, lambda count: count and staging.cancel()))
        with pytest.raises(asyncio.CancelledError):
            await staging
        assert (await each.inspect(model)).releases == ()
        assert (await each.stage(order, lambda _: None)).bytes_sent == 5_000_000
        await each.finish(order)


async def test_two_rollouts_do_not_share_an_engine(target, releases, docker, model):
    async with opened(target) as one, opened(target) as other:
        await one.preflight(order_of(releases[0], "r-1"))
        with pytest.raises(TargetLocked, match=r"rollout r-1 works on this target for at most [56][0-9] s"):
            await other.preflight(order_of(releases[1], "r-2"))
        assert (await other.inspect(model)).holder == "r-1"
        await one.finish(order_of(releases[0], "r-1"))
        await other.preflight(order_of(releases[1], "r-2"))
        await other.finish(order_of(releases[1], "r-2"))
    assert docker.names("volume", model) == []


async def test_of_two_that_take_an_engine_at_once_at_most_one_gets_it(target, releases):
    for _ in range(5):
        async with opened(target) as one, opened(target) as other:
            orders = [order_of(releases[0], "r-1"), order_of(releases[0], "r-2")]
            outcomes = await asyncio.gather(
                one.preflight(orders[0]), other.preflight(orders[1]), return_exceptions=True
            )
            assert sum(isinstance(each, TargetLocked) for each in outcomes) >= 1
            await one.finish(orders[0])
            await other.finish(orders[1])


async def test_a_worker_that_was_thought_dead_cannot_act_any_more(target, releases):
    order = order_of(releases[0])
    async with opened(target) as slow, opened(target) as retry:
        await slow.preflight(order)
        await slow.stage(order, lambda _: None)
        await retry.preflight(order)
        for act in (slow.activate(order, releases[0].release_id), slow.commit(order), slow.revert(order)):
            with pytest.raises(TargetFailed, match="superseded: rollout r-1"):
                await act
        await slow.finish(order)
        await retry.activate(order, releases[0].release_id)
        await retry.commit(order)
        await retry.finish(order)
    assert await served(target) == releases[0].release_id


@pytest.mark.parametrize("way", [lambda target: target, behind_a_router])
async def test_an_engine_is_not_locked_for_ever_by_a_worker_that_died(target, releases, way):
    """Another rollout takes the engine over when the lease has run out, and undoes what was begun."""
    target = way(target)
    await deploy(target, releases[0])
    dying = replace(order_of(releases[1], "r-2"), lease=timedelta(seconds=0.1))
    async with opened(target) as each:
        await each.preflight(dying)
        await each.stage(dying, lambda _: None)
        await each.activate(dying, releases[1].release_id)
    assert await served(target) == releases[1].release_id
    async with opened(target) as each:
        order = order_of(releases[2], "r-3")
        found = await each.preflight(order)
        assert (found.undone, found.current) == (releases[1].release_id, releases[0].release_id)
        await each.finish(order)
    assert await served(target) == releases[0].release_id


async def test_behind_a_router_a_dead_worker_s_release_gives_way_by_itself_at_its_deadline(target, releases):
    target = behind_a_router(target)
    await deploy(target, releases[0])
    order = order_of(releases[1], "r-2", seconds=3)
    async with opened(target) as each:
        await each.preflight(order)
        await each.stage(order, lambda _: None)
        await each.activate(order, releases[1].release_id)
        assert await served(target) == releases[1].release_id
        async with asyncio.timeout(30):
            while True:
                if await served(target) == releases[0].release_id:
                    break
                await asyncio.sleep(0.2)
        with pytest.raises(TargetFailed, match="no commit came by the deadline"):
            await each.commit(order)
        assert await each.revert(order)
        await each.finish(order)
    assert (await inspect(target, releases[0].model)).release == releases[0].release_id


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


async def test_the_records_outlive_a_prune_of_containers(target, releases, docker, model):
    await deploy(target, releases[0])
    await deploy(target, releases[1], "r-2")
    docker.engine.docker("container", "prune", "--force")
    found = await inspect(target, model)
    assert (found.release, found.previous) == (releases[1].release_id, releases[0].release_id)
    back = replace(order_of(releases[1], "r-3"), release=None)
    async with opened(target) as each:
        await each.preflight(back)
        await each.activate(back, releases[0].release_id)
        await each.commit(back)
        await each.finish(back)
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


async def test_an_engine_over_mutual_tls_takes_a_release(target, releases, docker):
    over_tls = replace(target, address=docker.over_tls())
    await deploy(over_tls, releases[0])
    assert over_tls.open(Placement()).host == "127.0.0.1"
    assert await served(target) == releases[0].release_id


@pytest.mark.parametrize(("who", "host"), [("stranger", "127.0.0.1"), ("client", "localhost")])
async def test_an_engine_and_a_client_that_do_not_know_each_other_stop_there(
    target, releases, docker, who, host
):
    async with opened(replace(target, address=docker.over_tls(who, host))) as each:
        with pytest.raises(TargetRefused, match="do not know each other by TLS"):
            await each.preflight(order_of(releases[0]))


async def test_an_engine_over_ssh_takes_a_release_and_its_host_key_is_enforced(
    target, releases, docker, tmp_path
):
    with sshd(tmp_path / "host", "edge") as host:
        address = EngineAddress(url=docker.engine.socket, ssh=host.address)
        await deploy(replace(target, address=address), releases[0])
        assert await served(target) == releases[0].release_id
        async with opened(replace(target, address=replace(address, url="unix:///no/such.sock"))) as each:
            with pytest.raises(TargetUnreachable, match="sshd allows the user to forward to that socket"):
                await each.preflight(order_of(releases[0]))
        other = replace(host.address, host_keys=(make_key(tmp_path / "other"),))
        async with opened(replace(target, address=replace(address, ssh=other))) as each:
            with pytest.raises(TargetRefused, match="has another host key"):
                await each.preflight(order_of(releases[0]))


async def test_an_engine_that_is_not_there_is_unreachable(target, releases, docker, tmp_path):
    nobody = replace(docker.over_tls(), url=f"tcp://127.0.0.1:{free_port()}")
    for address in (EngineAddress(url=f"unix://{tmp_path}/none"), nobody):
        async with opened(replace(target, address=address)) as each:
            with pytest.raises(TargetUnreachable, match=f"no answer from the engine at {address.url}"):
                await each.preflight(order_of(releases[0]))
