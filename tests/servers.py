"""Real servers for tests: found, started on a free loopback port, stopped by their pid."""

from __future__ import annotations

import os
import shutil

import pytest

from hybrid_provider.emulator.processes import free_ports

REQUIRE_ALL = os.environ.get("HYBRID_REQUIRE_ALL") == "1"


def find_program(name: str) -> str | None:
    """The path of a program, None if the machine lacks it."""
    return shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")


def require_program(name: str, package: str) -> str:
    """The path of a program that a user's machine may lack; absent, the test skips, and in CI it fails."""
    path = find_program(name)
    if path is None:
        reason = f"{name} is not installed (Debian package {package})"
        if REQUIRE_ALL:
            pytest.fail(f"{reason}, and HYBRID_REQUIRE_ALL=1 allows no skip")
        pytest.skip(reason)
    return path


def free_port() -> int:
    """A port that nothing listens on now."""
    return free_ports("127.0.0.1", 1)[0]
