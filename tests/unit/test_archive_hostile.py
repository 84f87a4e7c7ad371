"""Hostile archives: what would write elsewhere, or cost more than it gives, is refused by name."""

from __future__ import annotations

import gzip
import tarfile

import pytest
from backports import zstd

from hybrid_provider.artifacts.archive import Limits
from hybrid_provider.exceptions import ArtifactRefused
from tests.unit.archives import FILES, member, packed, pax, tar_of, unpacked

ARCHIVE = packed(FILES)


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "staging"
    folder.mkdir()
    return folder


LINK = {"linkname": "/etc/passwd"}
HOSTILE = {
    "climbs": (member("../evil", b"x"), r"'\.\./evil'"),
    "climbs inside": (member("code/../../evil", b"x"), r"'code/\.\./\.\./evil'"),
    "absolute": (member("/etc/cron.d/evil", b"x"), "'/etc/cron.d/evil'"),
    "absolute after dots": (member(".//etc/evil", b"x"), "etc/evil"),
    "a dot": (member("code/./evil", b"x"), "'code/./evil'"),
    "an empty component": (member("code//evil", b"x"), "'code//evil'"),
    "a backslash": (member("..\\evil", b"x"), r"evil"),
    "a NUL": (member("s", b"x", pax_headers={"path": "evil\0name"}), r"evil\\x00name"),
    "4,096 bytes": (member("n" * 4096, b"x"), "longer than"),
    "not assigned": (member("evil\uffff", b"x"), r"holds '\\uffff'"),
    "invisible": (member("evil\u3164", b"x"), r"holds '\\u3164'"),
    "a slash that is none": (member("..\u2215evil", b"x"), r"holds '\\u2215'"),
    "an option": (member("code/-rf", b"x"), "begins with '-'"),
    "a home": (member("~root/.profile", b"x"), "begins with '~'"),
    "a device of Windows": (member("code/nul.txt", b"x"), "'code/nul.txt': nul.txt is a device"),
    "a stream of Windows": (member("model.onnx:hidden", b"x"), "holds ':'"),
    "a command": (member("`id`;id", b"x"), "holds '`'"),
    "a pattern": (member("code/*", b"x"), r"holds '\*'"),
    "a dot that Windows drops": (member("model.onnx.", b"x"), r"ends with '\.'"),
    "a space that Windows drops": (member("code /x", b"x"), "ends with ' '"),
    "a newline": (member("evil\nname", b"x"), r"evil\\nname"),
    "an escape": (member("\x1b[2Jevil", b"x"), r"x1b\[2Jevil"),
    "right to left": (member("evil\u202egz.exe", b"x"), "evil"),
    "decomposed": (member("a\u0308.bin", b"x"), "NFC"),
    "too long a component": (member("n" * 256, b"x"), "nnnn"),
    "too long a path": (member("/".join(["n" * 100] * 40), b"x"), "longer than"),
    "a symbolic link": (member("link", type=tarfile.SYMTYPE, **LINK), "'link' is a symbolic link"),
    "a hard link": (member("link", type=tarfile.LNKTYPE, **LINK), "'link' is a hard link"),
    "a character device": (member("dev", type=tarfile.CHRTYPE), "'dev' is a character device"),
    "a block device": (member("dev", type=tarfile.BLKTYPE), "'dev' is a block device"),
    "a FIFO": (member("pipe", type=tarfile.FIFOTYPE), "'pipe' is a FIFO"),
    "a contiguous file": (member("odd", b"x", type=tarfile.CONTTYPE), "'odd' is a contiguous file"),
    "an unknown type": (member("odd", b"x", type=b"Z"), "'odd' is of type"),
    "a multi-volume piece": (member("odd", b"x", type=b"M"), "'odd' is of type"),
    "a folder that climbs": (member("../evil", type=tarfile.DIRTYPE), r"'\.\./evil'"),
    "a sparse file in pax": (member("s", b"x", pax_headers={"GNU.sparse.major": "1"}), "'s' is a sparse file"),
    "a sparse file under its own name": (member("GNUSparseFile.1/s", b"x", pax_headers={"GNU.sparse.name": "evil"}), "'evil' is a sparse file"),
    "a name in no charset": (member("s", b"x", pax_headers={"hdrcharset": "BINARY"}), "'s' has a name"),
    "a size in pax that is none": (member("s", b"x", pax_headers={"size": "-1"}), "'-1'"),
    "a size in pax without end": (member("s", b"x", pax_headers={"size": "9" * 5000}), "9999"),
    "a huge header": (member("s", b"x", pax_headers={"comment": "x" * (2 << 20)}), "header of"),
}  # fmt: skip


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_member_is_refused_by_its_name(folder, tmp_path, kind):
    hostile, named = HOSTILE[kind]
    before = set(tmp_path.rglob("*"))
    with pytest.raises(ArtifactRefused, match=named):
        unpacked(folder, gzip.compress(tar_of(hostile)))
    assert set(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    "name", [".git/config", "$(id)", "#x", "%s", "current", ".staging", "manifest", "links"]
)
def test_a_name_that_means_something_to_another_program_is_a_plain_file_here(folder, name):
    assert unpacked(folder, tar_of(member(name, b"x")), "model.tar") == {name: b"x"}


@pytest.mark.parametrize(
    ("first", "second"),
    [("a", "a"), ("Model.bin", "model.BIN"), ("straße", "STRASSE"), ("a", "a/b"), ("a/b", "a"), ("A", "a/b"),
     ("A/x", "a/y"), ("code/A/in/x", "code/a/in/y")],
)  # fmt: skip
def test_a_name_that_is_taken_is_refused(folder, first, second):
    with pytest.raises(ArtifactRefused, match=second):
        unpacked(folder, tar_of(member(first, b"1"), member(second, b"2")), "model.tar")


