"""The memory of a sync is that of its parts in flight, however long an early part is awaited."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from hybrid_provider.artifacts.store import ReleaseStore
from tests.integration.fault_proxy import faulty

if TYPE_CHECKING:
    from tests.integration.s3bucket import Bucket

PART_BYTES = 1 << 20
IN_FLIGHT = 8
PARTS = 128
LATE = 32
# Beside the parts: what the threads work on, and what the allocators do not give back at once.
MARGIN_BYTES = 32 << 20
CHILD = Path(__file__).with_name("memory_child.py")


@pytest.fixture(scope="module")
def uris(bucket: Bucket) -> dict[str, str]:
    """One large object, and as much in two."""
    bucket.put("memory/warm/model.bin", b"x")
    weights = os.urandom(PARTS * PART_BYTES)
    bucket.put("memory/model.bin", weights)
    middle = len(weights) // 2
    bucket.put("memory/files/1.bin", weights[:middle])
    bucket.put("memory/files/2.bin", weights[middle:])
    return {form: bucket.uri(f"memory/{form}") for form in ("warm/", "model.bin", "files/")}


def syncing(bucket: Bucket, endpoint: str, uris: dict[str, str], form: str, root: Path):
    job = {
        "endpoint": endpoint,
        "keys": [bucket.access_key, bucket.secret_key],
        "warm_up": uris["warm/"],
        "uri": uris[form],
        "root": str(root),
        "part_bytes": PART_BYTES,
        "parts_in_flight": IN_FLIGHT,
    }
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    return subprocess.Popen(
        [sys.executable, CHILD, json.dumps(job)], env=environment, stdout=subprocess.PIPE, text=True
    )


@pytest.mark.parametrize("form", ["model.bin", "files/"])
def test_while_one_part_is_late_no_more_than_the_parts_in_flight_are_asked_for_and_held(
    bucket: Bucket, uris, form, tmp_path
):
    """All others are quick: without a bound, the rest of the model would be in memory by then."""
    with faulty(bucket.endpoint) as proxy:
        proxy.late_range = f"bytes={LATE * PART_BYTES}-"
        with syncing(bucket, proxy.url, uris, form, tmp_path) as child:
            assert child.stdout.readline() == "silent\n"
            asked_for = proxy.requests - proxy.listings
            proxy.late.set()
            outcome = json.loads(child.stdout.readline())
    assert asked_for <= LATE + IN_FLIGHT
    assert outcome["rise_bytes"] <= IN_FLIGHT * PART_BYTES + MARGIN_BYTES
    store = ReleaseStore(tmp_path)
    assert store.verify(store.release("digits", outcome["release_id"])) == ()
