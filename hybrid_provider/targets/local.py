"""This machine as a target."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from hybrid_provider.exceptions import TargetUnreachable
from hybrid_provider.names import checked_name
from hybrid_provider.targets.posix import PosixTarget
from hybrid_provider.targets.shell import Finished
from hybrid_provider.targets.target import Placement

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@dataclass(frozen=True, kw_only=True)
class LocalShell:
    """Runs scripts on this machine.

    Attributes:
        name: The target's name.
        host: The address that a probe asks.
        home: The working directory of scripts.
        command_timeout: How long a script without a stream may take.
    """

    name: str
    host: str = "127.0.0.1"
    home: Path = field(default_factory=Path.home)
    command_timeout: timedelta = timedelta(seconds=60)

    async def run(
        self, script: str, stdin: AsyncIterator[bytes] | None = None, limit: timedelta | None = None
    ) -> Finished:
        """See :meth:`hybrid_provider.targets.shell.Shell.run`."""
        limit = limit or (self.command_timeout if stdin is None else None)
        process = await asyncio.create_subprocess_exec(
            "/bin/sh",
            "-c",
            script,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            cwd=self.home,
            env={**os.environ, "HOME": str(self.home)},
            start_new_session=True,
        )
        try:
            async with asyncio.timeout(limit.total_seconds() if limit else None):
                _, stdout, stderr = await asyncio.gather(
                    _feed(process.stdin, stdin), _drain(process.stdout), _drain(process.stderr)
                )
                exit_code = await process.wait()
        except TimeoutError:
            raise TargetUnreachable(self.name, f"a command did not end within {limit}") from None
        finally:
            if process.returncode is None:
                # The whole session: a script's own children would else go on.
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                await process.wait()
        return Finished(exit_code=exit_code, stdout=stdout, stderr=stderr)

    async def close(self) -> None:
        """There is no connection."""


async def _feed(pipe: asyncio.StreamWriter | None, chunks: AsyncIterator[bytes] | None) -> None:
    if pipe is None:
        return
    # A script that fails closes its input early; its exit code and message say why.
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        if chunks is not None:
            async for chunk in chunks:
                pipe.write(chunk)
                await pipe.drain()
        pipe.close()
        await pipe.wait_closed()


async def _drain(pipe: asyncio.StreamReader | None) -> str:
    return "" if pipe is None else (await pipe.read()).decode(errors="replace")


@dataclass(frozen=True, kw_only=True)
class LocalTarget:
    """This machine, as a member of a fleet."""

    name: str = "localhost"
    home: Path = field(default_factory=Path.home)
    placement: Placement = field(default_factory=Placement)

    def __post_init__(self) -> None:
        checked_name("target", self.name)

    def open(self, fleet: Placement) -> PosixTarget:
        """See :class:`hybrid_provider.targets.target.TargetSpec`."""
        return PosixTarget(LocalShell(name=self.name, home=self.home), self.placement.over(fleet))
