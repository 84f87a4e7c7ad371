"""Programs that the emulator runs: each under a warden, none left behind."""

from __future__ import annotations

import contextlib
import random
import signal
import socket
import subprocess
import sys
import time
from typing import IO, TYPE_CHECKING, Final

from hybrid_provider.emulator import warden

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

# SeaweedFS, which serves S3, listens for gRPC so far above each of its ports.
SECOND_PORT: Final = 10_000
# Below 32768, from where Linux takes the ports of outgoing connections: one of those may come to stand on a
# port between its choice and its use. Both ports of a pair are.
_PORTS: Final = range(10_240, 32_768 - SECOND_PORT)


class EmulatorError(Exception):
    """A part of the emulator could not start; the message says which, why, and what to do."""


class Program:
    """One running program and all that it starts.

    Args:
        command: The program and its arguments; no shell is involved.
        environment: Its whole environment; nothing is inherited.
        folder: Its working directory.
        output: Where its standard output and error go: a file's descriptor, ``subprocess.PIPE`` or DEVNULL.
        errors: Where its standard error goes, if elsewhere.
        grace_seconds: From SIGTERM to SIGKILL when it is ended.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        environment: Mapping[str, str],
        folder: Path,
        output: int | IO[bytes] = subprocess.DEVNULL,
        errors: int | IO[bytes] = subprocess.STDOUT,
        grace_seconds: float = 1.0,
    ) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", warden.__file__, str(grace_seconds), *command],
            env=dict(environment),
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=errors,
            # Ctrl-C in a terminal is for the emulator, which then ends its programs in order.
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        """The warden's pid; the program is its child."""
        return self._process.pid

    @property
    def stdout(self) -> IO[bytes]:
        """What the program writes, if ``output`` was PIPE."""
        if self._process.stdout is None:
            raise ValueError("the program was started without a pipe for its output")
        return self._process.stdout

    def poll(self) -> int | None:
        """The exit status, or None while the program runs."""
        return self._process.poll()

    def wait(self, seconds: float | None = None) -> int | None:
        """The exit status; None if the program still runs after ``seconds``."""
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None

    def terminate(self) -> None:
        """Send SIGTERM to the program's process group."""
        self._process.terminate()

    def begin_end(self) -> None:
        """Have the warden end the program and all that it started; several can so end at once."""
        self._process.send_signal(signal.SIGUSR1)

    def end(self) -> int:
        """End the program and all that it started: SIGTERM, and SIGKILL after the grace; its exit status."""
        self.begin_end()
        status = self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        return status


class Programs:
    """The programs of one emulator, so that they can be ended together."""

    def __init__(self) -> None:
        self._started: list[Program] = []

    def add(self, program: Program) -> Program:
        """Have a program ended with the others."""
        self._started.append(program)
        return program

    def end(self) -> None:
        """End all programs at once, and wait for each."""
        for program in self._started:
            program.begin_end()
        for program in self._started:
            program.end()
        self._started.clear()


def free_ports(address: str, count: int) -> list[int]:
    """Ports that nothing listens on now, each with the one ``SECOND_PORT`` above it.

    They are held until all are known, so that they differ. Another program may still take one before it is
    used; whoever starts a server on it finds out by the server's end.
    """
    found: list[int] = []
    with contextlib.ExitStack() as held:
        while len(found) < count:
            port = random.choice(_PORTS)  # noqa: S311 - no secret
            with contextlib.suppress(OSError):
                for one in (port, port + SECOND_PORT):
                    held.enter_context(socket.socket()).bind((address, one))
                found.append(port)
    return found


def require_free(address: str, port: int, what: str) -> None:
    """Find out before a server starts that its port is taken, where the reason can still be told.

    Raises:
        EmulatorError: Something listens on the port.
    """
    with socket.socket() as listener:
        # As servers do: a connection of a former server that is still closing is no obstacle.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((address, port))
        except OSError as error:
            raise EmulatorError(
                f"port {port} of {address}, for {what}, cannot be used ({error.strerror}); "
                "stop what listens there or choose another first port"
            ) from None


def wait_until_listening(program: Program, address: str, port: int, *, what: str, log: Path) -> None:
    """Return when ``program`` accepts connections on ``port``.

    Raises:
        EmulatorError: It ended, or did not listen within 60 seconds; with the last lines of ``log``.
    """
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if program.poll() is not None:
            break
        with contextlib.suppress(OSError), socket.create_connection((address, port), timeout=1):
            return
        time.sleep(0.02)
    raise EmulatorError(f"{what} did not start on {address}:{port}: {last_words(log)}")


def last_words(log: Path) -> str:
    """The last lines of a program's log, on one line."""
    lines = log.read_text(errors="replace").splitlines()[-5:] if log.exists() else []
    return " | ".join(line.strip() for line in lines if line.strip()) or "it said nothing"
