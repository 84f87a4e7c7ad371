"""A POSIX target on real shells: OpenSSH's, Dropbear's with BusyBox, and this machine's."""

from __future__ import annotations

import asyncio
import hashlib
import os
import subprocess
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from pathlib import Path

import pytest

from hybrid_provider.exceptions import (
    TargetFailed,
    TargetLocked,
    TargetNotReady,
    TargetRefused,
    TargetUnreachable,
)
from hybrid_provider.targets.local import LocalShell, LocalTarget
from hybrid_provider.targets.ssh import SshShell, SshTarget
from hybrid_provider.targets.target import Inspection, Order, Placement
from tests.integration.sshhosts import dropbear, lock_is_free, make_key, with_passphrase
from tests.releases import make_release
from tests.servers import REQUIRE_ALL, free_port


def order_of(release, rollout="r-1", keep=5, seconds=20):
    return Order(
        model="digits",
        release=release,
        rollout=rollout,
        healthy_deadline=timedelta(seconds=seconds),
        lease=timedelta(seconds=60),
        keep_releases=keep,
    )


@pytest.fixture
def release(tmp_path):
    return make_release(
        tmp_path / "store",
        {"model.onnx": os.urandom(700_000), "a b/ü 'quoted' $(name)": b"odd", "empty": b""},
    )


async def staged(spec, order):
    opened = spec.open(Placement())
    readiness = await opened.preflight(order)
    result = await opened.stage(order, lambda _: None)
    return opened, readiness, result


async def deployed(spec, release, rollout, keep=5):
    order = order_of(release, rollout, keep)
    opened, _, result = await staged(spec, order)
    await opened.activate(order, release.release_id)
    await opened.commit(order)
    await opened.finish(order)
    await opened.close()
    return result


def test_every_script_is_understood_by_dash_and_busybox():
    from hybrid_provider.targets.shell import shell_text

    for script in files("hybrid_provider.targets").joinpath("scripts").iterdir():
        for shell in (["busybox", "sh"], ["dash"]):
            text = shell_text(script.name.removesuffix(".sh"))
            assert subprocess.run([*shell, "-n"], input=text, text=True, check=False).returncode == 0


async def test_bytes_arrive_as_they_are_under_any_name(target, release, tmp_path):
    result = await deployed(target, release, "r-1")
    assert result.bytes_sent == release.manifest.size_bytes
    current = tmp_path / "models/digits/current"
    for file in release.manifest.files:
        assert hashlib.sha256((current / file.path).read_bytes()).hexdigest() == file.sha256
        assert (current / file.path).stat().st_mode & 0o777 == 0o644


async def test_an_edge_host_with_busybox_and_no_sftp_takes_a_release(tmp_path, release):
    with dropbear(tmp_path / "edge", "edge") as host:
        # Its login shell finds the applets only, as on a host that has nothing else.
        opened = host.target.open(Placement())
        shell = opened._shell
        run = shell.run
        applets = f"export PATH={host.key_file.parent}/bin\n"

        async def run_with_applets(script, stdin=None, limit=None):
            return await run(applets + script, stdin, limit)

        shell.run = run_with_applets
        order = order_of(release)
        await opened.preflight(order)
        await opened.stage(order, lambda _: None)
        await opened.activate(order, release.release_id)
        await opened.commit(order)
        await opened.finish(order)
        await opened.close()
        assert host.current == release.release_id
        assert host.leftovers() == []


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


async def test_a_missing_tool_is_named(host, target, release):
    opened = target.open(Placement())
    shell, run = opened._shell, opened._shell.run

    async def without_flock(script, stdin=None, limit=None):
        return await run(script.replace("'flock cat", "'flock-of-tomorrow cat"), stdin, limit)

    shell.run = without_flock
    with pytest.raises(TargetNotReady, match="the program flock-of-tomorrow is missing"):
        await opened.preflight(order_of(release))
    await opened.close()


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


@contextmanager
def small_disk(folder, megabytes):
    folder.mkdir(parents=True)
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", folder],
        capture_output=True,
        text=True,
        check=False,
    )
    if mount.returncode:
        reason = f"mounting a small disk needs root: {mount.stderr.strip()}"
        pytest.fail(reason) if REQUIRE_ALL else pytest.skip(reason)
    try:
        yield
    finally:
        subprocess.run(["umount", folder], check=True)


async def test_a_disk_too_small_is_found_before_a_byte_is_sent(target, release, tmp_path):
    with small_disk(tmp_path / "models", megabytes=1):
        opened = target.open(Placement())
        with pytest.raises(
            TargetNotReady, match=r"1.05 MB free, 1.4 MB needed .*; free space or lower keep_releases"
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
        with pytest.raises(TargetFailed, match=r"did not unpack: tar: .*; 3[0-9]+ bytes were free"):
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


async def test_another_host_key_is_refused_with_both_fingerprints(host, release, tmp_path):
    other = make_key(tmp_path / "other")
    spec = SshTarget(name="edge", address=replace(host.address, host_keys=(other,)))
    with pytest.raises(
        TargetRefused,
        match=r"edge: .*expected ssh-ed25519 SHA256:.*offers ssh-ed25519 SHA256:.*ssh-keygen -lf",
    ):
        await spec.open(Placement()).preflight(order_of(release))


async def test_a_key_that_the_host_does_not_know_is_refused(host, release, tmp_path):
    make_key(tmp_path / "stranger")
    address = replace(host.address, key_file=tmp_path / "stranger")
    with pytest.raises(TargetRefused, match="does not let user 'root' in"):
        await SshTarget(name="edge", address=address).open(Placement()).preflight(order_of(release))


async def test_a_private_key_given_as_text_with_its_passphrase_logs_in(host, target, release, tmp_path):
    locked = with_passphrase(host.key_file, tmp_path / "locked", "secret words")
    text = replace(host.address, key_file=None, private_key=locked.read_text())
    opened = replace(target, address=replace(text, passphrase="secret words")).open(Placement())
    await opened.preflight(order_of(release))
    await opened.finish(order_of(release))
    await opened.close()
    with pytest.raises(TargetRefused, match="passphrase") as refused:
        await (
            replace(target, address=replace(text, passphrase="wrong"))
            .open(Placement())
            .preflight(order_of(release))
        )
    assert "wrong" not in str(refused.value)
    assert "secret" not in repr(replace(text, passphrase="secret words"))


async def test_a_host_that_is_not_there_is_unreachable(host, release):
    port = free_port()
    spec = SshTarget(name="edge", address=replace(host.address, port=port))
    with pytest.raises(TargetUnreachable, match=f"edge: no connection to 127.0.0.1:{port}"):
        await spec.open(Placement()).preflight(order_of(release))


async def test_a_command_that_does_not_end_meets_its_limit_on_any_shell(host, tmp_path):
    for shell in (SshShell("edge", host.address), LocalShell(name="local", home=tmp_path)):
        with pytest.raises(TargetUnreachable, match="did not end within"):
            await shell.run("sleep 1000", limit=timedelta(seconds=0.3))
        assert (await shell.run("echo again")).stdout == "again\n"
        await shell.close()


async def test_a_host_that_answers_without_end_does_not_fill_the_worker_s_memory(host):
    shell = SshShell("edge", host.address)
    with pytest.raises(TargetUnreachable, match="more than 16777216 bytes"):
        await shell.run("cat /dev/zero")
    await shell.close()


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
        await asyncio.to_thread(subprocess.run, ["flock", model, "true"], check=True)
        assert (await opened.inspect("digits")).committed == committed
        await opened.finish(order)
        await opened.close()


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
