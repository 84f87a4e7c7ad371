"""The embedded cloud in a container, without its S3: that is ``containers.s3``, in a container of its own.

It listens on the container's own address, under the container's name. Everywhere else the emulator listens on
loopback only; here only the other containers reach it, because none of its ports is published. What its
clients need is in ``<folder>/cloud.json`` once everything answers.
"""

from __future__ import annotations

import json
import signal
import socket
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from containers.s3 import ACCESS_KEY, ENDPOINT
from hybrid_provider.emulator import Emulator
from playground import dataset
from playground.environment import BUCKET

if TYPE_CHECKING:
    from hybrid_provider.emulator.ports import Ports
    from hybrid_provider.emulator.processes import Programs

# S3's would be the first; the others follow.
FIRST_PORT = 9000


class ContainerEmulator(Emulator):
    """An emulator whose parts are reached by the container's name, with another container's S3."""

    _address = socket.gethostname()

    def _make_environment(self, ports: Ports, *, s3: int) -> dict[str, str]:
        environment = super()._make_environment(ports, s3=s3)
        # Airflow's connection holds the key, and is not made anew when a crashed emulator comes back.
        kept: dict[str, str] = json.loads(ACCESS_KEY.read_text())
        return environment | kept | {"AWS_ENDPOINT_URL_S3": ENDPOINT}

    def _start_s3(self, programs: Programs, binary: str, port: int) -> None:
        """It runs already."""


def main() -> int:
    """Run until SIGTERM or Ctrl-C."""
    folder = Path(sys.argv[1])
    description = folder / "cloud.json"
    description.unlink(missing_ok=True)
    signals = {signal.SIGTERM, signal.SIGINT}
    # Blocked in every thread and taken by sigwait below: the start and the stop are never cut in two.
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    with ContainerEmulator(folder / "emulator", hosts=0, first_port=FIRST_PORT) as emulator:
        s3 = emulator.client("s3")
        # A container that is started again still has its objects.
        with suppress(s3.exceptions.BucketAlreadyExists, s3.exceptions.BucketAlreadyOwnedByYou):
            s3.create_bucket(Bucket=BUCKET)
        dataset.upload(s3, BUCKET)
        description.write_text(
            json.dumps({"environment": emulator.environment, "role_arn": emulator.role_arn})
        )
        print(f"the cloud is up; its S3 is {emulator.environment['AWS_ENDPOINT_URL_S3']}", flush=True)
        signal.sigwait(signals)
        description.unlink()
    return 0


if __name__ == "__main__":
    sys.exit(main())
