"""A Docker Engine as a target, on a real dockerd: releases brought, made live, kept and found again."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from hybrid_provider.exceptions import (
    TargetFailed,
    TargetNotReady,
)
from hybrid_provider.targets.local import LocalTarget
from hybrid_provider.targets.target import Placement
from tests.images import SERVER
from tests.integration.docker.registry import registry
from tests.integration.docker.targets import (
    answer,
    behind_a_router,
    deploy,
    inspect,
    opened,
    order_of,
    served,
    serving,
)
from tests.releases import make_release


async def test_bytes_arrive_as_they_are_under_any_name(target, tmp_path, model, any_file_name):
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


async def test_a_release_that_a_host_has_already_is_verified_and_served_from_there(
    target, releases, tmp_path, model
):
    """Bytes of a model that an SSH target brought to the same host do not travel again."""
    base = tmp_path / "srv/models"
    bound = serving(target, bind_from=str(base))
    async with opened(bound) as each:
        order = order_of(releases[0])
        await each.preflight(order)
        with pytest.raises(TargetFailed, match=r"is not, whole, in .*/srv/models/.*; deploy it to that host"):
            await each.stage(order, lambda _: None)
        await each.finish(order)

    host = LocalTarget(name="host", placement=Placement(base_folder=str(base)))
    for number in (0, 1):
        await deploy(host, releases[number], f"host-{number}")
        assert (await deploy(bound, releases[number], f"r-{number}")).bytes_sent == 0
        assert await served(bound) == releases[number].release_id
    found = await inspect(bound, model, rehash=True)
    assert (found.previous, found.changed) == (releases[0].release_id, ())

    (base / model / "releases" / releases[1].release_id / "w").write_bytes(b"no weight")
    assert (await inspect(bound, model, rehash=True)).changed == ("w",)
    async with opened(bound) as each:
        order = order_of(releases[1], "r-9")
        await each.preflight(order)
        with pytest.raises(TargetFailed, match=r"is not, whole, in .*: w"):
            await each.stage(order, lambda _: None)
        await each.finish(order)
    # Of the folder itself nothing was taken away.
    assert (base / model / "releases" / releases[0].release_id / "w").exists()


async def test_an_image_is_pulled_by_its_digest_with_the_connection_s_password(target, releases, docker):
    with registry(docker.engine, SERVER) as images:
        stranger = replace(images.login, password="wrong")
        pulled = replace(serving(target, image=images.image), login=stranger)
        async with opened(pulled) as each:
            with pytest.raises(TargetNotReady, match=r"cannot be pulled .*; load it there, or correct"):
                await each.preflight(order_of(releases[0]))
        assert images.pulled == []
        await deploy(replace(pulled, login=images.login), releases[0])
        assert await served(target) == releases[0].release_id
        asked = len(images.pulled)
        # What is there is not asked for again.
        await deploy(replace(pulled, login=stranger), releases[1], "r-2")
        assert (await served(target), len(images.pulled)) == (releases[1].release_id, asked)
