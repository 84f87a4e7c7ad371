"""What is written into a release's folder is on the disk when it is sealed, however many files there are."""

from __future__ import annotations

import os
import tracemalloc

import pytest

from hybrid_provider.artifacts import folder as module
from hybrid_provider.artifacts.folder import FolderWriter

LARGE = bytes(module._LARGE_BYTES)


@pytest.fixture
def synced(monkeypatch) -> list[str]:
    """The names of what was brought to the disk, in order."""
    names: list[str] = []
    one, everything = module.sync_to_disk, module.sync_file_system

    def sync_one(path):
        one(path)
        names.append(path.name)

    def sync_everything(path):
        proven = everything(path)
        if proven:
            names.append("everything")
        return proven

    monkeypatch.setattr(module, "sync_to_disk", sync_one)
    monkeypatch.setattr(module, "sync_file_system", sync_everything)
    return names


def fill(root, count):
    root.mkdir()
    with FolderWriter(root) as writer:
        writer.write("large", [memoryview(LARGE)])
        for number in range(count):
            writer.write(f"inner/{number}", [memoryview(b"small")])
        return writer.seal()


def test_many_small_files_are_brought_to_the_disk_at_once_before_their_folders(tmp_path, synced):
    assert len(fill(tmp_path / "root", 100).files) == 101
    assert {*synced} == {"large", "everything", "inner", "root"}
    assert synced.index("everything") < synced.index("inner") < synced.index("root")


def test_few_files_wait_for_nobody_elses(tmp_path, synced):
    fill(tmp_path / "root", 3)
    assert {*synced} == {"large", "0", "1", "2", "inner", "root"}


def test_where_that_would_hide_a_failure_each_file_is_synced_by_itself(tmp_path, synced, monkeypatch):
    old = os.uname_result(("Linux", "old", "4.18.0-553.el8_10", "", ""))
    monkeypatch.setattr(module.os, "uname", lambda: old)
    fill(tmp_path / "root", 20)
    assert {*synced} == {"large", "inner", "root", *map(str, range(20))}


def test_a_disk_that_fails_then_is_no_sealed_folder(tmp_path, monkeypatch):
    def failing(path):
        raise OSError(5, "Input/output error", str(path))

    monkeypatch.setattr(module, "sync_file_system", failing)
    with pytest.raises(OSError, match="Input/output"):
        fill(tmp_path / "root", 100)


def test_of_many_files_not_much_more_than_name_and_checksum_is_held(tmp_path):
    """A release may have 100,000: at the 800 bytes that each took once, they hold 50 MB more."""
    count, most_bytes = 1000, 500
    tracemalloc.start()
    try:
        with FolderWriter(tmp_path) as writer:
            empty, _ = tracemalloc.get_traced_memory()
            for number in range(count):
                writer.write(f"inner/weights-{number:06}", [memoryview(b"small")])
            filled, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (filled - empty) / count < most_bytes
