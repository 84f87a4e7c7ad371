"""On-premises hosts: SSH servers that run commands in the machine's own ``sh``.

They run as a program of their own (``python -m hybrid_provider.emulator.hosts FILE``): what a host streams
does not share an interpreter with what is being tested, and what a host's commands leave running ends with
it. The file holds a list of :class:`HostSpec` as JSON; a line on standard output says that all hosts listen.

A host behaves as OpenSSH's ``sshd`` without a terminal:

- A command's output is read to its end: one left in the background keeps the channel open as long as it
  holds the command's output.
- A command whose client is gone is not killed. Its input ends, and writing its output fails.
- A signal that the client sends goes to the command's process group.
"""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import asyncssh

from hybrid_provider.emulator.ssh_command import PACKET_BYTES, WINDOW_BYTES, CommandSession

if TYPE_CHECKING:
    from collections.abc import Sequence


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
    """What a host is started with; paths as strings, to travel as JSON.

    Attributes:
        name: For the log.
        address: Where to listen.
        port: Likewise.
        user: The one user that may log in.
        client_key: The public key that this user logs in with.
        host_key_file: The host's private key.
        root: HOME, and the working directory, of every command.
    """

    name: str
    address: str
    port: int
    user: str
    client_key: str
    host_key_file: str
    root: str


def write_specs(file: Path, specs: Sequence[HostSpec]) -> None:
    """Write what :func:`main` reads."""
    file.write_text(json.dumps([asdict(spec) for spec in specs]))


def command_environment(spec: HostSpec) -> dict[str, str]:
    """What a command of the host sees: a login's few variables, nothing of the emulator's own."""
    return {
        "HOME": spec.root,
        "USER": spec.user,
        "LOGNAME": spec.user,
        "SHELL": "/bin/sh",
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "LANG": "C.UTF-8",
    }


async def listen(spec: HostSpec) -> asyncssh.SSHAcceptor:
    """Start one host."""
    client_key = asyncssh.import_public_key(spec.client_key)

    class Server(asyncssh.SSHServer):
        def public_key_auth_supported(self) -> bool:
            return True

        def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
            return username == spec.user and key == client_key

        def session_requested(self) -> CommandSession:
            return CommandSession(folder=spec.root, environment=command_environment(spec))

    return await asyncssh.create_server(
        Server,
        spec.address,
        spec.port,
        server_host_keys=[spec.host_key_file],
        encoding=None,
        window=WINDOW_BYTES,
        max_pktsize=PACKET_BYTES,
    )


async def serve(specs: Sequence[HostSpec]) -> None:
    """Start all hosts, say so, and serve until the process is ended."""
    acceptors = [await listen(spec) for spec in specs]
    sys.stdout.write(f"{len(acceptors)} hosts listen\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


def main() -> None:
    """Serve the hosts of the file that is the only argument."""
    specs = [HostSpec(**entry) for entry in json.loads(Path(sys.argv[1]).read_text())]
    asyncio.run(serve(specs))


if __name__ == "__main__":
    main()
