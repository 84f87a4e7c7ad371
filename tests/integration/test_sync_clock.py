"""A machine whose clock goes back at each look, as where it was wrong until the time came from the network."""

from __future__ import annotations

import itertools
import os
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from hybrid_provider.artifacts.retention import prune
from hybrid_provider.artifacts.store import LATEST, ReleaseStore
from hybrid_provider.artifacts.sync import sync
from hybrid_provider.artifacts.transfer_policy import TransferPolicy

if TYPE_CHECKING:
    from tests.integration.s3bucket import Bucket

SLOW = TransferPolicy(part_bytes=64 << 10, parts_in_flight=2, max_bytes_per_second=4 << 20)


@pytest.fixture
def clock_that_goes_back(monkeypatch: pytest.MonkeyPatch) -> itertools.count[int]:
    """A second at each look; S3 would refuse what is signed 15 minutes too early."""
    looks, began = itertools.count(1), time.time()

    class GoingBack(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime.fromtimestamp(began - next(looks), tz)

    monkeypatch.setattr("hybrid_provider.artifacts.bucket.datetime", GoingBack)
    monkeypatch.setattr("hybrid_provider.evidence.chain.datetime", GoingBack)
    monkeypatch.setattr(time, "time", lambda: began - next(looks))
    return looks


def test_it_harms_neither_a_sync_nor_what_pruning_keeps(bucket: Bucket, tmp_path, clock_that_goes_back):
    store, releases = ReleaseStore(tmp_path), []
    for day in range(1, 4):
        for name in ("a", "b"):
            bucket.put(f"clock/{day}/{name}", os.urandom(200_000))
        created = datetime(2026, 1, day, tzinfo=UTC)
        result = sync(
            bucket.access, bucket.uri(f"clock/{day}/"), "digits", store, created=created, transfer=SLOW
        )
        assert result.seconds > 0
        assert store.verify(result.release) == ()
        releases.append(result.release)
        # What goes is told by the training's date alone, whatever was synced when.
        pruned = prune(store, "digits", keep=2)
        assert pruned.removed == tuple(release.release_id for release in releases[: max(day - 2, 0)])
    assert store.release("digits", LATEST) == store.release("digits", "candidate") == releases[-1]
    # Its order is that of its numbers, and its dates are what the clock said.
    dates = [entry.at for entry in store.evidence.entries()]
    assert dates == sorted(dates, reverse=True)
    assert store.evidence.verify().length == len(releases)
    assert next(clock_that_goes_back) > len(releases)
