"""`make demo` on a machine where something is missing says what, in one line."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

SETUP = Path(__file__).parents[2] / "scripts" / "setup-venv"


@pytest.fixture
def machine(tmp_path):
    """A PATH with nothing but a shell's own programs; stand-ins of Python are put beside them."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("sh", "echo"):
        (programs / name).symlink_to(shutil.which(name))

    def run(**standins):
        for name, script in standins.items():
            path = programs / name
            path.write_text(f"#!/bin/sh\n{script}\n")
            path.chmod(0o755)
        return subprocess.run(
            [SETUP, "dev"],
            cwd=tmp_path,
            env={"PATH": str(programs)},
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def test_without_python_one_line_says_so(machine):
    done = machine()

    assert done.returncode == 1
    assert done.stderr == (
        "setup: Python 3.11 or newer is needed, found no python3; install it, or name it: "
        "make PYTHON=/path/to/python3.12\n"
    )


def test_an_old_python_is_named_with_its_version(machine):
    done = machine(python3='[ "$1" = --version ] && echo "Python 3.9.2" && exit 0; exit 1')

    assert done.returncode == 1
    assert "found Python 3.9.2" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_python_without_venv_is_told_with_the_package_to_install(machine):
    done = machine(python3='case "$2" in *ensurepip*) exit 1 ;; esac; exit 0')

    assert done.returncode == 1
    assert "has no venv module" in done.stderr
    assert "apt-get install python3-venv" in done.stderr


def test_make_up_names_a_port_that_is_in_use(tmp_path):
    import socket
    import sys

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = subprocess.run(
            [sys.executable, "-m", "playground.up", "--port", str(port), "--folder", tmp_path],
            cwd=SETUP.parents[1], capture_output=True, text=True, check=False,
        )  # fmt: skip

    assert done.returncode == 1
    assert f"port {port} is in use" in done.stdout
    assert list(tmp_path.iterdir()) == []
