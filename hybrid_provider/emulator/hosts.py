"""On-premises hosts: SSH servers that run commands in the machine's own ``sh``.

They run as a program of their own (``python -m hybrid_provider.emulator.hosts FILE``):
what a host streams does
not share an interpreter with what is being tested, and what a host's commands leave running ends with it.
The file holds a list of :class:`HostSpec` as JSON; one line on standard output says that all hosts listen.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import asyncssh

# 2 MiB windows keep a tar stream at the speed of the cipher; asyncssh's packets are at most 64 KiB otherwise.
_WINDOW_BYTES: Final = 2 * 1024 * 1024
_PACKET_BYTES: Final = 256 * 1024


@dataclass(frozen=True, kw_only=True)
class EmulatedHost:
    """One running host.

    Attributes:
        name: ``edge-01``, ``edge-02`` and so on.
        address: Where it listens.
        port: Likewise.
        user: The one user that may log in.
        key_file: The private key that this user logs in with.
        host_key: The host's public key as in a ``known_hosts`` file, without the name: ``ssh-ed25519 AAAA…``.
        root: The folder that is HOME, and the working directory, of every command.
        model_server_url: Base URL of the model server, if one runs.
        reload_command: What makes the model server load the current release again, run on the host.
    """

    name: str
    address: str
    port: int
    user: str
    key_file: Path
    host_key: str
    root: Path
    model_server_url: str | None = None
    reload_command: str | None = None


@dataclass(frozen=True, kw_only=True)
class HostSpec:
    """What a host is started with; paths as strings, to travel as JSON."""

    name: str
    address: str
    port: int
    user: str
    root: str
    host_key_file: str
    client_key: str


def write_specs(file: Path, specs: list[HostSpec]) -> None:
    """Write what :func:`main` reads."""
    file.write_text(json.dumps([asdict(spec) for spec in specs]))


def read_specs(file: Path) -> list[HostSpec]:
    """The reverse of :func:`write_specs`."""
    return [HostSpec(**spec) for spec in json.loads(file.read_text())]


def clean_environment(spec: HostSpec) -> dict[str, str]:
    """What a command of the host sees: a login's few variables, nothing of the emulator's own."""
    return {
        "HOME": spec.root,
        "USER": spec.user,
        "LOGNAME": spec.user,
        "SHELL": "/bin/sh",
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "LANG": "C.UTF-8",
    }


async def run_command(spec: HostSpec, session: asyncssh.SSHServerProcess[bytes]) -> None:
    """Run one command of a client, with its streams, and report how it ended."""
    if session.command is None:
        session.stderr.write(b"this host runs commands only, no interactive shell\n")
        session.exit(1)
        return
    process = await asyncio.create_subprocess_exec(
        "/bin/sh",
        "-c",
        session.command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=spec.root,
        env=clean_environment(spec),
        start_new_session=True,
    )
    feeding = asyncio.create_task(feed(session, process))
    await asyncio.gather(
        forward(process.stdout, session.stdout), forward(process.stderr, session.stderr), process.wait()
    )
    feeding.cancel()
    status = process.returncode or 0
    if status < 0:
        session.exit_with_signal(signal_name(-status))
    else:
        session.exit(status)


async def feed(session: asyncssh.SSHServerProcess[bytes], process: asyncio.subprocess.Process) -> None:
    """Give the command what the client sends, no faster than it reads."""
    if process.stdin is None:
        return
    with contextlib.suppress(BrokenPipeError, ConnectionResetError, asyncssh.BreakReceived):
        while piece := await session.stdin.read(_PACKET_BYTES):
            process.stdin.write(piece)
            await process.stdin.drain()
    process.stdin.close()


async def forward(source: asyncio.StreamReader | None, client: asyncssh.SSHWriter[bytes]) -> None:
    """Give the client what the command writes, no faster than the client reads, to the end of it.

    As with sshd, that is when every process that holds the stream has closed it, so that a command in the
    background needs its output redirected.
    """
    if source is None:
        return
    while piece := await source.read(_PACKET_BYTES):
        client.write(piece)
        await client.drain()


def signal_name(number: int) -> str:
    """The name of a signal as SSH has it: without ``SIG``."""
    return signal.Signals(number).name.removeprefix("SIG")


async def listen(spec: HostSpec) -> asyncssh.SSHAcceptor:
    """Start one host."""

    async def factory(session: asyncssh.SSHServerProcess[bytes]) -> None:
        await run_command(spec, session)

    client_key = asyncssh.import_public_key(spec.client_key)

    class Server(asyncssh.SSHServer):
        def public_key_auth_supported(self) -> bool:
            return True

        def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
            return username == spec.user and key == client_key

    return await asyncssh.create_server(
        Server,
        spec.address,
        spec.port,
        server_host_keys=[spec.host_key_file],
        process_factory=factory,
        encoding=None,
        window=_WINDOW_BYTES,
        max_pktsize=_PACKET_BYTES,
    )


async def serve(specs: list[HostSpec]) -> None:
    """Start all hosts, say so, and serve until the process is ended."""
    acceptors = [await listen(spec) for spec in specs]
    sys.stdout.write(
        json.dumps({spec.name: a.get_port() for spec, a in zip(specs, acceptors, strict=True)}) + "\n"
    )
    sys.stdout.flush()
    await asyncio.Event().wait()


def main() -> None:
    """Serve the hosts of the file that is the only argument."""
    asyncio.run(serve(read_specs(Path(sys.argv[1]))))


if __name__ == "__main__":
    main()
