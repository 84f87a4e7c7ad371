"""Syncs one artifact in a process of its own: ``sync_child.py ENDPOINT URI STORE [again]``; prints JSON.

``again`` is for an artifact that is in the store already, and times what that takes once boto3 is loaded.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import boto3

from hybrid_provider.artifacts.store import ReleaseStore
from hybrid_provider.artifacts.sync import sync
from hybrid_provider.aws import AwsAccess


def peak_rss_kb() -> int:
    """Of this process, which starts no other; ru_maxrss would be the parent's where that is larger."""
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))


def main(endpoint: str, uri: str, folder: str, again: str = "") -> None:
    access = AwsAccess(session=boto3.Session(), endpoints={"s3": endpoint})
    store = ReleaseStore(Path(folder))
    result = sync(access, uri, "benchmark", store)
    if not again:
        report = {"own_seconds": round(result.seconds, 2), "peak_rss_mb": round(peak_rss_kb() / 1000, 1)}
    else:
        begun = time.monotonic()
        sync(access, uri, "benchmark", store)
        report = {"second_sync_ms": round((time.monotonic() - begun) * 1000, 1)}
    print(json.dumps(report))


if __name__ == "__main__":
    main(*sys.argv[1:])
