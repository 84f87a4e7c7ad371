"""Syncs in a process of its own, says when nothing comes any more, and by how much its memory rose at most."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from hybrid_provider.artifacts.store import ReleaseStore
from hybrid_provider.artifacts.sync import sync
from hybrid_provider.artifacts.transfer_policy import TransferPolicy
from tests.integration.s3bucket import access_to


def memory_bytes(kind: str) -> int:
    """``VmRSS``, the process's memory now, or ``VmHWM``, the most that it had."""
    status = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in status if line.startswith(kind))


def main(job: dict) -> None:
    access = access_to(job["endpoint"], *job["keys"])
    store = ReleaseStore(Path(job["root"]))
    transfer = TransferPolicy(part_bytes=job["part_bytes"], parts_in_flight=job["parts_in_flight"])
    # Libraries are loaded where they are used: by this one.
    sync(access, job["warm_up"], "warm", store, transfer=transfer)
    said = False

    def progress(now):
        nonlocal said
        if now.silent_seconds > 0.5 and not said:
            said = True
            sys.stdout.write("silent\n")
            sys.stdout.flush()

    before = memory_bytes("VmRSS")
    release = sync(access, job["uri"], "digits", store, transfer=transfer, progress=progress).release
    outcome = {"release_id": release.release_id, "rise_bytes": memory_bytes("VmHWM") - before}
    sys.stdout.write(json.dumps(outcome) + "\n")


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
