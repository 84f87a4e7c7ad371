"""The store of releases on a real file system."""

from __future__ import annotations

import json
import multiprocessing
import os
import stat
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from hybrid_provider.artifacts.artifact import Artifact
from hybrid_provider.artifacts.folder import FolderWriter, store_errors_explained
from hybrid_provider.artifacts.release import created_of
from hybrid_provider.artifacts.store import ReleaseStore
from hybrid_provider.exceptions import (
    ArtifactChanged,
    ConfigurationError,
    InvalidName,
    ReleaseNotFound,
    StoreError,
)

if TYPE_CHECKING:
    from pathlib import Path

CREATED = datetime(2026, 11, 23, 18, 46, tzinfo=UTC)
FILES = {"model.onnx": b"weights", "code/inference.py": b"print()"}


def artifact(etag: str = "e1") -> Artifact:
    return Artifact(
        uri="s3://models/m.tar.gz", size_bytes=14, etag=etag, version_id=None, last_modified=CREATED
    )


@pytest.fixture
def store(tmp_path):
    return ReleaseStore(tmp_path / "store")


def add(store, files=FILES, *, created=CREATED, source=None, model="digits", provenance=None):
    with store.locked(model), store.staging(model) as staged, FolderWriter(staged) as writer:
        for path, content in files.items():
            writer.write(path, [memoryview(content)])
        return store.add(
            model, staged, writer.seal(), created=created, artifact=source, provenance=provenance or {}
        )


def test_a_release_is_found_by_id_latest_digest_and_artifact(store):
    release = add(store, source=artifact())
    assert release.release_id == f"20261123T184600Z-{release.digest[:12]}"
    assert store.release("digits", release.release_id) == release
    assert store.release("digits", "latest") == release
    assert store.find_digest("digits", release.digest) == release
    assert store.find("digits", artifact()) == release
    assert store.find("digits", artifact("e2")) is None
    assert created_of(release.release_id) == CREATED


def test_a_release_holds_the_files_and_nothing_else(store):
    release = add(store)
    found = {str(p.relative_to(release.path)): p.read_bytes() for p in release.path.rglob("*") if p.is_file()}
    assert found == FILES
    assert not (store.root / "digits/.staging").exists()


def test_modes_do_not_depend_on_the_umask(store):
    before = os.umask(0o077)
    try:
        release = add(store)
    finally:
        os.umask(before)
    for path in [store.root, *store.root.rglob("*")]:
        if path.name == ".lock":
            continue
        expected = 0o755 if path.is_dir() else 0o644
        assert stat.S_IMODE(path.stat().st_mode) == expected, path
    assert release.path.is_dir()


def test_the_same_files_keep_their_release_whatever_their_source_and_date(store):
    first = add(store, source=artifact("e1"))
    later = datetime(2027, 1, 1, tzinfo=UTC)
    second = add(store, source=artifact("e2"), created=later)
    assert second == first
    assert store.find("digits", artifact("e2")) == first
    assert len(store.releases("digits")) == 1


def test_the_latest_release_is_the_newest_by_creation_not_by_arrival(store):
    new = add(store, {"m": b"new"}, created=datetime(2026, 2, 1, tzinfo=UTC))
    old = add(store, {"m": b"old"}, created=datetime(2026, 1, 1, tzinfo=UTC))
    assert store.release("digits", "latest") == new
    assert store.releases("digits") == (old, new)


def test_models_do_not_see_each_other(store):
    add(store, source=artifact(), model="digits")
    assert store.find("letters", artifact()) is None
    assert store.releases("letters") == ()


@pytest.mark.parametrize("name", ["latest", "champion", "20260101T000000Z-000000000000"])
def test_a_release_that_is_not_there_is_named_with_the_store_and_the_worker(store, name):
    with pytest.raises(
        ReleaseNotFound, match=f"'digits' has no release '{name}' in {store.root} on {os.uname().nodename}"
    ):
        store.release("digits", name)


@pytest.mark.parametrize("name", ["..", "../digits", "a/b", "", "-"])
def test_names_cannot_leave_the_store(store, name):
    with pytest.raises(InvalidName):
        store.release("digits", name)
    with pytest.raises(InvalidName):
        store.release(name, "latest")


def test_a_channel_names_a_release_until_it_is_pointed_elsewhere(store):
    one, two = add(store, {"m": b"1"}), add(store, {"m": b"2"})
    for release in (one, two):
        store.point("digits", "champion", release.release_id)
        assert store.release("digits", "champion") == release
    with pytest.raises(ReleaseNotFound):
        store.release("digits", "candidate")
    with pytest.raises(ReleaseNotFound):
        store.point("digits", "candidate", "20260101T000000Z-000000000000")
    with pytest.raises(ConfigurationError, match="candidate, champion"):
        store.point("digits", "../../evil", one.release_id)


def test_verify_names_each_file_that_is_not_as_it_was(store):
    release = add(store, FILES | {"kept": b"k", "swapped": b"s"})
    assert store.verify(release) == ()
    (release.path / "model.onnx").write_bytes(b"weight5")
    (release.path / "code/inference.py").unlink()
    (release.path / "code/extra.py").write_bytes(b"")
    (release.path / "swapped").unlink()
    (release.path / "swapped").symlink_to("kept")
    assert store.verify(release) == (
        "code/extra.py: not in the manifest",
        "code/inference.py: missing",
        "model.onnx: changed since it was verified",
        "swapped: changed since it was verified",
    )


