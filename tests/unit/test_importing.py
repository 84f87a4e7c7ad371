"""A local file or folder as a release."""

from __future__ import annotations

import io
import os
import tarfile
from datetime import UTC, datetime

import pytest

from hybrid_provider.artifacts import importing
from hybrid_provider.artifacts.archive import Limits
from hybrid_provider.artifacts.importing import import_release
from hybrid_provider.artifacts.policy import ArtifactPolicy
from hybrid_provider.artifacts.store import ReleaseStore
from hybrid_provider.exceptions import ArtifactNotFound, ArtifactRefused

FILES = {"model.onnx": b"weights", "code/inference.py": b"print()"}


@pytest.fixture
def store(tmp_path):
    return ReleaseStore(tmp_path / "store")


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "model"
    for name, content in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
        os.utime(folder / name, (1_700_000_000, 1_700_000_000))
    return folder


def files_of(release):
    return {str(p.relative_to(release.path)): p.read_bytes() for p in release.path.rglob("*") if p.is_file()}


def test_a_folder_s_files_are_copied_and_dated_by_the_newest(store, folder):
    release = import_release(store, "digits", folder, provenance={"run": {"dag_id": "manual"}})
    assert files_of(release) == FILES
    assert release.release_id.startswith("20231114T221320Z-")
    assert store.provenance(release) == {
        "artifact": None,
        "imported_from": str(folder),
        "run": {"dag_id": "manual"},
    }
    assert (release.path / "model.onnx").stat().st_ino != (folder / "model.onnx").stat().st_ino


def test_an_archive_is_unpacked_to_the_release_of_its_files(store, folder, tmp_path):
    with tarfile.open(tmp_path / "model.tar.gz", "w:gz") as tar:
        tar.add(folder, arcname=".")
    created = datetime(2026, 1, 1, tzinfo=UTC)
    assert import_release(store, "digits", tmp_path / "model.tar.gz", created=created) == import_release(
        store, "digits", folder
    )


def test_a_file_is_a_release_of_one_file(store, folder):
    assert files_of(import_release(store, "digits", folder / "model.onnx")) == {"model.onnx": b"weights"}


def make_link(folder):
    (folder / "link").symlink_to("model.onnx")


def make_linked_folder(folder):
    (folder / "link").symlink_to("code")


def make_fifo(folder):
    os.mkfifo(folder / "pipe")


def make_odd_name(folder):
    (folder / "right\u202eleft").touch()


@pytest.mark.parametrize("make", [make_link, make_linked_folder, make_fifo, make_odd_name])
def test_what_is_no_plain_file_is_refused_and_leaves_nothing(store, folder, make):
    make(folder)
    with pytest.raises(ArtifactRefused, match=r"link|pipe|holds"):
        import_release(store, "digits", folder)
    assert store.releases("digits") == ()


def test_what_the_policy_refuses_is_no_release(store, folder):
    (folder / "model.pkl").write_bytes(b"\x80\x04N.")
    with pytest.raises(ArtifactRefused, match=r"'model.pkl'"):
        import_release(store, "digits", folder, policy=ArtifactPolicy.of({"allowed_formats": "strict"}))
    assert store.releases("digits") == ()


def test_more_files_than_allowed_are_refused(store, folder):
    with pytest.raises(ArtifactRefused, match="2 files, more than 1"):
        import_release(store, "digits", folder, limits=Limits(files=1))


def test_a_path_that_is_not_there_is_named(store, tmp_path):
    with pytest.raises(ArtifactNotFound, match="absent"):
        import_release(store, "digits", tmp_path / "absent")


def test_an_empty_folder_is_no_model(store, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ArtifactRefused, match=r"no file"):
        import_release(store, "digits", tmp_path / "empty")


def test_a_bomb_is_refused(store, tmp_path):
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        member = tarfile.TarInfo("zeros")
        member.size = 1 << 20
        tar.addfile(member, io.BytesIO(bytes(1 << 20)))
    (tmp_path / "bomb.tar").write_bytes(archive.getvalue())
    with pytest.raises(ArtifactRefused, match="'zeros'"):
        import_release(store, "digits", tmp_path / "bomb.tar", limits=Limits(unpacked_bytes=1000))


def become_a_link(folder, secret):
    (folder / "code").rename(folder / "moved")
    (folder / "code").symlink_to(secret)


def become_a_pipe(folder, secret):
    (folder / "code/inference.py").unlink()
    os.mkfifo(folder / "code/inference.py")


@pytest.mark.parametrize("become", [become_a_link, become_a_pipe])
def test_what_became_a_link_or_a_pipe_since_it_was_looked_at_is_not_read(
    store, folder, tmp_path, monkeypatch, become
):
    """Whoever may write into the folder could have the worker read what only the worker may."""
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret/inference.py").write_bytes(b"secret!")

    def swap(_):
        become(folder, tmp_path / "secret")
        return 1 << 30

    monkeypatch.setattr(importing, "free_bytes", swap)
    with pytest.raises((ArtifactNotFound, ArtifactRefused), match=r"code/inference\.py"):
        import_release(store, "digits", folder)
    assert store.releases("digits") == ()
