"""What a host must have for a POSIX target: a shell and a few programs, of coreutils or BusyBox."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import pytest

from hybrid_provider.exceptions import TargetNotReady
from hybrid_provider.rollout.probe import AllProbes, HttpProbe, TcpProbe, programs_of
from hybrid_provider.targets.shell import shell_text
from hybrid_provider.targets.target import Placement
from tests.integration.posixtargets import odd_release, order_of
from tests.integration.sshhosts import dropbear
from tests.releases import make_release
from tests.servers import require_program

DOCUMENTED = re.search(
    r"`(date .*?)`.*?`(flock .*?)`", (Path(__file__).parents[2] / "docs/ssh-hosts.md").read_text(), re.DOTALL
)
NEEDED = " ".join(DOCUMENTED.groups()).split()


@pytest.fixture
def release(tmp_path):
    return odd_release(tmp_path / "store")


@pytest.mark.parametrize(
    ("program", "package", "applet"),
    [("dash", "dash", []), ("busybox", "busybox-static", ["sh"])],
    ids=["dash", "busybox"],
)
def test_every_script_is_understood_by_the_shells_of_hosts(program, package, applet):
    shell = [require_program(program, package), *applet]
    for script in files("hybrid_provider.targets").joinpath("scripts").iterdir():
        text = shell_text(script.name.removesuffix(".sh"))
        assert subprocess.run([*shell, "-n"], input=text, text=True, check=False).returncode == 0


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


def only(programs, folder, busybox):
    """A host's PATH with these programs, of BusyBox or of this machine, and nothing else."""
    folder.mkdir()
    for program in (*programs, "sh"):
        # Debian builds its BusyBox without flock, which others have, and its sh finds all applets anywhere.
        source = "busybox" if busybox and program not in {"flock", "sh"} else program
        (folder / program).symlink_to(require_program(source, "busybox-static"))
    return folder


def with_no_more_than(path, spec):
    """A target whose every script finds these programs alone."""
    opened = spec.open(Placement())
    run = opened._shell.run

    async def run_with_these(script, stdin=None, limit=None):
        return await run(f"PATH={path} exec {path}/sh -c {shlex.quote(script)}", stdin, limit)

    opened._shell.run = run_with_these
    return opened


@pytest.mark.parametrize("busybox", [False, True], ids=["coreutils", "busybox"])
async def test_a_host_needs_no_more_than_is_documented(target, release, tmp_path, busybox):
    """No cat, grep, awk, cut, sort, readlink, tail, tr, wc, id, sync, setsid, openssl, python or perl."""
    path = only(NEEDED, tmp_path / "bin", busybox)
    after = make_release(tmp_path / "store", {"model.onnx": b"2", "a b/ü 'quoted' $(name)": b"odd"}, minute=1)
    opened = with_no_more_than(path, target)
    for number, release_ in enumerate((release, release, after)):
        order = order_of(release_, f"r-{number}")
        await opened.preflight(order)
        await opened.stage(order, lambda _: None)
        await opened.activate(order, release_.release_id)
        await opened.commit(order)
        await opened.finish(order)
        assert "not found" not in (tmp_path / "models/digits/.activation/log").read_text()
    current = tmp_path / "models/digits/current"
    assert (await opened.inspect("digits", rehash=True)).changed == ()
    (current / "model.onnx").unlink()
    (current / "more").write_bytes(b"1")
    # In place would change the other release as well, which has the same file.
    (current / "a b/ü 'quoted' $(name)").unlink()
    (current / "a b/ü 'quoted' $(name)").write_bytes(b"add")
    found = await opened.inspect("digits", rehash=True)
    assert found.changed == ("a b/ü 'quoted' $(name)", "model.onnx", "more")
    order = order_of(None, "back")
    await opened.activate(order, (await opened.preflight(order)).previous)
    await opened.commit(order)
    await opened.finish(order)
    found = await opened.inspect("digits", rehash=True)
    assert (found.committed, found.changed) == (release.release_id, ())
    assert json.loads((tmp_path / "models/digits/state.json").read_text())["digest"] == release.digest
    await opened.close()


async def test_a_missing_program_is_found_by_its_name_before_a_byte_is_sent(target, release, tmp_path):
    path = only(NEEDED, tmp_path / "bin", busybox=False)
    for program in NEEDED:
        (path / program).rename(tmp_path / "away")
        opened = with_no_more_than(path, target)
        with pytest.raises(TargetNotReady, match=f"the program {program} is missing; install") as found:
            await opened.preflight(order_of(release))
        assert "B free" not in str(found.value)
        await opened.close()
        (tmp_path / "away").rename(path / program)


async def test_what_the_probe_needs_on_the_host_is_found_missing_with_all_else(target, release, tmp_path):
    """A probe that asks there could never pass without it."""
    path = only([program for program in NEEDED if program != "flock"], tmp_path / "bin", busybox=False)
    probe = AllProbes((HttpProbe(on_host=True), TcpProbe(port=1, on_host=True), HttpProbe()))
    order = replace(order_of(release), programs=programs_of(probe))
    opened = with_no_more_than(path, target)
    with pytest.raises(TargetNotReady) as found:
        await opened.preflight(order)
    for missing in ("the program flock is missing", "by curl/wget, and that is missing", "by nc, and that"):
        assert missing in str(found.value)
    await opened.close()
    (path / "wget").symlink_to("/bin/true")
    opened = with_no_more_than(path, target)
    with pytest.raises(TargetNotReady, match="by nc, and that is missing; install it") as found:
        await opened.preflight(order)
    assert "curl" not in str(found.value)
    await opened.close()