def test_a_release_whose_manifest_is_gone_is_an_error_and_no_release(store):
    other = add(store, {"m": b"other"}, created=datetime(2020, 1, 1, tzinfo=UTC)).manifest.text()
    release = add(store)
    manifest = store.root / "digits/manifests" / release.release_id
    for damage in (
        manifest.unlink,
        lambda: manifest.write_bytes(b"\xff"),
        lambda: manifest.write_text(other),
    ):
        damage()
        with pytest.raises(StoreError, match=f"remove {release.path} and sync again"):
            store.release("digits", "latest")


def test_a_folder_that_is_no_release_is_passed_over(store):
    release = add(store)
    (release.path.parent / "zzz-by-hand").mkdir()
    assert store.release("digits", "latest") == release
    assert store.releases("digits") == (release,)


def test_provenance_is_kept_beside_the_release(store):
    release = add(store, source=artifact(), provenance={"training": {"job": "digits-1"}})
    assert store.provenance(release) == {"artifact": artifact().to_dict(), "training": {"job": "digits-1"}}
    assert store.release("digits", "latest").artifact == artifact()


class TestEnsure:
    """A deploy may run on another worker than the sync."""

    @staticmethod
    def never(artifact, created):
        raise AssertionError("fetched what was there")

    def test_what_is_here_is_not_fetched(self, store):
        release = add(store, source=artifact())
        assert store.ensure(release.to_dict(seconds=1, reused_bytes=0), self.never) == release

    def test_what_is_elsewhere_is_fetched_again_to_the_same_release(self, store, tmp_path):
        elsewhere = add(ReleaseStore(tmp_path / "elsewhere"), source=artifact())
        wanted = json.loads(json.dumps(elsewhere.to_dict(seconds=1, reused_bytes=0)))
        fetched = store.ensure(wanted, lambda source, created: add(store, source=source, created=created))
        assert (fetched.release_id, fetched.manifest) == (elsewhere.release_id, elsewhere.manifest)
        assert fetched.path.is_relative_to(store.root)

    def test_other_files_than_before_are_no_release_of_that_name(self, store, tmp_path):
        elsewhere = add(ReleaseStore(tmp_path / "elsewhere"), source=artifact())
        with pytest.raises(ArtifactChanged, match=f"{store.root} on {os.uname().nodename}"):
            store.ensure(
                elsewhere.to_dict(seconds=1, reused_bytes=0),
                lambda source, created: add(store, {"m": b"other"}, source=source, created=created),
            )

    def test_an_imported_release_cannot_be_fetched(self, store, tmp_path):
        elsewhere = add(ReleaseStore(tmp_path / "elsewhere"))
        with pytest.raises(ReleaseNotFound, match=f"{store.root} on {os.uname().nodename}.*imported"):
            store.ensure(elsewhere.to_dict(seconds=1, reused_bytes=0), self.never)


def hold(root: Path, held, release):
    with ReleaseStore(root).locked("digits"):
        held.set()
        release.wait()


def test_the_lock_keeps_others_out_and_dies_with_its_process(store):
    spawn = multiprocessing.get_context("spawn")
    held, release = spawn.Event(), spawn.Event()
    holder = spawn.Process(target=hold, args=(store.root, held, release))
    holder.start()
    assert held.wait(60)
    with pytest.raises(BlockingIOError):
        try_lock(store)
    holder.kill()
    holder.join()
    try_lock(store)


def try_lock(store: ReleaseStore) -> None:
    import fcntl

    with (store.root / "digits/.lock").open("r+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_what_a_killed_sync_left_is_cleaned_by_the_next(store):
    left = store.root / "digits/.staging/killed/model.onnx"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"half")
    add(store)
    assert not left.exists()


def test_a_sync_that_fails_leaves_no_staging(store):
    def interrupted():
        with store.locked("digits"), store.staging("digits") as staged:
            (staged / "half").write_bytes(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert [path.name for path in (store.root / "digits").iterdir()] == [".lock"]
    try_lock(store)


@pytest.mark.parametrize(
    ("code", "remedy"),
    [
        ("ENOSPC", "free space"),
        ("EDQUOT", "quota"),
        ("EROFS", "writable"),
        ("EACCES", "store_root"),
        ("EFBIG", "ulimit"),
    ],
)
def test_what_the_system_refuses_is_explained_with_path_and_bytes(tmp_path, code, remedy):
    import errno

    number = getattr(errno, code)
    with (
        pytest.raises(StoreError, match=rf"model\.onnx: .* \(\d+ bytes free, 750 bytes needed\); .*{remedy}"),
        store_errors_explained(tmp_path, 750),
    ):
        raise OSError(number, os.strerror(number), str(tmp_path / "model.onnx"))


def test_a_store_below_a_file_is_explained(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="store_root"):
        add(ReleaseStore(tmp_path / "file" / "store"))
