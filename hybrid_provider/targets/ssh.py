"""Hosts reached over SSH, with their host keys enforced."""

from __future__ import annotations

import asyncio
import contextlib
import re
import secrets
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Final
from weakref import WeakKeyDictionary

from hybrid_provider.exceptions import (
    ConfigurationError,
    InvalidName,
    TargetUnreachable,
)
from hybrid_provider.names import checked_name
from hybrid_provider.targets.posix import PosixTarget
from hybrid_provider.targets.shell import Finished
from hybrid_provider.targets.ssh_bulk import send_in_bulk
from hybrid_provider.targets.ssh_login import connect, reason_of
from hybrid_provider.targets.ssh_ways import proxy_words
from hybrid_provider.targets.target import Placement

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    import asyncssh

# Measured with 1 GB on loopback: as fast as OpenSSH's own client; asyncssh's defaults take twice as long.
_PACKET_BYTES: Final = 2**18
_WINDOW_BYTES: Final = 2**24
# sshd's MaxStartups is 10:30:100: it begins to drop logins when 10 are under way. As Kamal.
_CONNECTS_AT_ONCE: Final = 30
# The shortest MaxSessions is 1: another command on the connection, such as a probe, is waited for.
_SESSION_TRIES: Final = 100
_SESSION_PAUSE_SECONDS: Final = 0.2
# The longest answer is the manifest of a release with some 100,000 files.
_ANSWER_BYTES: Final = 2**24
# Runs the text that stdin begins with: Dropbear takes a command of at most 9,000 characters, a csh none
# with a newline, a restricted shell no `exec`, and all users of a host see its list of processes. `read`
# takes no byte too many, and half a text is never run. docs/ssh/deploys-only has it as it is here.
_BOOTSTRAP: Final = (
    'sh -c \'s= k=1 n=$(printf "\\n_") n=${n%_}; '
    'while [ $k -gt 0 ]; do IFS= read -r l || exit 97; s=$s$n$l k=$((k-1)); done; eval "$s"\''
)
# That text. It takes the script in one go where there is a `dd`, and goes on to its end in any case: `read`
# asks the kernel for each byte, so that 7 kB of script took it as long as to start three programs.
_READING: Final = (
    "s=$(dd bs={size} count=1 2>/dev/null; printf _) s=${{s%_}}; "
    'until case $s in *"#{end}$n") ;; *) false ;; esac; '
    'do IFS= read -r l || exit 97; s=$s$l$n; done; eval "$s"\n'
)
_HOST = re.compile(r"[A-Za-z0-9:][A-Za-z0-9.:%_-]*")

_connecting: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore] = WeakKeyDictionary()


@dataclass(frozen=True, kw_only=True)
class SshAddress:
    """How to reach one SSH host, and how to know that it is this host.

    Attributes:
        host: Name or IP address.
        port: TCP port.
        user: Login name.
        host_keys: The host's public keys as in ``known_hosts``, without the name: ``ssh-ed25519 AAAA…``.
        key_file: A private key's file.
        private_key: A private key's text.
        passphrase: Of the private key.
        password: For password logins.
        jump: The host over which this one is reached; it has a key of its own that is enforced, and sees
            nothing of what passes.
        proxy_command: Run on the worker, by no shell: its input and output are the connection. ``%h``,
            ``%p`` and ``%r`` stand for host, port and user.
        connect_timeout: For TCP, key exchange and login together.
        command_timeout: For a script that streams nothing.
    """

    host: str
    user: str
    host_keys: tuple[str, ...]
    port: int = 22
    key_file: Path | None = None
    private_key: str | None = field(default=None, repr=False)
    passphrase: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    jump: SshAddress | None = None
    proxy_command: str | None = None
    connect_timeout: timedelta = timedelta(seconds=10)
    command_timeout: timedelta = timedelta(seconds=60)

    def __post_init__(self) -> None:
        if not _HOST.fullmatch(self.host) or ".." in self.host:
            raise InvalidName(f"host {self.host!r} is no host name and no IP address")
        if not self.host_keys:
            raise ConfigurationError(
                f"host {self.host}: no host key is known, so nobody could tell it from another; read it with "
                f"`ssh-keyscan -p {self.port} -t ed25519 {self.host}`, compare it with the host's own, "
                "and give it as host_key"
            )
        if self.proxy_command is not None:
            proxy_words(self.proxy_command, self.host, self.port, self.user)
            if self.jump is not None:
                raise ConfigurationError(
                    f"host {self.host}: it has a jump host and a proxy command; give one"
                )

    @property
    def where(self) -> str:
        """Host and port, and over which other host, for messages."""
        over = f" over {self.jump.where}" if self.jump else ""
        return f"{self.host}:{self.port}{over}"


