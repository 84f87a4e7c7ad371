"""A POSIX target on real shells: what it takes, keeps, gives back and says of itself."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import subprocess
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from hybrid_provider.exceptions import (
    TargetFailed,
    TargetLocked,
    TargetNotReady,
)
from hybrid_provider.targets.local import LocalTarget
from hybrid_provider.targets.ssh import SshTarget
from hybrid_provider.targets.target import Inspection, Placement
from tests.integration.posixtargets import deployed, odd_release, order_of, small_disk
from tests.integration.sshhosts import leftovers
from tests.releases import make_release


@pytest.fixture
def release(tmp_path):
    return odd_release(tmp_path / "store")


async def test_bytes_arrive_as_they_are_under_any_name(target, release, tmp_path):
    result = await deployed(target, release, "r-1")
    assert result.bytes_sent == release.manifest.size_bytes
    current = tmp_path / "models/digits/current"
    for file in release.manifest.files:
        assert hashlib.sha256((current / file.path).read_bytes()).hexdigest() == file.sha256
        assert (current / file.path).stat().st_mode & 0o777 == 0o644


async def test_this_machine_takes_a_release(tmp_path, release):
    home = tmp_path / "home"
    home.mkdir()
    await deployed(LocalTarget(home=home), release, "r-1")
    assert (home / "models/digits/current").readlink().name == release.release_id


async def test_all_that_is_wrong_with_a_host_is_in_one_message(host, tmp_path, release):
    model = tmp_path / "models/digits"
    (model / "current").mkdir(parents=True)
    os.chown(model, 1234, 1234)
    spec = SshTarget(name="edge", address=host.address, placement=Placement(base_folder=f"{tmp_path}/models"))
    opened = spec.open(Placement())
    with pytest.raises(TargetNotReady, match=r"^edge: .*belongs to user id 1234.*; .*current is no link"):
        await opened.preflight(order_of(release))
    await opened.close()


async def test_a_disk_too_small_is_found_before_a_byte_is_sent(target, release, tmp_path):
    with small_disk(tmp_path / "models", megabytes=1):
        opened = target.open(Placement())
        with pytest.raises(
            TargetNotReady,
            match=rf"^edge: 1.05 MB free in {tmp_path}/models/digits, 1.4 MB needed for release "
            rf"{release.release_id}; free space or lower keep_releases$",
        ):
            await opened.preflight(order_of(release))
        await opened.finish(order_of(release))
        await opened.close()
        assert list((tmp_path / "models").iterdir()) == []


async def test_a_disk_that_fills_up_while_bytes_arrive_is_as_empty_as_before(target, release, tmp_path):
    with small_disk(tmp_path / "models", megabytes=2):
        opened, order = target.open(Placement()), order_of(release)
        await opened.preflight(order)
        (tmp_path / "models/other").write_bytes(bytes(1_700_000))
        reason = (
            rf"^edge: .*did not unpack: tar: .*; 3[0-9]+ bytes were free in {tmp_path}/models/digits, and "
            r"7[0-9]+ needed; if the disk is full, free space there or lower keep_releases$"
        )
        with pytest.raises(TargetFailed, match=reason):
            await opened.stage(order, lambda _: None)
        await opened.finish(order)
        await opened.close()
        assert not (tmp_path / "models/digits").exists()


async def test_a_file_changed_on_the_host_is_sent_again(target, release, tmp_path):
    await deployed(target, release, "r-1")
    (tmp_path / "models/digits/current/model.onnx").write_bytes(b"no model")
    result = await deployed(target, release, "r-2")
    assert result.bytes_sent == release.manifest.size_bytes
    assert (tmp_path / "models/digits/current/model.onnx").stat().st_size == 700_000


async def test_a_linked_file_that_was_changed_on_the_host_is_sent_instead(target, release, tmp_path):
    await deployed(target, release, "r-1")
    content = bytearray((tmp_path / "models/digits/current/model.onnx").read_bytes())
    content[5] ^= 1
    (tmp_path / "models/digits/current/model.onnx").write_bytes(content)
    after = make_release(
        tmp_path / "store", {"model.onnx": (release.path / "model.onnx").read_bytes(), "more": b"1"}, minute=1
    )
    result = await deployed(target, after, "r-2")
    assert (result.bytes_sent, result.bytes_linked) == (after.manifest.size_bytes, 0)


async def test_old_releases_go_but_never_the_live_and_the_previous(target, tmp_path):
    made = [make_release(tmp_path / "store", {"n": str(n).encode()}, minute=n) for n in range(4)]
    for n, release in enumerate(made):
        await deployed(target, release, f"r-{n}", keep=1)
    await deployed(target, made[2], "r-5", keep=1)
    there = sorted(path.name for path in (tmp_path / "models/digits/releases").iterdir())
    assert there == [made[2].release_id, made[3].release_id]


async def test_two_rollouts_do_not_share_a_target(target, release):
    one, other = target.open(Placement()), target.open(Placement())
    await one.preflight(order_of(release, "r-1"))
    with pytest.raises(TargetLocked, match=r"rollout r-1 works on this target for at most [56][0-9] s"):
        await other.preflight(order_of(release, "r-2"))
    await one.finish(order_of(release, "r-1"))
    await other.preflight(order_of(release, "r-2"))
    await other.finish(order_of(release, "r-2"))
    await one.close()
    await other.close()


def wait_for(file):
    while not file.exists():
        time.sleep(0.01)


@pytest.mark.parametrize("last_word", [5, 0.05])
async def test_a_preflight_that_is_cut_short_leaves_no_lease(
    target, release, tmp_path, monkeypatch, last_word
):
    """The host gives its lease, and nobody waits for the answer any more; nor, the second time, for its last word."""
    monkeypatch.setattr("hybrid_provider.targets.posix._LAST_WORD", timedelta(seconds=last_word))
    opened, order = target.open(Placement()), order_of(release)
    shell, run = opened._shell, opened._shell.run
    folder = tmp_path / "models/digits"

    async def slowly(script, stdin=None, limit=None):
        return await run(script.replace('say "epoch', 'sleep 0.5; say "epoch'), stdin, limit)

    shell.run = slowly
    asked = asyncio.create_task(opened.preflight(order))
    await asyncio.to_thread(wait_for, folder / ".lease")
    asked.cancel()
    await asyncio.gather(asked, return_exceptions=True)
    await opened.finish(order)
    await opened.close()
    # The script holds the lock until it ends.
    await asyncio.to_thread(subprocess.run, ["flock", "--wait", "60", folder, "true"], check=False)
    assert leftovers(folder) == []


async def test_a_target_says_what_it_has_and_what_was_changed_there(target, tmp_path):
    opened = target.open(Placement())
    assert await opened.inspect("digits") == Inspection()
    assert not (tmp_path / "models").exists()
    made = [make_release(tmp_path / "store", {"n": str(n).encode(), "a b": b"2"}, minute=n) for n in range(2)]
    for n, release in enumerate(made):
        await deployed(target, release, f"r-{n}")
    found = await opened.inspect("digits", rehash=True)
    assert found.release == found.committed == made[1].release_id
    assert (found.previous, found.rollout, found.holder) == (made[0].release_id, "r-1", None)
    assert found.digest == made[1].digest
    assert found.releases == tuple(release.release_id for release in made)
    assert abs(found.since - datetime.now(UTC)) < timedelta(minutes=5)
    assert found.changed == ()
    current = tmp_path / "models/digits/current"
    (current / "n").unlink()
    (current / "a b").write_bytes(b"3")
    (current / "new one").write_bytes(b"4")
    assert (await opened.inspect("digits")).changed == ()
    assert sorted((await opened.inspect("digits", rehash=True)).changed) == ["a b", "n", "new one"]
    assert (await opened.run("echo $((1 + 1)); exit 3", timedelta(seconds=30))).stdout == "2\n"
    await opened.close()


async def test_a_pinned_target_says_so_and_switches_to_no_other_release(target, tmp_path):
    made = [make_release(tmp_path / "store", {"n": str(n).encode()}, minute=n) for n in range(4)]
    for n in range(2):
        await deployed(target, made[n], f"r-{n}")
    opened = target.open(Placement())
    with pytest.raises(TargetFailed, match="is not here, so the target cannot be pinned"):
        await opened.pin("digits", made[2].release_id)
    await opened.pin("digits", made[0].release_id)
    assert (await opened.inspect("digits")).pinned == made[0].release_id
    order = order_of(made[2], "r-2")
    assert (await opened.preflight(order)).pinned == made[0].release_id
    await opened.stage(order, lambda _: None)
    with pytest.raises(TargetFailed, match=f"pinned to release {made[0].release_id}"):
        await opened.activate(order, made[2].release_id)
    await opened.finish(order)
    await opened.pin("digits", None)
    await deployed(target, made[2], "r-3", keep=1)
    await deployed(target, made[3], "r-4", keep=1)
    assert (await opened.inspect("digits")).releases == (made[2].release_id, made[3].release_id)
    await opened.close()


async def test_a_target_goes_back_to_a_release_that_it_has_without_being_told_which(target, tmp_path):
    made = [make_release(tmp_path / "store", {"n": str(n).encode()}, minute=n) for n in range(2)]
    for n, release in enumerate(made):
        await deployed(target, release, f"r-{n}")
    opened, order = target.open(Placement()), order_of(None, "back-1")
    readiness = await opened.preflight(order)
    assert (readiness.current, readiness.previous) == (made[1].release_id, made[0].release_id)
    assert not readiness.present
    await opened.activate(order, readiness.previous)
    await opened.commit(order)
    await opened.finish(order)
    found = await opened.inspect("digits")
    assert (found.release, found.previous) == (made[0].release_id, made[1].release_id)
    await opened.close()


async def test_a_disk_that_is_read_only_is_found_before_a_byte_is_sent(target, release, tmp_path):
    with small_disk(tmp_path / "models", megabytes=4):
        await deployed(target, release, "r-1")
        subprocess.run(["mount", "-o", "remount,ro", tmp_path / "models"], check=True)  # noqa: ASYNC221 - short
        for model, reason in (
            ("digits", "cannot write into .*: Read-only file system"),
            ("other", "cannot make"),
        ):
            opened, order = target.open(Placement()), replace(order_of(release, "r-2"), model=model)
            with pytest.raises(TargetNotReady, match=reason):
                await opened.preflight(order)
            await opened.finish(order)
            await opened.close()


async def test_a_release_that_was_pruned_is_no_release_to_go_back_to(target, tmp_path):
    made = [make_release(tmp_path / "store", {"n": str(n).encode()}, minute=n) for n in range(3)]
    for n, release in enumerate(made):
        await deployed(target, release, f"r-{n}", keep=1)
    shutil.rmtree(tmp_path / "models/digits/releases" / made[1].release_id)
    opened, order = target.open(Placement()), order_of(None, "back-1")
    readiness = await opened.preflight(order)
    assert (readiness.current, readiness.previous) == (made[2].release_id, None)
    for gone in made[:2]:
        with pytest.raises(TargetFailed, match=f"release {gone.release_id} is not here, whole; .* pruned"):
            await opened.activate(order, gone.release_id)
    await opened.finish(order)
    await opened.close()
    assert (tmp_path / "models/digits/current").readlink().name == made[2].release_id


async def test_a_pinned_release_is_never_pruned(target, tmp_path):
    made = [make_release(tmp_path / "store", {"n": str(n).encode()}, minute=n) for n in range(4)]
    for n, release in enumerate(made):
        await deployed(target, release, f"r-{n}")
    opened = target.open(Placement())
    await opened.pin("digits", made[0].release_id)
    order = order_of(made[3], "r-4", keep=1)
    assert (await opened.preflight(order)).pinned == made[0].release_id
    await opened.finish(order)
    assert (await opened.inspect("digits")).releases == tuple(made[n].release_id for n in (0, 2, 3))
    await opened.pin("digits", None)
    await opened.preflight(order)
    await opened.finish(order)
    assert (await opened.inspect("digits")).releases == tuple(made[n].release_id for n in (2, 3))
    await opened.close()


async def test_a_lease_of_the_same_rollout_in_the_same_second_is_another_one(target, release, tmp_path):
    """The first worker's lease was given back by the second's end, and a third took one with the same epoch."""
    slow, third = target.open(Placement()), target.open(Placement())
    order = order_of(release)
    await slow.preflight(order)
    lease = tmp_path / "models/digits/.lease"
    rollout, epoch, *_ = lease.read_text().split()
    lease.unlink()
    await third.preflight(order)
    _, _, *rest = lease.read_text().split()
    lease.write_text(" ".join([rollout, epoch, *rest]) + "\n")
    third._found = replace(third._found, epoch=int(epoch))
    with pytest.raises(TargetFailed, match="superseded"):
        await slow.stage(order, lambda _: None)
    await slow.finish(order)
    assert lease.exists()
    await third.stage(order, lambda _: None)
    await third.finish(order)
    assert not lease.exists()
    await slow.close()
    await third.close()
