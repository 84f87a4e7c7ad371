"""Syncs one artifact in a process of its own: ``sync_child.py ENDPOINT URI STORE [again]``.

The first time as our command line does it, since the other ways are command lines; ``again`` is for an
artifact that is in the store already, and times the library once boto3 is loaded. The last line is JSON.
"""

from __future__ import annotations

import json
import runpy
import sys
import time
from pathlib import Path

PROGRAM = "hybrid_provider.artifacts"
MODEL = "benchmark"


def peak_rss_kb() -> int:
    """Of this process, which starts no other; ru_maxrss would be the parent's where that is larger."""
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))


def first(endpoint: str, uri: str, folder: str) -> dict[str, float]:
    options = ["--model", MODEL, "--store", folder, "--endpoint-url", endpoint, "--json"]
    sys.argv = [PROGRAM, "sync", uri, *options]
    try:
        runpy.run_module(PROGRAM, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        if end.code:
            raise
    return {"peak_rss_mb": round(peak_rss_kb() / 1000, 1)}


def again(endpoint: str, uri: str, folder: str) -> dict[str, float]:
    import boto3

    from hybrid_provider.artifacts.store import ReleaseStore
    from hybrid_provider.artifacts.sync import sync
    from hybrid_provider.aws import AwsAccess

    access = AwsAccess(session=boto3.Session(), endpoints={"s3": endpoint})
    store = ReleaseStore(Path(folder))
    sync(access, uri, MODEL, store)
    begun = time.monotonic()
    sync(access, uri, MODEL, store)
    return {"second_sync_ms": round((time.monotonic() - begun) * 1000, 1)}


if __name__ == "__main__":
    report = again(*sys.argv[1:4]) if "again" in sys.argv else first(*sys.argv[1:])
    print(json.dumps(report))
