"""A Docker Engine of the tests' own: started here, stopped by its pid, nothing left but its cache of images."""

from __future__ import annotations

import fcntl
import os
import re
import subprocess
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.servers import REQUIRE_ALL, require_program

if TYPE_CHECKING:
    from collections.abc import Iterator

START_SECONDS = 60
STOP_SECONDS = 60
# Of the longest command, which builds all images; one that hangs ends, also where pytest's own limit has passed.
COMMAND_SECONDS = 900


@dataclass(frozen=True)
class Engine:
    """A running engine.

    Attributes:
        environment: What a docker command needs to reach it.
        log: The file that dockerd writes to.
    """

    environment: dict[str, str]
    log: Path

    @property
    def socket(self) -> str:
        """The URL of its socket."""
        return self.environment["DOCKER_HOST"]

    def docker(self, *arguments: str, given: str | None = None, check: bool = True) -> str:
        """Run a docker command; its standard output, or the test's failure with all that it wrote."""
        done = subprocess.run(
            ["docker", *arguments],
            env=self.environment,
            input=given,
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS,
            check=False,
        )
        if check and done.returncode != 0:
            pytest.fail(
                f"docker {' '.join(arguments)} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
            )
        return done.stdout


@contextmanager
def engine(cache: Path, scratch: Path, *options: str) -> Iterator[Engine]:
    """Start dockerd with its images in ``cache``, where the next run finds them, and all else in ``scratch``."""
    require_an_engine()
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("w") as lock:
        # Two engines on one folder of images would destroy it.
        fcntl.flock(lock, fcntl.LOCK_EX)
        there_before = bridges()
        log = scratch / "dockerd.log"
        socket = f"unix://{scratch}/docker.sock"
        command = [
            *("dockerd", "--data-root", str(cache / "engine"), "--exec-root", str(scratch / "exec")),
            *("--host", socket, "--pidfile", str(scratch / "pid"), *options),
        ]
        with log.open("wb") as output:
            # Should this process be killed, the engine ends as well. It tells the time as in its host's zone.
            daemon = subprocess.Popen(
                ["setpriv", "--pdeathsig", "TERM", *command],
                env=os.environ | {"TZ": "America/New_York"},
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        try:
            running = Engine(os.environ | {"DOCKER_HOST": socket}, log)
            wait_until_it_answers(running, daemon)
            yield running
        finally:
            stop(daemon)
            for folder in (scratch, cache):
                unmount_all_under(folder)
            # Each takes one of the thirty ranges of addresses that an engine gives its networks.
            for bridge in bridges() - there_before:
                subprocess.run(["ip", "link", "delete", bridge], stderr=subprocess.DEVNULL, check=False)


def require_an_engine() -> None:
    """Skip, or fail where no skip is allowed, unless an engine can run here."""
    for program, package in (
        ("docker", "docker.io"),
        ("dockerd", "docker.io"),
        ("ip", "iproute2"),
        ("setpriv", "util-linux"),
    ):
        require_program(program, package)
    if os.geteuid() != 0:
        give_up("a Docker Engine of the tests' own needs root")
    if others := pids_of("dockerd"):
        # Each engine writes the machine's firewall rules as if it were alone.
        give_up(f"another Docker Engine runs on this machine (pid {others[0]})")


def give_up(reason: str) -> None:
    """Skip with the reason; in CI, fail with it."""
    if REQUIRE_ALL:
        pytest.fail(f"{reason}, and HYBRID_REQUIRE_ALL=1 allows no skip")
    pytest.skip(reason)


def pids_of(program: str) -> list[int]:
    """The processes of that name."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if (entry / "comm").read_text().strip() == program:
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def wait_until_it_answers(running: Engine, daemon: subprocess.Popen[bytes]) -> None:
    """Return when the engine answers; fail with the end of its log when it does not."""
    deadline = time.monotonic() + START_SECONDS
    while not running.docker("info", "--format", "{{.ServerVersion}}", check=False).strip():
        if daemon.poll() is not None or time.monotonic() > deadline:
            give_up("dockerd did not start:\n" + "\n".join(running.log.read_text().splitlines()[-20:]))
        time.sleep(0.2)


def stop(daemon: subprocess.Popen[bytes]) -> None:
    """Ask dockerd to end, and with it its containers; make it, if it does not."""
    daemon.terminate()
    try:
        daemon.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        daemon.kill()
        daemon.wait()


def bridges() -> set[str]:
    """The bridges that engines made on this machine."""
    names = (path.name for path in Path("/sys/class/net").iterdir())
    return {name for name in names if re.fullmatch(r"docker0|br-[0-9a-f]{12}", name)}


def mounts_under(folder: Path) -> list[str]:
    """What is mounted in ``folder``, the deepest first."""
    lines = Path("/proc/self/mounts").read_text().splitlines()
    return sorted(
        (line.split()[1] for line in lines if line.split()[1].startswith(f"{folder}/")), reverse=True
    )


def unmount_all_under(folder: Path) -> None:
    """Undo the mounts that dockerd leaves behind."""
    for point in mounts_under(folder):
        subprocess.run(["umount", "--lazy", point], check=False)
