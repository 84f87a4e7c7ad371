"""A POSIX target among people who wish it ill: in names, in its folders, in its answers, in its environment."""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace

import pytest

from hybrid_provider.exceptions import TargetError, TargetFailed, TargetLocked, TargetNotReady
from hybrid_provider.targets.local import LocalTarget
from hybrid_provider.targets.target import Placement, Readiness
from tests.integration.posixtargets import deployed, order_of, staged, with_program
from tests.integration.sshhosts import sshd
from tests.releases import make_release

HOSTILE_NAMES = [
    "-rf",
    "--checkpoint-action=exec=sh",
    "-/-C",
    "a b/ c ",
    "$(touch owned)",
    "`touch owned`",
    "; touch owned",
    "a'b\"c",
    "%s%n",
    "*",
    "?/[a-z]",
    "~",
    "#no comment",
    "a -> b",
    "model: OK",
    "model: FAILED",
    "manifest",
    "links",
    "files/x",
    "current",
    ".lease",
    "ünï/日本語",
    "x" * 200 + "/" + "y" * 200,
]


@pytest.fixture
def release(tmp_path):
    return make_release(tmp_path / "store", {"model.onnx": b"1" * 5000, "labels": b"2"})


async def test_names_of_files_do_nothing_but_name_them(target, tmp_path, any_file_name):
    contents = {name: f"{number} of many".encode() for number, name in enumerate(HOSTILE_NAMES)}
    first = make_release(tmp_path / "store", contents)
    # The second time each is linked, and two are renamed.
    moved = {"-moved $(id)": contents.pop("-rf"), "*/moved": contents.pop("*")}
    second = make_release(tmp_path / "store", contents | moved, minute=1)
    await deployed(target, first, "r-1")
    result = await deployed(target, second, "r-2")
    assert (result.bytes_sent, result.bytes_linked) == (0, second.manifest.size_bytes)
    model = tmp_path / "models/digits"
    for release in (first, second):
        for file in release.manifest.files:
            there = model / "releases" / release.release_id / file.path
            assert there.read_bytes() == (release.path / file.path).read_bytes()
    assert not list(tmp_path.rglob("owned"))
    opened = target.open(Placement())
    assert (await opened.inspect("digits", rehash=True)).changed == ()
    (model / "current" / "a -> b").write_bytes(b"else")
    assert (await opened.inspect("digits", rehash=True)).changed == ("a -> b",)
    await opened.close()


@pytest.mark.parametrize("folder", ["releases", "manifests", "verified", ".staging", ".activation"])
async def test_a_folder_that_is_a_link_is_refused_and_what_it_leads_to_is_left_alone(
    target, release, tmp_path, folder
):
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "precious").mkdir(parents=True)
    model = tmp_path / "models/digits"
    model.mkdir(parents=True)
    (model / folder).symlink_to(elsewhere)
    opened = target.open(Placement())
    with pytest.raises(TargetNotReady, match=f"digits/{folder} is a link, and must be a folder"):
        await opened.preflight(order_of(release))
    await opened.finish(order_of(release))
    await opened.close()
    assert (elsewhere / "precious").is_dir()


async def test_a_folder_that_anybody_may_write_into_is_refused(target, release, tmp_path):
    models, model = tmp_path / "models", tmp_path / "models/digits"
    model.mkdir(parents=True)
    for mode_of_base, mode, refused in (
        (0o755, 0o777, f"into {model}; chmod o-w"),
        (0o777, 0o755, f"into {models}; chmod o-w"),
        (0o755, 0o1777, f"into {model}; chmod o-w"),
        (0o1777, 0o755, None),
    ):
        models.chmod(mode_of_base)
        model.chmod(mode)
        opened = target.open(Placement())
        if refused:
            with pytest.raises(TargetNotReady, match=refused):
                await opened.preflight(order_of(release))
        else:
            await opened.preflight(order_of(release))
            await opened.finish(order_of(release))
        await opened.close()


async def test_a_link_in_place_of_a_file_never_counts_as_the_file(target, release, tmp_path):
    opened, _, _ = await staged(target, order_of(release))
    model = tmp_path / "models/digits"
    file = model / "releases" / release.release_id / "model.onnx"
    file.rename(tmp_path / "same bytes")
    file.symlink_to(tmp_path / "same bytes")
    with pytest.raises(TargetFailed, match=r"changed since it was staged: these are no files: \./model.onnx"):
        await opened.activate(order_of(release), release.release_id)
    await opened.finish(order_of(release))
    await deployed(target, release, "r-2")
    file.unlink()
    file.symlink_to(tmp_path / "same bytes")
    assert (await opened.inspect("digits", rehash=True)).changed == ("model.onnx",)
    await opened.close()


async def test_a_release_s_folder_that_is_a_link_is_no_release(target, release, tmp_path):
    await deployed(target, release, "r-1")
    there = tmp_path / "models/digits/releases" / release.release_id
    there.rename(tmp_path / "moved")
    there.symlink_to(tmp_path / "moved")
    opened, readiness, result = await staged(target, order_of(release, "r-2"))
    assert not readiness.present
    assert result.bytes_sent == release.manifest.size_bytes
    await opened.finish(order_of(release, "r-2"))
    await opened.close()
    assert not there.is_symlink()


