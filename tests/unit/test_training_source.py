"""The source archive: the same bytes for the same files, and nothing from outside."""

from __future__ import annotations

import io
import os
import shutil
import tarfile

import pytest

from hybrid_provider.exceptions import ConfigurationError
from hybrid_provider.training import source
from hybrid_provider.training.source import pack_file, pack_source


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "source"
    (root / "lib").mkdir(parents=True)
    (root / "train.py").write_text("import lib.model\n")
    (root / "lib" / "model.py").write_text("layers = 3\n")
    return root


def names(bundle):
    with tarfile.open(fileobj=io.BytesIO(bundle.archive)) as tar:
        return tar.getnames()


def test_the_same_files_give_the_same_bytes_wherever_and_whenever(folder, tmp_path):
    first = pack_source(folder, "train.py")
    copy = tmp_path / "elsewhere"
    shutil.copytree(folder, copy)
    os.utime(copy / "train.py", (1, 1))
    (copy / "train.py").chmod(0o600)

    assert pack_source(copy, "train.py").archive == first.archive


def test_the_script_lies_at_the_archive_s_root_and_folders_stay_folders(folder):
    assert names(pack_source(folder, "train.py")) == ["lib/model.py", "train.py"]


def test_what_tools_leave_behind_is_no_part_of_the_source(folder):
    before = pack_source(folder, "train.py")
    for name in ("__pycache__", ".git", ".venv"):
        (folder / name).mkdir()
        (folder / name / "x").write_text("x")
    (folder / "lib" / "model.pyc").write_text("x")

    assert pack_source(folder, "train.py") == before


def test_a_changed_file_is_another_source(folder):
    before = pack_source(folder, "train.py")
    (folder / "lib" / "model.py").write_text("layers = 4\n")

    assert pack_source(folder, "train.py") != before


def test_a_single_script_is_packed_without_its_neighbours(folder):
    assert names(pack_file(folder / "train.py")) == ["train.py"]


@pytest.mark.parametrize(
    "entry_point", ["../train.py", "/etc/passwd", "lib", "none.py", "lib/../../train.py", ""]
)
def test_an_entry_point_that_is_no_file_inside_is_refused(folder, entry_point):
    with pytest.raises(ConfigurationError, match="entry_point"):
        pack_source(folder, entry_point)


def test_a_missing_folder_is_refused(tmp_path):
    with pytest.raises(ConfigurationError, match=r"source_dir .* is no folder"):
        pack_source(tmp_path / "none", "train.py")


@pytest.mark.parametrize("target", ["/etc/hostname", "/etc", "nowhere"])
def test_a_link_that_leads_outside_or_nowhere_is_refused(folder, target):
    (folder / "link").symlink_to(target)

    with pytest.raises(ConfigurationError, match="link"):
        pack_source(folder, "train.py")


def test_a_link_to_a_file_inside_is_that_file(folder):
    (folder / "also.py").symlink_to("train.py")

    assert "also.py" in names(pack_source(folder, "train.py"))


def test_a_pipe_is_refused_and_not_read(folder):
    os.mkfifo(folder / "pipe")

    with pytest.raises(ConfigurationError, match="special file"):
        pack_source(folder, "train.py")


def test_more_than_the_stated_size_is_refused(folder, monkeypatch):
    monkeypatch.setattr(source, "MAX_SOURCE_BYTES", 10)

    with pytest.raises(ConfigurationError, match=r"at most 10 are allowed; put data into an input channel"):
        pack_source(folder, "train.py")
