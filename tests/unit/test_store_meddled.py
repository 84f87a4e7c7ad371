"""What others left in a store, or do to it while a sync runs: links, other users, editors, and prunings."""

from __future__ import annotations

import errno
import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from hybrid_provider.artifacts.admission import Admission
from hybrid_provider.artifacts.clouds import CloudAccess
from hybrid_provider.artifacts.retention import prune
from hybrid_provider.artifacts.store import ReleaseStore
from hybrid_provider.artifacts.sync import sync
from hybrid_provider.exceptions import StoreError

THIS_MACHINE = CloudAccess(cloud="file")
LARGE = os.urandom(5000)


@pytest.fixture
def trained(tmp_path):
    (tmp_path / "trained").mkdir()
    return tmp_path / "trained"


@pytest.fixture
def store(tmp_path):
    return ReleaseStore(tmp_path / "store")


def synced(store: ReleaseStore, folder: Path, files: dict[str, bytes], day: int = 1):
    for path, content in files.items():
        (folder / path).parent.mkdir(exist_ok=True)
        (folder / path).write_bytes(content)
    created = datetime(2026, 1, day, tzinfo=UTC)
    return sync(THIS_MACHINE, f"file://{folder}/", "digits", store, created=created)


@pytest.mark.parametrize("link", ["store", "store/digits"])
def test_a_store_may_be_a_link_to_where_the_disk_is(store, trained, tmp_path, link):
    (tmp_path / "disk").mkdir()
    (tmp_path / link).parent.mkdir(exist_ok=True)
    (tmp_path / link).symlink_to(tmp_path / "disk")
    releases = [synced(store, trained, {"a": LARGE, "b": b"%d" % day}, day).release for day in (1, 2)]
    assert [store.verify(release) for release in releases] == [(), ()]
    store.point("digits", "champion", releases[1].release_id)
    assert prune(store, "digits", keep=1).removed == (releases[0].release_id,)


def test_a_manifest_that_somebody_edited_stops_no_sync_of_another_release(store, trained, caplog):
    old = synced(store, trained, {"a": LARGE, "b": b"1"}).release
    manifest = store.root / "digits/manifests" / old.release_id
    manifest.write_text(manifest.read_text().replace(" a\n", " c\n"))
    new = synced(store, trained, {"b": b"2"}, day=2)
    assert store.verify(new.release) == ()
    assert new.reused_bytes == 0
    assert f"manifests/{old.release_id}, or the provenance beside it, is gone or damaged" in caplog.text


def test_provenance_that_somebody_edited_makes_nothing_known(store, trained):
    old = synced(store, trained, {"a": LARGE, "b": b"1"}).release
    provenance = store.root / "digits/provenance" / f"{old.release_id}.json"
    provenance.write_text('{"artifact": null, "objects": [1, ["x"], [[], [], 1, "a"]]}')
    new = synced(store, trained, {"b": b"2"}, day=2)
    assert store.verify(new.release) == ()
    assert new.reused_bytes == 0


@pytest.mark.parametrize("text", ["", "../../evil\n\n", "20260101T000000Z-000000000000\n../evil\n"])
def test_a_channel_that_somebody_edited_lets_nothing_be_pruned(store, trained, text):
    for day in (1, 2):
        synced(store, trained, {"a": b"%d" % day}, day)
    (store.root / "digits/channels/champion").write_text(text)
    with pytest.raises(StoreError, match=r"channels/champion names no release; write the id"):
        prune(store, "digits", keep=1)
    assert len(store.release_ids("digits")) == 2


def test_a_file_that_somebody_took_away_is_shared_with_nobody(store, trained):
    old = synced(store, trained, {"in/a": LARGE, "b": b"1"}).release
    (old.path / "in/a").unlink()
    assert store.verify(synced(store, trained, {"b": b"2"}, day=2).release) == ()
    assert store.verify(old) == ("in/a: missing",)


def test_a_release_of_another_user_shares_no_files(store, trained, monkeypatch):
    synced(store, trained, {"a": LARGE, "b": b"1"})
    replace = Path.replace

    def refuse_releases(path, target):
        if "releases" in Path(target).parts:
            raise PermissionError(errno.EACCES, "Permission denied", str(target))
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", refuse_releases)
    again = synced(store, trained, {"a": LARGE, "b": b"2"}, day=2)
    assert again.reused_bytes == 0
    assert store.verify(again.release) == ()


def test_sharing_replaces_nothing_behind_a_link(store, trained, tmp_path):
    old = synced(store, trained, {"in/a": LARGE, "b": b"1"}).release
    (old.path / "in").rename(tmp_path / "outside")
    (old.path / "in").symlink_to(tmp_path / "outside")
    (tmp_path / "outside/a").write_bytes(b"precious")
    synced(store, trained, {"b": b"2"}, day=2)
    assert (tmp_path / "outside/a").read_bytes() == b"precious"


def test_what_a_sync_brings_is_not_pruned_before_it_is_the_candidate(store, trained, monkeypatch):
    """A release of an older training is the first that a pruning takes."""
    newest = synced(store, trained, {"a": b"1"}, day=9).release
    point = ReleaseStore.point

    def after_a_pruning(self, model, channel, release_id):
        assert prune(store, "digits", keep=1).kept == {release_id: "in use", newest.release_id: "candidate"}
        point(self, model, channel, release_id)

    monkeypatch.setattr(ReleaseStore, "point", after_a_pruning)
    older = synced(store, trained, {"a": b"22"}, day=1).release
    assert store.release("digits", "candidate") == older


def test_what_a_sync_finds_is_not_pruned_before_it_is_the_candidate(store, trained, monkeypatch):
    older = synced(store, trained, {"a": b"1"}, day=1).release
    stamp = (trained / "a").stat()
    aside = trained.with_name("aside")
    (trained / "a").rename(aside)
    newer = synced(store, trained, {"a": b"22"}, day=9).release
    aside.rename(trained / "a")
    os.utime(trained / "a", ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    admit = Admission.admit_known

    def after_a_pruning(self, release):
        assert prune(store, "digits", keep=1).kept == {
            older.release_id: "in use",
            newer.release_id: "candidate",
        }
        admit(self, release)

    monkeypatch.setattr(Admission, "admit_known", after_a_pruning)
    again = sync(THIS_MACHINE, f"file://{trained}/", "digits", store)
    assert again.read_bytes == 0
    assert store.release("digits", "candidate") == older
