"""What is kept of an object for a retry is what was asked for, or nothing."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from hybrid_provider.artifacts.objects import StoredObject
from hybrid_provider.artifacts.parts import KeptParts
from hybrid_provider.artifacts.s3 import S3Location
from hybrid_provider.artifacts.transfer import Arrived, Part
from hybrid_provider.artifacts.transfer_policy import TransferPolicy

if TYPE_CHECKING:
    from pathlib import Path

ITEM = StoredObject(
    location=S3Location("models", "k"),
    size_bytes=20,
    etag="e",
    version_id=None,
    last_modified=datetime(2026, 1, 1, tzinfo=UTC),
)


@pytest.fixture
def kept(tmp_path: Path) -> KeptParts:
    (tmp_path / "new").mkdir()
    parts = KeptParts(tmp_path / "new", tmp_path / "left", ITEM, TransferPolicy(resumable_from=timedelta(0)))
    parts.keep(Arrived(Part(ITEM, 0, 10), (memoryview(b"0123"), memoryview(b"456789"))))
    return parts


def test_a_part_that_was_kept_is_taken_again(kept: KeptParts):
    assert kept.take(Part(ITEM, 0, 10)) == b"0123456789"
    assert kept.reused_bytes == 10
    assert kept.take(Part(ITEM, 10, 20)) is None


@pytest.mark.parametrize("end", [4, 20])
def test_a_part_that_was_divided_otherwise_is_fetched(kept: KeptParts, end: int):
    assert kept.take(Part(ITEM, 0, end)) is None
    assert kept.reused_bytes == 0


def test_a_part_that_rotted_is_fetched(kept: KeptParts, tmp_path: Path):
    (file,) = (tmp_path / "new").rglob("0")
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    assert kept.take(Part(ITEM, 0, 10)) is None
