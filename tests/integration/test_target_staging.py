"""How a release comes to lie on a POSIX target: what travels, what is linked, what is read again."""

from __future__ import annotations

import asyncio
import os
import shutil
from dataclasses import replace

import pytest

from hybrid_provider.exceptions import TargetFailed, TargetUnreachable
from hybrid_provider.targets.shell import shell_text
from hybrid_provider.targets.target import Placement
from tests.integration.posixtargets import deployed, order_of, staged
from tests.releases import make_release

PROOF = f"verify_all=\n{shell_text('proof')}"
LARGE, SMALL = os.urandom(3_000_000), os.urandom(50_000)


@pytest.fixture
def release(tmp_path):
    files = {"a/first.bin": SMALL, "a/large.bin": LARGE, "z/last one": SMALL[:9], "empty": b""}
    return make_release(tmp_path / "store", files)


def cut_after(opened, size_bytes, folder):
    """Cut the connection once, when so many bytes were sent and nearly all of them are in the host's folder."""
    run, cut = opened._shell.run, []

    async def arrived():
        while sum(path.stat().st_size for path in folder.rglob("*.bin")) < size_bytes - 700_000:  # noqa: ASYNC110 - a disk tells nobody
            await asyncio.sleep(0.01)

    async def until_cut(chunks):
        sent = 0
        async for chunk in chunks:
            yield chunk
            sent += len(chunk)
            if sent >= size_bytes and not cut:
                await arrived()
                cut.append(sent)
                opened._shell._connection.abort()

    async def cutting(script, stdin=None, limit=None):
        return await run(script, until_cut(stdin) if stdin and not cut else stdin, limit)

    opened._shell.run = cutting


async def test_a_stream_that_is_cut_goes_on_where_it_ended(target, release, tmp_path):
    opened, order = target.open(Placement()), order_of(release)
    await opened.preflight(order)
    # The large file's beginning is on the host, and its end is not.
    told = []
    cut_after(opened, 2_500_000, tmp_path / "models/digits/.staging")
    result = await opened.stage(order, told.append)
    assert result.bytes_linked == len(SMALL) + len(LARGE)
    assert sum(told) < release.manifest.size_bytes + 1_000_000
    model = tmp_path / "models/digits"
    for file in release.manifest.files:
        there = model / "releases" / release.release_id / file.path
        assert there.read_bytes() == (release.path / file.path).read_bytes()
    await opened.finish(order)
    await opened.close()
    assert not (model / ".staging").exists()


async def test_the_retry_of_a_deploy_brings_only_what_its_cut_off_try_did_not(
    target, release, tmp_path, monkeypatch
):
    monkeypatch.setattr("hybrid_provider.targets.staging._TRIES", 1)
    order = order_of(release)
    opened = target.open(Placement())
    await opened.preflight(order)
    cut_after(opened, 1_000_000, tmp_path / "models/digits/.staging")
    with pytest.raises(TargetUnreachable):
        await opened.stage(order, lambda _: None)
    await opened.finish(order)
    await opened.close()
    assert not (tmp_path / "models/digits/releases" / release.release_id).exists()
    assert not (tmp_path / "models/digits/.lease").exists()

    opened, readiness, result = await staged(target, order)
    assert not readiness.present
    assert result.bytes_sent < release.manifest.size_bytes
    await opened.finish(order)
    await opened.close()
    assert not (tmp_path / "models/digits/.staging").exists()


@pytest.mark.parametrize("rollout", ["r-1", "r-2"], ids=["its retry", "another deploy"])
async def test_what_came_whole_and_was_never_switched_to_does_not_travel_again(target, release, rollout):
    """argo#3120: a retry that starts over."""
    opened, _, first = await staged(target, order_of(release))
    assert first.bytes_sent == release.manifest.size_bytes
    await opened.finish(order_of(release))
    await opened.close()
    opened, readiness, again = await staged(target, order_of(release, rollout))
    assert (readiness.present, again.bytes_sent, again.bytes_linked) == (True, 0, 0)
    await opened.finish(order_of(release, rollout))
    await opened.close()


async def test_what_arrived_damaged_before_a_cut_is_sent_again(target, release, tmp_path, monkeypatch):
    monkeypatch.setattr("hybrid_provider.targets.staging._TRIES", 1)
    order = order_of(release)
    opened = target.open(Placement())
    await opened.preflight(order)
    cut_after(opened, 2_500_000, tmp_path / "models/digits/.staging")
    with pytest.raises(TargetUnreachable):
        await opened.stage(order, lambda _: None)
    await opened.close()
    (kept,) = (tmp_path / "models/digits/.staging").glob("*/files/a/first.bin")
    kept.write_bytes(SMALL[::-1])
    opened, _, result = await staged(target, order)
    assert (result.bytes_sent, result.bytes_linked) == (release.manifest.size_bytes, 0)
    await opened.finish(order)
    await opened.close()


