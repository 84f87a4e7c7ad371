"""Syncs one artifact in a process of its own, and does what it was told after so many parts."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from datetime import timedelta
from pathlib import Path

from hybrid_provider.artifacts.artifact import Artifact
from hybrid_provider.artifacts.store import ReleaseStore
from hybrid_provider.artifacts.sync import sync
from hybrid_provider.artifacts.transfer_policy import TransferPolicy
from tests.integration.s3bucket import access_to

NOTICED = threading.Event()


def noticed(*_: object) -> None:
    NOTICED.set()
    raise KeyboardInterrupt


def interrupt() -> None:
    """Interrupt the main thread, and go on when it has noticed: on a busy machine the sync could be done before."""
    os.kill(os.getpid(), signal.SIGINT)
    NOTICED.wait(60)


def main(job: dict) -> None:
    acted = False

    def progress(now):
        nonlocal acted
        if job["act"] == "interrupt when silent":
            if now.silent_seconds > 0.5:
                interrupt()
            return
        # Progress is also told about once a second while nothing comes: bytes are counted, not calls.
        if acted or now.done_bytes < min(job["at_part"] * job["part_bytes"], now.total_bytes):
            return
        acted = True
        if job["act"] == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        elif job["act"] == "interrupt":
            interrupt()
        else:
            sys.stdout.write("holding\n")
            sys.stdout.flush()
            sys.stdin.readline()

    result = sync(
        access_to(job["endpoint"], *job["keys"]),
        Artifact.from_dict(job["artifact"]),
        "digits",
        ReleaseStore(Path(job["root"])),
        progress=progress,
        transfer=TransferPolicy(
            part_bytes=job["part_bytes"],
            parts_in_flight=2,
            resumable_from=timedelta(seconds=job.get("resumable_from", 60)),
        ),
    )
    outcome = result.release.to_dict(seconds=result.seconds, reused_bytes=result.reused_bytes)
    sys.stdout.write(json.dumps(outcome) + "\n")


if __name__ == "__main__":
    signal.signal(signal.SIGINT, noticed)
    main(json.loads(sys.argv[1]))
