"""What becomes of a switch on a POSIX target: drained, reloaded, proved, undone, whatever ends it."""

from __future__ import annotations

import asyncio
import os
import subprocess
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from hybrid_provider.exceptions import (
    TargetFailed,
)
from hybrid_provider.targets.target import Placement
from tests.integration.posixtargets import deployed, odd_release, order_of
from tests.integration.sshhosts import lock_is_free


@pytest.fixture
def release(tmp_path):
    return odd_release(tmp_path / "store")


def processes_in(folder):
    """Whose working directory is this folder: the detached script, and what it waits with."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        # Some belong to others, and some end while we look.
        with suppress(OSError):
            if (entry / "cwd").readlink() == folder:
                found.append(int(entry.name))
    return found


def has_ended(pid):
    """Whether nothing of a process is left but its entry, until its parent looks."""
    state = Path(f"/proc/{pid}/stat")
    return not state.exists() or ") Z " in state.read_text()


async def test_a_reload_that_fails_goes_back_and_says_what_it_printed(target, release, tmp_path):
    failing = replace(
        target, placement=replace(target.placement, reload_command="echo no such unit >&2; exit 5")
    )
    opened, order = failing.open(Placement()), order_of(release)
    await opened.preflight(order)
    await opened.stage(order, lambda _: None)
    with pytest.raises(TargetFailed, match="exit code 5: no such unit"):
        await opened.activate(order, release.release_id)
    await opened.revert(order)
    await opened.finish(order)
    await opened.close()
    assert not (tmp_path / "models/digits/current").is_symlink()


async def test_a_service_that_the_reload_starts_does_not_hold_the_lock(target, release, tmp_path):
    pid_file = tmp_path / "pid"
    starting = f"sleep 1000 & echo $! > {pid_file}"
    spec = replace(target, placement=replace(target.placement, reload_command=starting))
    await deployed(spec, release, "r-1")
    try:
        model = tmp_path / "models/digits"
        assert lock_is_free(model)
    finally:
        os.kill(int(pid_file.read_text()), 9)


async def test_an_activation_whose_script_is_killed_is_undone(target, release, tmp_path):
    opened, order = target.open(Placement()), order_of(release)
    await opened.preflight(order)
    await opened.stage(order, lambda _: None)
    await opened.activate(order, release.release_id)
    model = tmp_path / "models/digits"
    for pid in processes_in(model):
        # Its naps come and go.
        with suppress(ProcessLookupError):
            os.kill(pid, 9)
    with pytest.raises(TargetFailed, match="killed"):
        await opened.commit(order)
    await opened.finish(order)
    await opened.close()
    assert not (model / "current").is_symlink()


async def test_a_reload_that_hangs_is_ended_with_all_that_it_started_and_undone(target, release, tmp_path):
    hanging = f"sleep 1000 & echo $! >{tmp_path}/pid; wait"
    spec = replace(target, placement=replace(target.placement, reload_command=hanging))
    opened, order = spec.open(Placement()), order_of(release, seconds=1)
    await opened.preflight(order)
    await opened.stage(order, lambda _: None)
    with pytest.raises(TargetFailed, match="did not end within 6 s"):
        await opened.activate(order, release.release_id)
    await opened.revert(order)
    await opened.finish(order)
    await opened.close()
    assert not (tmp_path / "models/digits/current").is_symlink()
    assert has_ended(int((tmp_path / "pid").read_text()))


async def test_a_target_is_drained_before_the_switch_and_what_is_drained_is_put_back(
    target, release, tmp_path
):
    log = tmp_path / "log"
    placement = replace(
        target.placement, drain_command=f"echo drain >>{log}", reload_command=f"echo reload >>{log}"
    )
    opened = replace(target, placement=placement).open(Placement())
    order = replace(order_of(release), drain=timedelta(seconds=20))
    await opened.preflight(order)
    await opened.stage(order, lambda _: None)
    await opened.drain(order)
    assert not (tmp_path / "models/digits/current").exists()
    await opened.activate(order, release.release_id)
    await opened.commit(order)
    await opened.drain(order)
    assert await opened.revert(order)
    await opened.finish(order)
    await opened.close()
    assert log.read_text().split() == ["drain", "reload", "drain", "reload"]
    assert (tmp_path / "models/digits/current").readlink().name == release.release_id


async def test_a_drain_that_fails_changes_nothing_and_one_that_takes_too_long_is_ended(
    target, release, tmp_path
):
    order = replace(order_of(release), drain=timedelta(seconds=1))
    for drain_command, failure in (
        ("echo stuck >&2; exit 3", "drain command ended with exit code 3: stuck"),
        ("sleep 1000", ""),
    ):
        opened = replace(target, placement=replace(target.placement, drain_command=drain_command)).open(
            Placement()
        )
        await opened.preflight(order)
        await opened.stage(order, lambda _: None)
        if failure:
            with pytest.raises(TargetFailed, match=failure):
                await opened.drain(order)
        else:
            await opened.drain(order)
        await opened.revert(order)
        await opened.finish(order)
        await opened.close()
        assert not (tmp_path / "models/digits/current").exists()


async def test_a_host_whose_worker_falls_silent_keeps_what_its_own_probe_finds_well(
    target, release, tmp_path
):
    for passes, committed in ((False, None), (True, release.release_id)):
        placement = replace(
            target.placement, local_probe=f"test -e {tmp_path}/models/digits/current && {str(passes).lower()}"
        )
        opened = replace(target, placement=placement).open(Placement())
        order = order_of(release, seconds=0.1)
        await opened.preflight(order)
        await opened.stage(order, lambda _: None)
        await opened.activate(order, release.release_id)
        model = tmp_path / "models/digits"
        await asyncio.to_thread(subprocess.run, ["flock", "--wait", "60", model, "true"], check=True)
        assert (await opened.inspect("digits")).committed == committed
        await opened.finish(order)
        await opened.close()
