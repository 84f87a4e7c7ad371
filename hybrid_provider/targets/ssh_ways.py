"""How a connection gets to a host: straight, over a jump host, or through a command on this machine."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shlex
import signal
import socket
import tempfile
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from hybrid_provider.exceptions import ConfigurationError, TargetError, TargetUnreachable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import asyncssh

    from hybrid_provider.targets.ssh import SshAddress

    Connect = Callable[[str, SshAddress], Awaitable[asyncssh.SSHClientConnection]]

_PLACEHOLDER = re.compile(r"%(.)")


@dataclass(frozen=True)
class Way:
    """One way to one host, for one connection.

    Attributes:
        options: What :func:`asyncssh.connect` is told.
        leave: Lets go of it; the second time nothing.
        said: What stands in the way had to say, for an error.
    """

    options: dict[str, Any] = field(default_factory=dict)
    leave: Callable[[], None] = lambda: None
    said: Callable[[], str] = lambda: ""


@dataclass
class _Jump:
    """The connection to a jump host that all targets behind it share: its sshd counts logins too."""

    opening: asyncio.Lock = field(default_factory=asyncio.Lock)
    connection: asyncssh.SSHClientConnection | None = None
    users: int = 0


_jumps: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[SshAddress, _Jump]] = WeakKeyDictionary()


async def way_to(name: str, address: SshAddress, connect: Connect) -> Way:
    """The way to a host.

    Args:
        name: The target's name, for errors.
        address: Of the host.
        connect: Opens the connection to a jump host.

    Raises:
        TargetError: There is none, as :func:`hybrid_provider.targets.ssh_login.connect` says it of the
            jump host, or because the command does not start.
    """
    if address.jump is not None:
        return await _over(name, address.jump, connect)
    if address.proxy_command is not None:
        return await _through(name, address)
    return Way()


async def _over(name: str, address: SshAddress, connect: Connect) -> Way:
    jumps = _jumps.setdefault(asyncio.get_running_loop(), {})
    jump = jumps.setdefault(address, _Jump())
    jump.users += 1

    def leave() -> None:
        jump.users -= 1
        if not jump.users:
            del jumps[address]
            if jump.connection is not None:
                jump.connection.close()

    leave = _once(leave)
    try:
        async with jump.opening:
            if jump.connection is None or jump.connection.is_closed():
                jump.connection = await connect(name, address)
    except TargetError as error:
        leave()
        raise type(error)(name, f"its jump host: {error.reason}") from None
    except BaseException:
        leave()
        raise
    return Way({"tunnel": jump.connection}, leave)


async def _through(name: str, address: SshAddress) -> Way:
    """A command's input and output as the connection.

    A pair of sockets and not pipes, so that a slow network slows us as a TCP connection's does.
    """
    words = proxy_words(address.proxy_command or "", address.host, address.port, address.user)
    complaints = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `leave`
    ours, theirs = socket.socketpair()
    try:
        process = await asyncio.create_subprocess_exec(
            *words, stdin=theirs.fileno(), stdout=theirs.fileno(), stderr=complaints, start_new_session=True
        )
    except OSError as error:
        ours.close()
        complaints.close()
        raise TargetUnreachable(
            name, f"the proxy command {words[0]!r} does not start on this worker: {error.strerror}"
        ) from None
    finally:
        theirs.close()

    last = ""

    def said() -> str:
        nonlocal last
        if not complaints.closed:
            complaints.seek(0)
            words = b" ".join(complaints.read().splitlines()[-3:]).decode(errors="replace")
            last = f"; the proxy command said: {words}" if words else ""
        return last

    def leave() -> None:
        said()
        ours.close()
        complaints.close()
        if process.returncode is None:
            # With all that it has started.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)

    return Way({"sock": ours}, _once(leave), said)


def proxy_words(command: str, host: str, port: int, user: str) -> list[str]:
    """The words of a proxy command, for no shell; ``%h``, ``%p``, ``%r`` and ``%%`` are replaced.

    Raises:
        ConfigurationError: It is no command, or has another placeholder.
    """
    known = {"h": host, "p": str(port), "r": user, "%": "%"}

    def meant(found: re.Match[str]) -> str:
        if found[1] not in known:
            raise ConfigurationError(f"proxy command {command!r}: %{found[1]} is none of %h, %p, %r and %%")
        return known[found[1]]

    try:
        words = shlex.split(command)
    except ValueError as error:
        raise ConfigurationError(f"proxy command {command!r}: {error}") from None
    if not words:
        raise ConfigurationError("the proxy command is empty; write one such as `ssh -W %h:%p bastion`")
    return [_PLACEHOLDER.sub(meant, word) for word in words]


def _once(act: Callable[[], None]) -> Callable[[], None]:
    done: list[bool] = []

    def only_once() -> None:
        if not done:
            done.append(True)
            act()

    return only_once
