"""Syncs one artifact twice in a process of its own: ``sync_child.py ENDPOINT URI STORE``; prints JSON."""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path

import boto3

from hybrid_provider.artifacts.store import ReleaseStore
from hybrid_provider.artifacts.sync import sync
from hybrid_provider.aws import AwsAccess


def main(endpoint: str, uri: str, folder: str) -> None:
    access = AwsAccess(session=boto3.Session(), endpoints={"s3": endpoint})
    store = ReleaseStore(Path(folder))
    first = sync(access, uri, "benchmark", store)
    begun = time.monotonic()
    sync(access, uri, "benchmark", store)
    second = time.monotonic() - begun
    report = {
        "own_seconds": round(first.seconds, 2),
        "second_sync_ms": round(second * 1000, 1),
        "peak_rss_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000, 1),
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main(*sys.argv[1:])
