"""Forks a process for each line that it reads, which syncs as it is told and is killed on the way.

Forking spares each the second that importing takes; nothing here starts a thread, which a fork would not take along.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from datetime import timedelta
from pathlib import Path

from hybrid_provider.artifacts.artifact import Artifact
from hybrid_provider.artifacts.store import ReleaseStore
from hybrid_provider.artifacts.sync import sync
from hybrid_provider.artifacts.transfer_policy import TransferPolicy
from tests.integration.s3bucket import access_to


def sync_until_killed(access, job: dict) -> None:
    """Sync, and die without a word so many seconds after so many bytes."""

    def progress(now):
        if now.done_bytes >= job["at_byte"] and not signal.getitimer(signal.ITIMER_REAL)[0]:
            signal.setitimer(signal.ITIMER_REAL, job["seconds"])

    sync(
        access,
        Artifact.from_dict(job["artifact"]),
        "digits",
        ReleaseStore(Path(job["root"])),
        progress=progress,
        transfer=TransferPolicy(part_bytes=job["part_bytes"], parts_in_flight=1, resumable_from=timedelta(0)),
    )


def main(endpoint: str, *keys: str) -> None:
    access = access_to(endpoint, *keys)
    access.client("s3")
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            sync_until_killed(access, json.loads(line))
            os._exit(0)
        _, status = os.waitpid(child, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