@pytest.mark.parametrize(
    "answer",
    [
        "epoch never",
        "free 1 2 3",
        "free a b c d",
        "current ../../etc",
        "committed x 99999999999999999999999",
        "since 999999999999999999999",
        "release $(reboot)",
        "previous <script>",
        "",
    ],
)
async def test_an_answer_that_makes_no_sense_is_the_target_s_failure(target, release, answer):
    opened = target.open(Placement())
    run = opened._shell.run

    async def answering(_script, stdin=None, limit=None):
        return await run(f"cat <<'END'\n{answer}\nEND", stdin, limit)

    opened._shell.run = answering
    for ask in (lambda: opened.preflight(order_of(release)), lambda: opened.inspect("digits")):
        try:
            await ask()
        except TargetError as failure:
            assert "makes no sense" in str(failure) or "0 B free" in str(failure)  # noqa: PT017 - some make sense
    opened._shell.run = run
    await opened.close()


async def test_what_a_host_says_commands_no_terminal_and_drowns_no_log(target, release):
    opened = target.open(Placement())
    run = opened._shell.run
    for said in ("fail", "fault"):

        async def lying(_script, stdin=None, limit=None, said=said):
            text = f"printf '{said} \\033]0;owned\\007\\r%0100000d\\n' 1; [ {said} = fault ]"
            return await run(text, stdin, limit)

        opened._shell.run = lying
        with pytest.raises(TargetError) as failure:
            await opened.preflight(order_of(release))
        assert str(failure.value).startswith("edge: ?]0;owned? 000")
        assert len(str(failure.value)) < 2_200
    opened._shell.run = run
    await opened.close()


async def test_what_the_login_prints_and_sets_changes_nothing(tmp_path, release):
    with sshd(tmp_path / "edge", "edge") as host:
        (tmp_path / "edge/home/.bashrc").write_text(
            "echo Welcome to edge; echo; echo 12 monkeys; export CDPATH=/:/tmp TAR_OPTIONS=--no-such-option\n"
        )
        await deployed(host.target, release, "r-1")
        assert host.current == release.release_id


async def test_an_environment_that_leads_astray_changes_nothing(tmp_path, release, monkeypatch):
    (tmp_path / "decoy/models/digits").mkdir(parents=True)
    (tmp_path / "home").mkdir()
    for name, value in {
        "CDPATH": f"{tmp_path}/decoy",
        "TAR_OPTIONS": "--no-such-option",
        "proven": "x",
        "verify_all": "",
        "status": "0",
        "why": "no",
    }.items():
        monkeypatch.setenv(name, value)
    await deployed(LocalTarget(home=tmp_path / "home"), release, "r-1")
    assert (tmp_path / "home/models/digits/current").exists()
    assert list((tmp_path / "decoy/models/digits").iterdir()) == []


async def test_what_the_user_s_commands_say_is_for_no_other_user_of_the_host(target, release, tmp_path):
    placement = replace(target.placement, reload_command="TOKEN=secret true")
    await deployed(replace(target, placement=placement), release, "r-1")
    activation = tmp_path / "models/digits/.activation"
    assert "secret" in (activation / "run").read_text()
    assert activation.stat().st_mode & 0o777 == 0o700
    assert os.access(tmp_path / "models/digits/current/labels", os.R_OK)


async def test_a_base_folder_of_another_user_is_refused(target, release, tmp_path):
    models = tmp_path / "models"
    models.mkdir()
    os.chown(models, 1234, 1234)
    opened = target.open(Placement())
    with pytest.raises(TargetNotReady, match=f"the folder {models} belongs to user id 1234, who could"):
        await opened.preflight(order_of(release))
    await opened.close()


async def test_a_sha256sum_that_says_what_was_wished_is_found_out(target, release, tmp_path):
    opened = with_program(target.open(Placement()), tmp_path / "bin", "sha256sum", f"echo {release.digest}")
    with pytest.raises(TargetNotReady, match="its sha256sum gives a wrong sum"):
        await opened.preflight(order_of(release))
    await opened.finish(order_of(release))
    await opened.close()
    assert not (tmp_path / "models/digits").exists()


async def test_a_link_that_somebody_sets_by_hand_while_a_release_is_proved_is_not_taken_for_it(
    target, tmp_path
):
    made = [make_release(tmp_path / "store", {"n": str(n).encode()}, minute=n) for n in range(2)]
    await deployed(target, made[0], "r-0")
    opened, order = target.open(Placement()), order_of(made[1], "r-1")
    await opened.preflight(order)
    await opened.stage(order, lambda _: None)
    await opened.activate(order, made[1].release_id)
    current = tmp_path / "models/digits/current"
    current.unlink()
    current.symlink_to("/etc")
    with pytest.raises(TargetFailed, match="somebody set the link current to something else"):
        await opened.commit(order)
    await opened.finish(order)
    assert current.readlink().name == made[0].release_id
    assert (await opened.inspect("digits")).committed == made[0].release_id
    await opened.close()


async def test_of_two_workers_that_come_at_once_one_gets_the_host(target, release):
    for turn in range(3):
        workers = [(target.open(Placement()), order_of(release, f"r-{turn}-{n}")) for n in range(3)]
        came = await asyncio.gather(
            *(opened.preflight(order) for opened, order in workers), return_exceptions=True
        )
        assert sorted(map(type, came), key=str) == [TargetLocked, TargetLocked, Readiness]
        for opened, order in workers:
            await opened.finish(order)
            await opened.close()
