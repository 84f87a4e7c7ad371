"""What stays in the store, and what files its releases share."""

from __future__ import annotations

import multiprocessing
import os
import threading
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from hybrid_provider.artifacts.artifact import Artifact
from hybrid_provider.artifacts.folder import FolderWriter
from hybrid_provider.artifacts.retention import in_use, pin, pins, prune, unpin
from hybrid_provider.artifacts.store import Channel, ReleaseStore
from hybrid_provider.exceptions import ConfigurationError, ReleaseNotFound, StoreError

if TYPE_CHECKING:
    from pathlib import Path

    from hybrid_provider.artifacts.release import Release

WEIGHTS = bytes(range(256)) * 64


@pytest.fixture
def store(tmp_path):
    return ReleaseStore(tmp_path / "store")


def add(store: ReleaseStore, day: int, files: dict[str, bytes] | None = None) -> Release:
    created = datetime(2026, 1, day, tzinfo=UTC)
    source = Artifact(
        uri=f"s3://models/{day}.tar", size_bytes=9, etag=f"e{day}", version_id=None, last_modified=created
    )
    with store.locked("digits"), store.staging("digits") as staged, FolderWriter(staged) as writer:
        for path, content in (files or {"model.onnx": b"%d" % day}).items():
            writer.write(path, [memoryview(content)])
        return store.add("digits", staged, writer.seal(), created=created, artifact=source, provenance={})


def ids(store):
    return store.release_ids("digits")


class TestPruning:
    def test_the_newest_stay(self, store):
        releases = [add(store, day) for day in range(1, 8)]
        pruned = prune(store, "digits", keep=5)
        assert pruned.removed == tuple(release.release_id for release in releases[:2])
        assert ids(store) == tuple(release.release_id for release in releases[2:])
        assert all(store.verify(release) == () for release in releases[2:])

    def test_nothing_is_left_of_what_went(self, store):
        add(store, 1)
        kept = add(store, 2)
        pin(store, "digits", ids(store)[0])
        unpin(store, "digits", ids(store)[0])
        prune(store, "digits", keep=1)
        left = {path.name for path in (store.root / "digits").rglob("*") if path.is_file()}
        source = {path.name for path in (store.root / "digits/sources").iterdir()}
        assert left == {".lock", "model.onnx", kept.release_id, f"{kept.release_id}.json"} | source
        assert len(source) == 1
        assert store.find("digits", kept.artifact) == kept

    def test_what_is_named_pinned_or_read_stays_whatever_its_age(self, store):
        old, champion, candidate, pinned, read, unneeded, newest = (add(store, day) for day in range(1, 8))
        for release in (old, champion):
            store.point("digits", "champion", release.release_id)
        store.point("digits", "candidate", candidate.release_id)
        pin(store, "digits", pinned.release_id, "the audit\nof May")
        with in_use(store, read):
            pruned = prune(store, "digits", keep=1)
        assert pruned.removed == (unneeded.release_id,)
        assert pruned.kept == {
            old.release_id: "previous champion",
            champion.release_id: "champion",
            candidate.release_id: "candidate",
            pinned.release_id: "pinned",
            read.release_id: "in use",
            newest.release_id: "one of the newest 1",
        }
        assert pins(store, "digits") == {pinned.release_id: "the audit of May"}

    def test_looking_changes_nothing(self, store):
        for day in (1, 2):
            add(store, day, {"model.onnx": WEIGHTS + b"%d" % day})
        before = ids(store)
        pruned = prune(store, "digits", keep=1, only_look=True)
        assert (pruned.removed, pruned.freed_bytes) == (before[:1], len(WEIGHTS) + 1)
        assert ids(store) == before

    def test_a_release_that_is_no_longer_held_goes(self, store):
        held, _ = add(store, 1), add(store, 2)
        with in_use(store, held):
            pass
        with in_use(store, held), in_use(store, held):
            assert prune(store, "digits", keep=1).removed == ()
        unpin(store, "digits", pin(store, "digits", held.release_id).release_id)
        assert prune(store, "digits", keep=1).removed == (held.release_id,)

    def test_a_release_whose_manifest_is_damaged_can_be_pruned(self, store):
        damaged, _ = add(store, 1), add(store, 2)
        (store.root / "digits/manifests" / damaged.release_id).write_text("x")
        assert prune(store, "digits", keep=1).removed == (damaged.release_id,)

    def test_a_model_without_releases_is_left_alone(self, store):
        assert prune(store, "digits").removed == ()
        assert not store.root.exists()

    def test_keeping_none_is_refused(self, store):
        with pytest.raises(ConfigurationError, match="at least 1"):
            prune(store, "digits", keep=0)

    def test_a_release_pruned_before_it_is_read_is_explained(self, store):
        gone, _ = add(store, 1), add(store, 2)
        prune(store, "digits", keep=1)
        with (
            pytest.raises(ReleaseNotFound, match=f"pruned from {store.root} on {os.uname().nodename}"),
            in_use(store, gone),
        ):
            pass