def test_a_folder_and_a_file_of_one_name_are_refused(folder):
    content = tar_of(member("a", type=tarfile.DIRTYPE), member("a", b"x"), member("a/b", b"y"))
    with pytest.raises(ArtifactRefused, match="a/b"):
        unpacked(folder, content, "model.tar")


def test_a_sparse_file_of_gnu_tar_is_refused(folder):
    content = bytearray(tar_of(member("sparse", b"x", type=tarfile.GNUTYPE_SPARSE), form=tarfile.GNU_FORMAT))
    with pytest.raises(ArtifactRefused, match="'sparse' is a sparse file"):
        unpacked(folder, bytes(content), "model.tar")


def test_a_name_that_is_not_utf8_is_refused(folder):
    content = tar_of(member("caf\xe9", b"x"), form=tarfile.GNU_FORMAT, encoding="latin-1")
    with pytest.raises(ArtifactRefused, match="UTF-8"):
        unpacked(folder, content, "model.tar")


def test_of_headers_in_a_row_the_last_word_counts_and_is_checked(folder):
    evil, good = pax(path="../evil"), pax(path="good")
    assert unpacked(folder, evil + good + packed({"a": b"x"}), "model.tar") == {"good": b"x"}
    with pytest.raises(ArtifactRefused, match=r"'\.\./evil'"):
        unpacked(folder, good + evil + packed({"a": b"x"}), "model.tar")
    with pytest.raises(ArtifactRefused, match="'good' is a sparse file"):
        unpacked(folder, pax(**{"GNU.sparse.map": "0,1"}) + good + packed({"a": b"x"}), "model.tar")


def test_what_costs_time_and_gives_nothing_is_refused(folder):
    """Each of these is of some KiB as it is packed, and would keep a worker for minutes or hours."""
    with pytest.raises(ArtifactRefused, match="follows the end"):
        unpacked(folder, gzip.compress(ARCHIVE + bytes(17 << 20)))
    for nothing, name in (
        (gzip.compress(b""), "model.tar.gz"),
        (zstd.compress(b""), "model.tar.zst"),
        (b"\x50\x2a\x4d\x18" + bytes(4), "model.tar.zst"),
    ):
        with pytest.raises(ArtifactRefused, match="pieces of next to nothing"):
            unpacked(folder, nothing * 10_002, name)


def test_headers_that_are_longer_than_what_they_are_of_are_refused(folder):
    many = tar_of(*(member(f"f{n}", pax_headers={"comment": "x" * 600_000}) for n in range(2)))
    with pytest.raises(ArtifactRefused, match="too long headers for its 3 members"):
        unpacked(folder, many, "model.tar", limits=Limits(files=4))


def test_more_folders_than_a_release_may_have_are_refused(folder, monkeypatch):
    """A hundred thousand names can be of fifty million folders."""
    monkeypatch.setattr("hybrid_provider.artifacts.folder.MAX_FOLDERS", 5)
    names = [f"{n}/a/b/x" for n in range(2)]
    with pytest.raises(ArtifactRefused, match="folder '1/a/b' is one more than the 5"):
        unpacked(folder, packed(dict.fromkeys(names, b"")), "model.tar")


def test_names_that_are_longer_together_than_fit_into_memory_are_refused(folder, monkeypatch):
    """Those of the folders count: of 100,000 files they alone may have 100 MB."""
    monkeypatch.setattr("hybrid_provider.artifacts.file_names.MAX_NAMES_BYTES", 20)
    fit, more = ["folder/one", "two"], ["folder/one", "three"]
    assert sorted(unpacked(folder, packed(dict.fromkeys(fit, b"")), "model.tar")) == fit
    (other := folder.with_name("other")).mkdir()
    with pytest.raises(ArtifactRefused, match=r"name 'three': with it, .* more than 20 bytes"):
        unpacked(other, packed(dict.fromkeys(more, b"")), "model.tar")


def test_a_bomb_is_refused_at_its_limit_and_not_after_it(folder):
    bomb = gzip.compress(tar_of(member("zeros", bytes(4 << 20))))
    limits = Limits(ratio=10, ratio_from_bytes=1 << 20)
    with pytest.raises(ArtifactRefused, match=r"'zeros'.*more than 1048576"):
        unpacked(folder, bomb, limits=limits)
    assert list(folder.iterdir()) == []


def test_more_bytes_or_files_than_allowed_are_refused(folder):
    with pytest.raises(ArtifactRefused, match=r"'model\.onnx'"):
        unpacked(folder, ARCHIVE, "model.tar", limits=Limits(unpacked_bytes=2999))
    many = tar_of(*(member(f"f{n}") for n in range(5)))
    with pytest.raises(ArtifactRefused, match="more than 4 files"):
        unpacked(folder, many, "model.tar", limits=Limits(files=4))
    folders = tar_of(*(member(f"d{n}", type=tarfile.DIRTYPE) for n in range(50)))
    with pytest.raises(ArtifactRefused, match="headers"):
        unpacked(folder, folders, "model.tar", limits=Limits(files=4))


def test_a_size_that_no_disk_holds_is_refused_before_a_byte_is_written(folder):
    header = tarfile.TarInfo("huge")
    header.size = 1 << 62
    with pytest.raises(ArtifactRefused, match="'huge'"):
        unpacked(folder, header.tobuf(tarfile.GNU_FORMAT) + bytes(512), "model.tar")
    assert list(folder.iterdir()) == []