async def test_what_another_release_left_half_goes(target, release, tmp_path, monkeypatch):
    monkeypatch.setattr("hybrid_provider.targets.staging._TRIES", 1)
    opened, order = target.open(Placement()), order_of(release)
    await opened.preflight(order)
    cut_after(opened, 1_000_000, tmp_path / "models/digits/.staging")
    with pytest.raises(TargetUnreachable):
        await opened.stage(order, lambda _: None)
    await opened.finish(order)
    other = make_release(tmp_path / "store", {"m": b"1"}, minute=1)
    await opened.preflight(order_of(other, "r-2"))
    assert list((tmp_path / "models/digits/.staging").iterdir()) == []
    await opened.finish(order_of(other, "r-2"))
    await opened.close()


async def test_a_file_of_any_release_that_is_there_is_linked(target, release, tmp_path):
    between = make_release(tmp_path / "store", {"m": b"other"}, minute=1)
    after = make_release(
        tmp_path / "store", {"renamed.bin": LARGE, "a/first.bin": SMALL, "new": b"3"}, minute=2
    )
    for n, one in enumerate((release, between)):
        await deployed(target, one, f"r-{n}")
    result = await deployed(target, after, "r-2")
    assert (result.bytes_sent, result.bytes_linked) == (1, len(LARGE) + len(SMALL))
    releases = tmp_path / "models/digits/releases"
    assert (releases / after.release_id / "renamed.bin").samefile(
        releases / release.release_id / "a/large.bin"
    )


async def test_what_nobody_touched_is_not_read_again_also_after_links_and_removals(target, tmp_path):
    made = [
        make_release(tmp_path / "store", {"same": LARGE, "own": str(n).encode()}, minute=n) for n in range(4)
    ]
    for n, one in enumerate(made):
        await deployed(target, one, f"r-{n}", keep=1)
    model = tmp_path / "models/digits"
    opened = target.open(Placement())
    untouched = [
        (await opened.run(f"cd {model}\n{PROOF}\nuntouched {kept} && echo yes", None)).stdout
        for kept in (await opened.inspect("digits")).releases
    ]
    assert untouched == ["yes\n", "yes\n"]
    await opened.close()


async def test_a_damage_that_shows_in_no_date_is_found_where_all_is_read(target, tmp_path):
    """As a failing disk does it: inode, size and both dates are as they were. The record is made to agree."""
    first = make_release(tmp_path / "store", {"same": LARGE, "own": b"1"}, minute=0)
    second = make_release(tmp_path / "store", {"same": LARGE, "own": b"2"}, minute=1)
    await deployed(target, first, "r-0")
    model = tmp_path / "models/digits"
    victim = model / "releases" / first.release_id / "same"
    victim.write_bytes(LARGE[::-1])
    os.utime(victim, (1, 1))
    opened = target.open(Placement())
    await opened.run(
        f"cd {model}\n{PROOF}\nstats releases/{first.release_id} >verified/{first.release_id}", None
    )
    for verify_all, linked in ((False, len(LARGE)), (True, 0)):
        order = replace(order_of(second, "r-1"), verify_all=verify_all)
        await opened.preflight(order)
        result = await opened.stage(order, lambda _: None)
        assert result.bytes_linked == linked
        shutil.rmtree(model / "releases" / second.release_id)
    await opened.finish(order)
    await opened.close()


async def test_a_release_changed_since_it_was_staged_does_not_go_live(target, release, tmp_path):
    opened, order = target.open(Placement()), order_of(release)
    await opened.preflight(order)
    await opened.stage(order, lambda _: None)
    victim = tmp_path / "models/digits/releases" / release.release_id / "a/first.bin"
    victim.write_bytes(SMALL[::-1])
    with pytest.raises(TargetFailed, match=r"was changed since it was staged: \./a/first.bin"):
        await opened.activate(order, release.release_id)
    # A date alone is no damage.
    victim.write_bytes(SMALL)
    await opened.activate(order, release.release_id)
    await opened.commit(order)
    await opened.finish(order)
    await opened.close()


async def test_a_file_that_cannot_be_read_on_the_worker_is_its_fault_and_not_the_network_s(target, release):
    (release.path / "a/large.bin").write_bytes(b"short")
    opened, order = target.open(Placement()), order_of(release)
    await opened.preflight(order)
    with pytest.raises(
        TargetFailed, match=r"cannot be read on this worker: .*shorter than its manifest says"
    ):
        await opened.stage(order, lambda _: None)
    await opened.finish(order)
    await opened.close()


async def test_a_file_that_was_changed_in_the_store_reaches_no_host_that_lacks_it(target, release, tmp_path):
    """A host that has it, from another release, links its own and needs none of the store's bytes."""
    first, second = (
        make_release(tmp_path / "store", {"model.onnx": b"1" * 5000, "labels": labels}, minute=minute)
        for minute, labels in enumerate((b"a", b"bc"))
    )
    (first.path / "model.onnx").write_bytes(b"2" * 5000)
    with pytest.raises(TargetFailed, match=r"model\.onnx"):
        await staged(target, order_of(first))
    (first.path / "model.onnx").write_bytes(b"1" * 5000)
    await deployed(target, first, "r-1")
    (second.path / "model.onnx").write_bytes(b"2" * 5000)
    result = await deployed(target, second, "r-2")
    assert (result.bytes_sent, result.bytes_linked) == (2, 5000)
    assert (tmp_path / "models/digits/current/model.onnx").read_bytes() == b"1" * 5000
