"""Hosts reached over SSH, with their host keys enforced."""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary

from hybrid_provider.exceptions import (
    ConfigurationError,
    InvalidName,
    TargetError,
    TargetRefused,
    TargetUnreachable,
)
from hybrid_provider.names import checked_name
from hybrid_provider.targets.posix import PosixTarget
from hybrid_provider.targets.shell import Finished
from hybrid_provider.targets.target import Placement

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    import asyncssh

# AES-GCM runs in hardware and needs no separate MAC; the rest are asyncssh's own defaults.
_CIPHERS: Final = (
    "aes128-gcm@openssh.com",
    "aes256-gcm@openssh.com",
    "chacha20-poly1305@openssh.com",
    "aes256-ctr",
    "aes128-ctr",
)
# Measured with 1 GB on loopback: as fast as OpenSSH's own client; asyncssh's defaults take twice as long.
_PACKET_BYTES: Final = 2**18
_WINDOW_BYTES: Final = 2**24
# sshd's MaxStartups is 10:30:100: it begins to drop logins when 10 are under way. As Kamal.
_CONNECTS_AT_ONCE: Final = 30
# The longest answer is the manifest of a release with some 100,000 files.
_ANSWER_BYTES: Final = 2**24
_CONNECT_TRIES: Final = 4
# Runs the script that stdin begins with: Dropbear takes a command of at most 9,000 characters, a csh none
# with a newline, a restricted shell no `exec`, and all users of a host see its list of processes. `read`
# takes no byte too many, and half a script is never run.
_BOOTSTRAP: Final = (
    'sh -c \'s= k={lines} n=$(printf "\\n_") n=${{n%_}}; '
    'while [ $k -gt 0 ]; do IFS= read -r l || exit 97; s=$s$n$l k=$((k-1)); done; eval "$s"\''
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
                self.name, f"the connection was lost: {_reason(error)}; check the network and the host's sshd"
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

    lines = script.count("\n") + 1
    process = await connection.create_process(
        _BOOTSTRAP.format(lines=lines), encoding=None, max_pktsize=_PACKET_BYTES, window=_WINDOW_BYTES
    )
    process.stdin.write(f"{script}\n".encode())
    _, stdout, stderr = await asyncio.gather(
        _feed(process, stdin), _answer(process.stdout), _answer(process.stderr)
    )
    await process.wait_closed()
    if process.returncode is None:
        raise asyncssh.ConnectionLost("the command's end was not heard of")
    return Finished(exit_code=process.returncode, stdout=stdout, stderr=stderr)


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


async def connect(name: str, address: SshAddress) -> asyncssh.SSHClientConnection:
    """Open a connection, again where the host drops it before login as a busy sshd does.

    Raises:
        TargetUnreachable: Nothing answers there.
        TargetRefused: The host key is not one of the address's, or the host does not let us in.
    """
    for attempt in range(1, _CONNECT_TRIES + 1):
        try:
            return await _connect_once(name, address)
        except _DroppedBeforeLogin as dropped:
            if attempt == _CONNECT_TRIES:
                raise TargetUnreachable(name, dropped.reason) from None
            # Spread, so that the logins which sshd dropped together do not come back together.
            await asyncio.sleep(0.2 * 2**attempt * random.uniform(0.5, 1.5))  # noqa: S311 - no secret
    raise TargetUnreachable(name, "no connection")


class _DroppedBeforeLogin(TargetError):
    """The host closed the connection before login; it may be at its MaxStartups."""


async def _connect_once(name: str, address: SshAddress) -> asyncssh.SSHClientConnection:
    import asyncssh

    # At INFO it tells of every channel and of the scripts sent through it; a task's log is for people.
    asyncssh.set_log_level("WARNING")
    offered: list[asyncssh.SSHKey] = []

    class Client(asyncssh.SSHClient):
        def validate_host_public_key(self, _host: str, _addr: str, _port: int, key: asyncssh.SSHKey) -> bool:
            offered.append(key)
            return False

    where = f"{address.host}:{address.port}"
    options = _login(name, address)
    host_keys = _host_keys(name, address)
    try:
        async with asyncio.timeout(address.connect_timeout.total_seconds()):
            return await asyncssh.connect(
                address.host,
                address.port,
                username=address.user,
                known_hosts=(host_keys, [], []),
                client_factory=Client,
                config=None,
                encryption_algs=_CIPHERS,
                compression_algs=None,
                keepalive_interval=15,
                **options,
            )
    except TimeoutError:
        seconds = address.connect_timeout.total_seconds()
        raise TargetUnreachable(
            name, f"{where} did not answer within {seconds:.0f} s; check the network and the host's sshd"
        ) from None
    except (asyncssh.HostKeyNotVerifiable, asyncssh.KeyExchangeFailed) as error:
        raise TargetRefused(name, _host_key_mismatch(address, host_keys, offered, error)) from None
    except asyncssh.PermissionDenied as error:
        raise TargetRefused(
            name,
            f"{where} does not let user {address.user!r} in: {_reason(error)}; check the login, the key or "
            "password, and the host's authorized_keys",
        ) from None
    except (asyncssh.ConnectionLost, ConnectionResetError) as error:
        raise _DroppedBeforeLogin(
            name, f"{where} closed the connection before login: {_reason(error)}; check its sshd"
        ) from None
    except (asyncssh.Error, OSError) as error:
        raise TargetUnreachable(
            name, f"no connection to {where}: {_reason(error)}; check the address, the network and its sshd"
        ) from None


def _login(name: str, address: SshAddress) -> dict[str, Any]:
    """How to log in: the given key or password alone, else the agent and the user's own keys."""
    import asyncssh

    if address.key_file is None and address.private_key is None:
        return {"password": address.password, "client_keys": None} if address.password else {}
    try:
        if address.private_key is not None:
            key = asyncssh.import_private_key(address.private_key, address.passphrase)
        else:
            key = asyncssh.read_private_key(str(address.key_file), address.passphrase)
    except (asyncssh.KeyImportError, asyncssh.KeyEncryptionError, OSError) as error:
        source = "private_key" if address.private_key is not None else f"key_file {address.key_file}"
        raise TargetRefused(
            name, f"{source} cannot be read: {_reason(error)}; check the key and its passphrase"
        ) from None
    return {"client_keys": [key], "password": address.password, "agent_path": None}


def _host_keys(name: str, address: SshAddress) -> list[asyncssh.SSHKey]:
    import asyncssh

    try:
        return [asyncssh.import_public_key(line) for line in address.host_keys]
    except asyncssh.KeyImportError as error:
        raise TargetRefused(
            name, f"the known host key cannot be read: {error}; it looks like `ssh-ed25519 AAAA…`"
        ) from None


def _host_key_mismatch(
    address: SshAddress, expected: list[asyncssh.SSHKey], offered: list[asyncssh.SSHKey], error: Exception
) -> str:
    known = ", ".join(f"{key.get_algorithm()} {key.get_fingerprint()}" for key in expected)
    shown = ", ".join(f"{key.get_algorithm()} {key.get_fingerprint()}" for key in offered) or _reason(error)
    return (
        f"{address.host}:{address.port} has another host key: expected {known}, and it offers {shown}. "
        "If it was reinstalled, compare this with `ssh-keygen -lf` on the host itself and correct host_key; "
        "if it was not, somebody may be in between"
    )


def _reason(error: BaseException) -> str:
    return str(error) or type(error).__name__


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
