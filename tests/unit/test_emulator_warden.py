"""The warden: everything that a command starts ends with it, or with who holds the warden's input."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from hybrid_provider.emulator import warden
from hybrid_provider.emulator.processes import Program

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ENVIRONMENT = {"PATH": "/usr/bin:/bin"}


@contextmanager
def sh(command: str, folder: Path, **settings: object) -> Iterator[Program]:
    program = Program(["sh", "-c", command], environment=ENVIRONMENT, folder=folder, **settings)
    try:
        yield program
    finally:
        program.end()


def pid_in(file: Path) -> int:
    """The pid that a process writes into ``file``."""
    until(lambda: file.exists() and file.read_text().endswith("\n"))
    return int(file.read_text())


def until(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize(("command", "status"), [("exit 0", 0), ("exit 7", 7), ("kill -KILL $$", 137)])
def test_the_commands_exit_status_is_the_programs(tmp_path: Path, command: str, status: int) -> None:
    with sh(command, tmp_path) as program:
        assert program.wait(20) == status


def test_a_process_that_left_the_session_ends_with_the_command(tmp_path: Path) -> None:
    with sh("setsid sh -c 'echo $$ > stray.pid; exec sleep 600' & sleep 600", tmp_path) as program:
        stray = pid_in(tmp_path / "stray.pid")
        program.terminate()
        assert program.wait(20) == 128 + signal.SIGTERM
    assert not alive(stray)


def test_sigterm_reaches_the_command_and_lets_it_end_in_its_own_way(tmp_path: Path) -> None:
    with sh("trap 'exit 5' TERM; echo $$ > me.pid; while :; do sleep 0.01; done", tmp_path) as program:
        pid_in(tmp_path / "me.pid")
        program.terminate()
        assert program.wait(20) == 5


def test_a_script_may_save_after_sigterm_though_its_starter_dies_of_it(tmp_path: Path) -> None:
    script = "trap 'sleep 0.3; echo saved > model; exit' TERM; echo $$ > me.pid; while :; do sleep 0.01; done"
    with sh(f'sh -c "{script.replace("$", chr(92) + "$")}" & exec sleep 600', tmp_path) as program:
        pid_in(tmp_path / "me.pid")
        program.terminate()
        assert program.wait(20) == 128 + signal.SIGTERM
    assert (tmp_path / "model").read_text() == "saved\n"


def test_the_end_kills_what_ignores_it(tmp_path: Path) -> None:
    stubborn = "trap '' TERM; echo $$ > me.pid; while :; do sleep 0.01; done"
    with sh(stubborn, tmp_path, grace_seconds=0.05):
        pid = pid_in(tmp_path / "me.pid")
    assert not alive(pid)


def test_everything_ends_when_the_holder_of_the_input_is_killed(tmp_path: Path) -> None:
    """As when the emulator gets a SIGKILL: nobody is left to tell the warden anything."""
    holder_code = (
        "import subprocess, sys, time; "
        "subprocess.Popen(sys.argv[1:], stdin=subprocess.PIPE, start_new_session=True); time.sleep(600)"
    )
    command = "setsid sh -c 'echo $$ > stray.pid; exec sleep 600' & echo $$ > me.pid; wait; sleep 600"
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            holder_code,
            sys.executable,
            "-I",
            "-S",
            warden.__file__,
            "1",
            "sh",
            "-c",
            command,
        ],
        cwd=tmp_path,
    )
    pids = [pid_in(tmp_path / "me.pid"), pid_in(tmp_path / "stray.pid")]
    holder.kill()
    holder.wait()
    until(lambda: not any(alive(pid) for pid in pids))


def test_the_end_does_not_wait_for_a_fork_that_holds_the_input_open(tmp_path: Path) -> None:
    with sh("echo $$ > me.pid; sleep 600", tmp_path) as program:
        pid = pid_in(tmp_path / "me.pid")
        held_open = os.dup(program._process.stdin.fileno())
    os.close(held_open)
    assert not alive(pid)


def test_a_program_sees_its_own_environment_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_OF_THE_TESTS", "1")
    with sh("env", tmp_path, output=subprocess.PIPE) as program:
        names = {line.partition(b"=")[0] for line in program.stdout}
    assert names - {b"PWD", b"OLDPWD", b"_", b"SHLVL", b"LC_CTYPE"} == {b"PATH"}


def test_a_command_has_the_signals_of_a_login_not_those_of_python(tmp_path: Path) -> None:
    with sh("grep ^SigIgn /proc/self/status", tmp_path, output=subprocess.PIPE) as program:
        ignored = int(program.stdout.read().split()[1], 16)
    assert not ignored & (1 << (signal.SIGPIPE - 1))