def hold(root: Path, release_id: str, held, release):
    store = ReleaseStore(root)
    with in_use(store, store.release("digits", release_id)):
        held.set()
        release.wait()


def test_a_lease_keeps_other_processes_from_pruning_and_dies_with_its_holder(store):
    read, _ = add(store, 1), add(store, 2)
    spawn = multiprocessing.get_context("spawn")
    held, release = spawn.Event(), spawn.Event()
    holder = spawn.Process(target=hold, args=(store.root, read.release_id, held, release))
    holder.start()
    assert held.wait(60)
    assert prune(store, "digits", keep=1).kept[read.release_id] == "in use"
    holder.kill()
    holder.join()
    assert prune(store, "digits", keep=1).removed == (read.release_id,)


def test_a_channel_remembers_what_it_named_before(store):
    one, two = add(store, 1).release_id, add(store, 2).release_id
    for name, expected in ((one, Channel(one, None)), (two, Channel(two, one)), (two, Channel(two, one))):
        store.point("digits", "champion", name)
        assert store.channel("digits", "champion") == expected
    assert store.channel("digits", "candidate") == Channel(None, None)


def inode(path: Path) -> int:
    return path.stat().st_ino


class TestSharing:
    def test_the_same_bytes_are_one_file_in_all_releases(self, store):
        releases = [
            add(store, day, {"weights.bin": WEIGHTS, "readme": b"%d" % day, f"a/{day}": WEIGHTS})
            for day in (1, 2, 3)
        ]
        assert len({inode(release.path / "weights.bin") for release in releases}) == 1
        assert len({inode(release.path / "readme") for release in releases}) == 3
        assert [store.verify(release) for release in releases] == [()] * 3

    def test_a_rotten_file_is_not_spread_but_healed(self, store):
        old = add(store, 1, {"weights.bin": WEIGHTS, "n": b"1"})
        (old.path / "weights.bin").write_bytes(WEIGHTS[:-1] + b"?")
        new = add(store, 2, {"weights.bin": WEIGHTS, "n": b"2"})
        assert store.verify(new) == store.verify(old) == ()

    def test_pruning_one_leaves_the_others_whole(self, store):
        _, kept = (add(store, day, {"weights.bin": WEIGHTS, "n": b"%d" % day}) for day in (1, 2))
        pruned = prune(store, "digits", keep=1)
        assert pruned.freed_bytes == 1
        assert store.verify(kept) == ()

    def test_a_name_that_somebody_made_a_link_is_left_alone(self, store, tmp_path):
        (tmp_path / "elsewhere").write_bytes(b"precious")
        old = add(store, 1, {"weights.bin": WEIGHTS, "n": b"1"})
        (old.path / "weights.bin").unlink()
        (old.path / "weights.bin").symlink_to(tmp_path / "elsewhere")
        add(store, 2, {"weights.bin": WEIGHTS, "n": b"2"})
        assert store.verify(old) == ("weights.bin: changed since it was verified",)
        assert (tmp_path / "elsewhere").read_bytes() == b"precious"

    def test_a_file_system_without_links_keeps_copies(self, store, monkeypatch):
        def refuse(source, name):
            raise OSError(1, "Operation not permitted")

        add(store, 1, {"weights.bin": WEIGHTS, "n": b"1"})
        monkeypatch.setattr(os, "link", refuse)
        assert store.verify(add(store, 2, {"weights.bin": WEIGHTS, "n": b"2"})) == ()


def test_a_folder_that_became_a_link_is_seen(store, tmp_path):
    release = add(store, 1, {"code/inference.py": b"print()"})
    (release.path / "code").rename(tmp_path / "moved")
    (release.path / "code").symlink_to(tmp_path / "moved")
    assert store.verify(release) == ("code/inference.py: missing", "code: not in the manifest")


def test_models_are_listed_by_name(store):
    assert store.models() == ()
    add(store, 1)
    (store.root / "lost+found").mkdir()
    (store.root / "not a model/releases").mkdir(parents=True)
    assert store.models() == ("digits",)


def test_what_is_read_while_others_prune_and_add_is_whole_or_said_to_be_gone(store):
    add(store, 1)
    ended, read, broken = threading.Event(), [], []

    def deploy() -> None:
        while not ended.is_set():
            for release_id in ids(store):
                # Its manifest may have gone between two looks.
                with suppress(ReleaseNotFound, StoreError):
                    release = store.release("digits", release_id)
                    with in_use(store, release):
                        broken.extend(store.verify(release))
                        read.append(release_id)

    def prune_often() -> None:
        while not ended.is_set():
            prune(store, "digits", keep=1)

    threads = [threading.Thread(target=act) for act in (deploy, deploy, prune_often)]
    for thread in threads:
        thread.start()
    try:
        for day in range(2, 20):
            add(store, day)
    finally:
        ended.set()
        for thread in threads:
            thread.join()
    assert broken == []
    assert len(set(read)) > 1
    prune(store, "digits", keep=1)
    assert ids(store) == (store.release("digits", "latest").release_id,)
