"""How a connection to an SSH host is opened: the host proves that it is this host, and then we log in."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Any, Final

from hybrid_provider.exceptions import TargetError, TargetRefused, TargetUnreachable
from hybrid_provider.targets.ssh_ways import way_to

if TYPE_CHECKING:
    import asyncssh
    from asyncssh.packet import SSHPacketLogger

    from hybrid_provider.targets.ssh import SshAddress
    from hybrid_provider.targets.ssh_ways import Way

# AES-GCM runs in hardware and needs no separate MAC; the rest are asyncssh's own defaults.
_CIPHERS: Final = (
    "aes128-gcm@openssh.com",
    "aes256-gcm@openssh.com",
    "chacha20-poly1305@openssh.com",
    "aes256-ctr",
    "aes128-ctr",
)
# With their pauses, about ten seconds: as long as a crowd of logins takes that a busy sshd lets in by and by.
_CONNECT_TRIES: Final = 6
_LONGEST_PAUSE_SECONDS: Final = 5


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
            pause = min(0.2 * 2**attempt, _LONGEST_PAUSE_SECONDS)
            await asyncio.sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311 - no secret
    raise TargetUnreachable(name, "no connection")


class _DroppedBeforeLogin(TargetError):
    """The host closed the connection before login; it may be at its MaxStartups."""


async def _connect_once(name: str, address: SshAddress) -> asyncssh.SSHClientConnection:
    options = {**_login(name, address), "known_hosts": (_host_keys(name, address), [], [])}
    way = await way_to(name, address, connect)
    try:
        return await _logged_in(name, address, way, options)
    except BaseException:
        way.leave()
        raise


async def _logged_in(
    name: str, address: SshAddress, way: Way, options: dict[str, Any]
) -> asyncssh.SSHClientConnection:
    import asyncssh

    # At INFO it tells of every channel and of the scripts sent through it; a task's log is for people.
    asyncssh.set_log_level("WARNING")
    offered: list[asyncssh.SSHKey] = []

    class Client(asyncssh.SSHClient):
        def validate_host_public_key(self, _host: str, _addr: str, _port: int, key: asyncssh.SSHKey) -> bool:
            offered.append(key)
            return False

        def connection_lost(self, _exc: Exception | None) -> None:
            way.leave()

    try:
        async with asyncio.timeout(address.connect_timeout.total_seconds()):
            connection = await asyncssh.connect(
                address.host,
                address.port,
                username=address.user,
                client_factory=Client,
                config=None,
                encryption_algs=_CIPHERS,
                compression_algs=None,
                keepalive_interval=15,
                **options,
                **way.options,
            )
            return _without_fillers(connection)
    except (asyncssh.HostKeyNotVerifiable, asyncssh.KeyExchangeFailed) as error:
        mismatch = _host_key_mismatch(address, options["known_hosts"][0], offered, error)
        raise TargetRefused(name, mismatch) from None
    except (asyncssh.Error, OSError) as error:
        raise _not_in(name, address, way, error) from None


def _not_in(name: str, address: SshAddress, way: Way, error: Exception) -> TargetError:
    """What to raise, with the remedy, for what came instead of a login."""
    import asyncssh

    where, reason = address.where, reason_of(error)
    if isinstance(error, TimeoutError):
        seconds = address.connect_timeout.total_seconds()
        told = f"{where} did not answer within {seconds:.0f} s{way.said()}; "
        return TargetUnreachable(name, f"{told}check the network and the host's sshd")
    if isinstance(error, asyncssh.PermissionDenied):
        told = (
            f"{where} does not let user {address.user!r} in: {reason}; check the login, the key or password, "
        )
        return TargetRefused(name, f"{told}and the host's authorized_keys")
    if isinstance(error, asyncssh.ConnectionLost | ConnectionResetError):
        told = f"{where} closed the connection before login: {reason}{way.said()}; check its sshd"
        return _DroppedBeforeLogin(name, told)
    told = f"no connection to {where}: {reason}{way.said()}; check the address, the network and its sshd"
    return TargetUnreachable(name, told)


def _without_fillers(connection: asyncssh.SSHClientConnection) -> asyncssh.SSHClientConnection:
    """Have a connection send no empty packet before each other one, as asyncssh does.

    They hide from an attacker what a CBC cipher begins a packet with (RFC 4251, 9.3.1), and of those we offer
    none. On both ends they cost a fifth of a transfer's processor time.
    """
    from asyncssh.constants import MSG_IGNORE

    send = connection.send_packet

    def send_packet(kind: int, *args: bytes, handler: SSHPacketLogger | None = None) -> None:
        if kind != MSG_IGNORE:
            send(kind, *args, handler=handler)

    connection.send_packet = send_packet  # type: ignore[method-assign,assignment]
    return connection


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
            name, f"{source} cannot be read: {reason_of(error)}; check the key and its passphrase"
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
    shown = ", ".join(f"{key.get_algorithm()} {key.get_fingerprint()}" for key in offered) or reason_of(error)
    return (
        f"{address.where} has another host key: expected {known}, and it offers {shown}. "
        "If it was reinstalled, compare this with `ssh-keygen -lf` on the host itself and correct host_key; "
        "if it was not, somebody may be in between"
    )


def reason_of(error: BaseException) -> str:
    """What an error says, or else is."""
    return str(error) or type(error).__name__
