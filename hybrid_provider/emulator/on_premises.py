"""Starts the on-premises hosts, and a model server on each."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import asyncssh

import hybrid_provider
from hybrid_provider.emulator.hosts import EmulatedHost, HostSpec, write_specs
from hybrid_provider.emulator.processes import (
    EmulatorError,
    Program,
    Programs,
    last_words,
    wait_until_listening,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hybrid_provider.emulator.ports import Ports

USER: Final = "deploy"
_RELOAD: Final = 'kill -HUP "$(cat "$HOME/model-server.pid")"'


def make_hosts(folder: Path, address: str, ports: Ports, *, model: str | None) -> tuple[EmulatedHost, ...]:
    """Make the hosts' folders and keys; nothing is started.

    Keys that are there are kept, so that a host that is started again in the same folder is still trusted.
    """
    keys = folder / "keys"
    keys.mkdir(parents=True, exist_ok=True)
    keys.chmod(0o700)
    _key(keys / "client", "emulator")
    hosts = []
    for number, (port, model_port) in enumerate(zip(ports.hosts, ports.model_servers, strict=True), start=1):
        name = f"edge-{number:02}"
        root = folder / "hosts" / name
        root.mkdir(parents=True, exist_ok=True)
        hosts.append(
            EmulatedHost(
                name=name,
                address=address,
                port=port,
                user=USER,
                key_file=keys / "client",
                host_key=_public(_key(keys / name, name)),
                root=root,
                model_server_url=None if model is None else f"http://{address}:{model_port}",
                reload_command=None if model is None else _RELOAD,
            )
        )
    return tuple(hosts)


def start_hosts(programs: Programs, folder: Path, hosts: Sequence[EmulatedHost]) -> None:
    """Start all hosts and return when they listen.

    Raises:
        EmulatorError: They do not; with their last lines.
    """
    specs = folder / "hosts.json"
    write_specs(
        specs,
        [
            HostSpec(
                name=host.name,
                address=host.address,
                port=host.port,
                user=host.user,
                client_key=_public(_key(host.key_file, "emulator")),
                host_key_file=str(folder / "keys" / host.name),
                root=str(host.root),
            )
            for host in hosts
        ],
    )
    log = folder / "hosts.log"
    with log.open("wb") as errors:
        program = programs.add(
            Program(
                [sys.executable, "-m", "hybrid_provider.emulator.hosts", str(specs)],
                environment={"PATH": os.defpath, **_import_path()},
                folder=folder,
                output=subprocess.PIPE,
                errors=errors,
            )
        )
    if not program.stdout.readline():
        raise EmulatorError(f"the emulated hosts did not start: {last_words(log)}")


def start_model_servers(
    programs: Programs, hosts: Sequence[EmulatedHost], model: str, ports: Sequence[int]
) -> None:
    """Start a model server on each host and return when they listen.

    Raises:
        EmulatorError: One does not; with its last lines.
    """
    started = []
    for host, port in zip(hosts, ports, strict=True):
        pid_file = host.root / "model-server.pid"
        pid_file.unlink(missing_ok=True)
        log = host.root / "model-server.log"
        command = [sys.executable, "-m", "hybrid_provider.emulator.model_server"]
        command += ["--folder", str(host.root / "models" / model), "--pid-file", str(pid_file)]
        command += ["--address", host.address, "--port", str(port)]
        with log.open("wb") as output:
            program = Program(
                command,
                environment={"HOME": str(host.root), "PATH": os.defpath, **_import_path()},
                folder=host.root,
                output=output,
            )
        programs.add(program)
        started.append((program, host, port, log))
    for program, host, port, log in started:
        wait_until_listening(program, host.address, port, what=f"the model server of {host.name}", log=log)


def _key(file: Path, comment: str) -> asyncssh.SSHKey:
    """The private key in ``file``, made if it is not there."""
    if not file.exists():
        key = asyncssh.generate_private_key("ssh-ed25519", comment=comment)
        file.touch(0o600)
        file.write_bytes(key.export_private_key())
    return asyncssh.read_private_key(file)


def _public(key: asyncssh.SSHKey) -> str:
    """The public key as in ``known_hosts``: algorithm and key, no comment."""
    return " ".join(key.export_public_key().decode().split()[:2])


def _import_path() -> dict[str, str]:
    """How a program of this package finds it where it runs from a checkout."""
    return {"PYTHONPATH": str(Path(hybrid_provider.__file__).parent.parent)}