class SshShell:
    """Runs scripts on one SSH host over one connection, opened again where it was lost in between."""

    def __init__(self, name: str, address: SshAddress) -> None:
        self.name = name
        self.address = address
        self._connection: asyncssh.SSHClientConnection | None = None
        self._opening = asyncio.Lock()

    @property
    def host(self) -> str:
        """The host's address."""
        return self.address.host

    async def run(
        self, script: str, stdin: AsyncIterator[bytes] | None = None, limit: timedelta | None = None
    ) -> Finished:
        """See :meth:`hybrid_provider.targets.shell.Shell.run`."""
        import asyncssh

        limit = limit or (self.address.command_timeout if stdin is None else None)
        connection = await self._connected()
        try:
            async with asyncio.timeout(limit.total_seconds() if limit else None):
                return await _run(connection, script, stdin)
        except TimeoutError:
            self._drop(connection)
            raise TargetUnreachable(
                self.name, f"a command did not end within {limit.total_seconds() if limit else 0:.0f} s"
            ) from None
        except (asyncssh.Error, OSError) as error:
            self._drop(connection)
            raise TargetUnreachable(
                self.name,
                f"the connection was lost: {reason_of(error)}; check the network and the host's sshd",
            ) from None
        except BaseException:
            # Closing it in good order would wait for a host that may be what the caller gave up on.
            self._drop(connection)
            raise

    async def close(self) -> None:
        """Close the connection, if there is one."""
        if self._connection is not None:
            self._connection.close()
            with contextlib.suppress(OSError):
                await self._connection.wait_closed()
            self._connection = None

    def _drop(self, connection: asyncssh.SSHClientConnection) -> None:
        """Let go of a connection that failed, without a word to a host that may not listen."""
        connection.abort()
        if self._connection is connection:
            self._connection = None

    async def _connected(self) -> asyncssh.SSHClientConnection:
        async with self._opening:
            if self._connection is None or self._connection.is_closed():
                async with _connect_slot():
                    self._connection = await connect(self.name, self.address)
            return self._connection


def _connect_slot() -> asyncio.Semaphore:
    loop = asyncio.get_running_loop()
    return _connecting.setdefault(loop, asyncio.Semaphore(_CONNECTS_AT_ONCE))


async def _run(
    connection: asyncssh.SSHClientConnection, script: str, stdin: AsyncIterator[bytes] | None
) -> Finished:
    import asyncssh

    # Nobody can guess it, so no value within the script ends it.
    end = secrets.token_hex(8)
    text = f"{script}\n#{end}\n".encode()
    process = await _session(connection, _BOOTSTRAP)
    if stdin is not None:
        send_in_bulk(process.channel)
    process.stdin.write(_READING.format(size=len(text), end=end).encode() + text)
    _, stdout, stderr = await asyncio.gather(
        _feed(process, stdin), _answer(process.stdout), _answer(process.stderr)
    )
    await process.wait_closed()
    if process.returncode is None:
        raise asyncssh.ConnectionLost("the command's end was not heard of")
    return Finished(exit_code=process.returncode, stdout=stdout, stderr=stderr)


async def _session(
    connection: asyncssh.SSHClientConnection, command: str
) -> asyncssh.SSHClientProcess[bytes]:
    """Begin a command, once one that runs has ended where sshd's MaxSessions allows no more beside it."""
    import asyncssh

    tries = _SESSION_TRIES
    while True:
        try:
            return await connection.create_process(
                command, encoding=None, max_pktsize=_PACKET_BYTES, window=_WINDOW_BYTES
            )
        except asyncssh.ChannelOpenError as error:
            tries -= 1
            if connection.is_closed() or not tries:
                raise asyncssh.ConnectionLost(
                    f"no further session within it: {error.reason}; sshd's MaxSessions must be at least 1"
                ) from None
            await asyncio.sleep(_SESSION_PAUSE_SECONDS)


async def _answer(stream: asyncssh.SSHReader[bytes]) -> str:
    """What a script writes, to its end; a host that never stops must not fill this machine's memory."""
    import asyncssh

    pieces, size_bytes = [], 0
    while piece := await stream.read(_PACKET_BYTES):
        pieces.append(piece)
        size_bytes += len(piece)
        if size_bytes > _ANSWER_BYTES:
            raise asyncssh.ConnectionLost(f"the host answered with more than {_ANSWER_BYTES} bytes")
    return b"".join(pieces).decode(errors="replace")


async def _feed(process: asyncssh.SSHClientProcess[bytes], chunks: AsyncIterator[bytes] | None) -> None:
    # A script that fails closes its input early; its exit code and message say why.
    with contextlib.suppress(BrokenPipeError):
        if chunks is not None:
            async for chunk in chunks:
                process.stdin.write(chunk)
                await process.stdin.drain()
        process.stdin.write_eof()


@dataclass(frozen=True, kw_only=True)
class SshTarget:
    """An SSH host, as a member of a fleet."""

    name: str
    address: SshAddress
    placement: Placement = field(default_factory=Placement)

    def __post_init__(self) -> None:
        checked_name("target", self.name)

    def open(self, fleet: Placement) -> PosixTarget:
        """See :class:`hybrid_provider.targets.target.TargetSpec`."""
        return PosixTarget(SshShell(self.name, self.address), self.placement.over(fleet))
