"""Archives, honest and hostile: what is unpacked, and what is refused by name."""

from __future__ import annotations

import bz2
import gzip
import io
import os
import random
import struct
import tarfile
import zlib

import pytest
from backports import zstd
from hypothesis import given, settings
from hypothesis import strategies as st

from hybrid_provider.artifacts.archive import Limits, unpack
from hybrid_provider.artifacts.folder import FolderWriter
from hybrid_provider.exceptions import ArtifactRefused

FILES = {"model.onnx": os.urandom(3000), "code/inference.py": b"print('hello')\n", "empty": b""}


def member(name: str, content: bytes = b"", **fields) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for field, value in fields.items():
        setattr(info, field, value)
    return info, content


def tar_of(*members: tuple[tarfile.TarInfo, bytes], form: int = tarfile.PAX_FORMAT, **arguments) -> bytes:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w", format=form, **arguments) as tar:
        for info, content in members:
            tar.addfile(info, io.BytesIO(content))
    return archive.getvalue()


def packed(files: dict[str, bytes], form: int = tarfile.PAX_FORMAT) -> bytes:
    return tar_of(*(member(name, content) for name, content in files.items()), form=form)


def chunked(content: bytes, size: int):
    return (memoryview(content)[start : start + size] for start in range(0, len(content), size))


def unpacked(
    folder, content: bytes, name: str = "model.tar.gz", chunk: int = 1 << 16, limits: Limits | None = None
):
    """Unpack into ``folder``; what the manifest says and what lies there, which must be one."""
    with FolderWriter(folder) as writer:
        unpack(name, len(content), chunked(content, chunk), writer, limits or Limits())
        manifest = writer.seal()
    found = {str(path.relative_to(folder)): path for path in folder.rglob("*") if not path.is_dir()}
    assert {file.path for file in manifest.files} == found.keys()
    return {name: path.read_bytes() for name, path in found.items()}


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "staging"
    folder.mkdir()
    return folder


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("chunk", [1, 100, 511, 513, 1 << 20])
def test_every_tar_dialect_is_read_however_it_is_cut_into_chunks(folder, form, chunk):
    assert unpacked(folder, gzip.compress(packed(FILES, form)), chunk=chunk) == FILES


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_names_are_read_in_both_dialects(folder, form):
    files = {"/".join(["folder" * 10] * 5) + "/weights.bin": b"1", "ä/模型.onnx": b"2"}
    assert unpacked(folder, packed(files, form), "model.tar") == files


def test_what_tar_itself_packs_from_a_folder_is_read(folder, tmp_path):
    (tmp_path / "model/code").mkdir(parents=True)
    for name, content in FILES.items():
        (tmp_path / "model" / name).write_bytes(content)
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz") as tar:
        tar.add(tmp_path / "model", arcname=".")
    assert unpacked(folder, archive.getvalue()) == FILES


def test_files_and_folders_get_plain_modes_whatever_the_archive_says(folder):
    unpacked(folder, tar_of(member("code/run.sh", b"#!", mode=0o4777)), "model.tar")
    assert oct((folder / "code/run.sh").stat().st_mode) == "0o100644"
    assert oct((folder / "code").stat().st_mode) == "0o40755"


@pytest.mark.parametrize("chunk", [1, 10, 1 << 20])
def test_several_gzip_members_are_one_archive(folder, chunk):
    content = packed(FILES)
    members = gzip.compress(content[:700]) + gzip.compress(b"") + gzip.compress(content[700:])
    assert unpacked(folder, members, chunk=chunk) == FILES


@pytest.mark.parametrize("chunk", [1, 10, 1 << 20])
def test_several_zstandard_frames_and_one_to_skip_are_one_archive(folder, chunk):
    content = packed(FILES)
    skipped = b"\x50\x2a\x4d\x18" + (4).to_bytes(4, "little") + b"note"
    frames = zstd.compress(content[:700]) + skipped + zstd.compress(content[700:])
    assert unpacked(folder, frames, "model.tar.zst", chunk=chunk) == FILES


def zstd_with_checksum(content: bytes) -> bytes:
    return zstd.compress(content, options={zstd.CompressionParameter.checksum_flag: 1})


@pytest.mark.parametrize("byte", [0, 5, 1000, -9, -1])
def test_a_flipped_bit_in_a_zstandard_archive_is_refused(folder, byte):
    damaged = bytearray(zstd_with_checksum(packed(FILES)))
    damaged[byte] ^= 1
    with pytest.raises(ArtifactRefused, match="Zstandard"):
        unpacked(folder, bytes(damaged), "model.tar.zst")


def test_a_zstandard_window_that_does_not_fit_into_memory_is_refused(folder):
    compressor = zstd.ZstdCompressor(options={zstd.CompressionParameter.window_log: 30})
    wide = compressor.compress(packed(FILES)) + compressor.flush()
    with pytest.raises(ArtifactRefused, match="damaged"):
        unpacked(folder, wide, "model.tar.zst")


@settings(max_examples=60, deadline=None)
@given(
    files=st.dictionaries(
        st.from_regex(r"[0-9]([a-z0-9 ._-]{0,20}[a-z0-9])?(/[0-9][a-z0-9]{0,119}){0,3}", fullmatch=True),
        st.binary(max_size=2000),
        min_size=1,
        max_size=6,
    ).filter(
        lambda files: (
            not any(one != other and other.startswith(one + "/") for one in files for other in files)
        )
    ),
    form=st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]),
    chunk=st.integers(1, 3000),
    zipped=st.booleans(),
)
def test_any_files_come_back_as_they_were_packed(tmp_path_factory, files, form, chunk, zipped):
    content = packed(files, form)
    name = "model.tar.gz" if zipped else "model.tar"
    folder = tmp_path_factory.mktemp("staging")
    assert unpacked(folder, gzip.compress(content) if zipped else content, name, chunk) == files


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


def test_global_headers_may_comment_and_no_more(folder):
    commented = tar_of(member("a", b"x"), pax_headers={"comment": "made by git archive"})
    assert unpacked(folder, commented, "model.tar") == {"a": b"x"}
    with pytest.raises(ArtifactRefused, match="'path'"):
        unpacked(folder, tar_of(member("b", b"x"), pax_headers={"path": "evil"}), "model.tar")


def test_binary_attributes_do_not_matter(folder):
    record = b"SCHILY.xattr.user.x=\xff\xfe\n"
    length = len(record) + 3
    header = tar_of(member("pax", b"%d %s" % (length, record), type=tarfile.XHDTYPE))[:1024]
    assert unpacked(folder, header + tar_of(member("a", b"x")), "model.tar") == {"a": b"x"}


@pytest.mark.parametrize(
    "text", [b"0 path=x\n", b"99 path=x\n", b"path=x\n", b"x", b"11 path=x\n", b"9 path=x\n9 path=y"]
)
def test_a_damaged_pax_header_is_refused(folder, text):
    header = tar_of(member("pax", text, type=tarfile.XHDTYPE))[:1024]
    with pytest.raises(ArtifactRefused):
        unpacked(folder, header + tar_of(member("a", b"x")), "model.tar")


ARCHIVE = packed(FILES)
ZIPPED = gzip.compress(ARCHIVE)


@pytest.mark.parametrize(
    ("content", "name", "named"),
    [
        (ZIPPED[:-1], "model.tar.gz", "cut off"),
        (ZIPPED[:-20], "model.tar.gz", "cut off"),
        (ZIPPED[:1], "model.tar.gz", "cut off"),
        (ZIPPED + b"garbage", "model.tar.gz", "follows"),
        (ZIPPED + bytes(512), "model.tar.gz", "follows"),
        (ZIPPED + b"\x1f", "model.tar.gz", "cut off"),
        (ZIPPED[:-8] + bytes(4) + ZIPPED[-4:], "model.tar.gz", "damaged"),
        (ZIPPED[:-4] + bytes(4), "model.tar.gz", "damaged"),
        (ARCHIVE, "model.tar.gz", "is none"),
        (b"<Error>AccessDenied</Error>", "model.tgz", "is none"),
        (ARCHIVE[:1000], "model.tar", "cut off in 'model.onnx'"),
        (ARCHIVE[:512], "model.tar", "cut off in 'model.onnx'"),
        (ARCHIVE.rstrip(b"\0"), "model.tar", "cut off"),
        (ARCHIVE + b"garbage", "model.tar", "follows"),
        (ARCHIVE + ARCHIVE, "model.tar", "follows"),
        (b"not a tar at all".ljust(1024), "model.tar", "damaged"),
        (ZIPPED, "model.tar", "damaged"),
        (gzip.compress(b""), "model.tar.gz", "cut off"),
        (bytes(1024), "model.tar", "holds no file"),
        (tar_of(member("only/a/folder", type=tarfile.DIRTYPE)), "model.tar", "holds no file"),
        (bz2.compress(ARCHIVE), "model.tar.bz2", "pack it as .tar.gz"),
        (b"", "model.tar.bz2", "pack it as .tar.gz"),
        (zstd.compress(packed(FILES))[:-1], "model.tar.zst", "cut off"),
        (b"\x1f\x8b\x08\x00", "model.tar.zst", "named as a Zstandard archive and is none"),
        (zstd.compress(packed(FILES)) + b"more", "model.tar.zst", "follows the Zstandard archive"),
    ],
)  # fmt: skip
def test_a_damaged_or_misnamed_archive_is_refused(folder, content, name, named):
    with pytest.raises(ArtifactRefused, match=named):
        unpacked(folder, content, name)


def pax(**records: str) -> bytes:
    """A pax header alone, for the member after it."""
    return tar_of(member("s", pax_headers=records))[:1024]


def test_of_headers_in_a_row_the_last_word_counts_and_is_checked(folder):
    evil, good = pax(path="../evil"), pax(path="good")
    assert unpacked(folder, evil + good + packed({"a": b"x"}), "model.tar") == {"good": b"x"}
    with pytest.raises(ArtifactRefused, match=r"'\.\./evil'"):
        unpacked(folder, good + evil + packed({"a": b"x"}), "model.tar")
    with pytest.raises(ArtifactRefused, match="'good' is a sparse file"):
        unpacked(folder, pax(**{"GNU.sparse.map": "0,1"}) + good + packed({"a": b"x"}), "model.tar")


def gzipped(content: bytes, flags: int, fields: bytes) -> bytes:
    """A gzip member with optional fields in its head."""
    head = b"\x1f\x8b\x08" + bytes([flags]) + bytes(6) + fields
    deflate = zlib.compressobj(wbits=-15)
    body = deflate.compress(content) + deflate.flush()
    return head + body + struct.pack("<II", zlib.crc32(content), len(content))


FEXTRA = struct.pack("<H", 65535) + bytes(65535)
FHCRC = struct.pack("<H", zlib.crc32(b"\x1f\x8b\x08\x02" + bytes(6)) & 0xFFFF)


@pytest.mark.parametrize("chunk", [1000, 1 << 20])
@pytest.mark.parametrize(
    ("flags", "fields"),
    [(1, b""), (2, FHCRC), (4, FEXTRA), (8, b"../../evil\0"), (16, b"c" * 100_000 + b"\0")],
)
def test_what_gzip_may_say_in_its_head_does_not_matter(folder, flags, fields, chunk):
    assert unpacked(folder, gzipped(ARCHIVE, flags, fields), chunk=chunk) == FILES


@pytest.mark.parametrize(
    ("content", "name", "named"),
    [
        (gzipped(ARCHIVE, 2, b"\0\0"), "model.tar.gz", "damaged"),
        (gzipped(ARCHIVE, 8, b"n" * 100_000)[:90_000], "model.tar.gz", "cut off"),
        (b"\x1f\x8b\x07" + gzipped(ARCHIVE, 0, b"")[3:], "model.tar.gz", "damaged"),
        (zstd.compress(ARCHIVE, zstd_dict=zstd.ZstdDict(ARCHIVE, is_raw=True)), "model.tar.zst", "damaged"),
        (b"\x50\x2a\x4d\x18\xff\xff\xff\xff" + zstd.compress(ARCHIVE), "model.tar.zst", "cut off"),
        (b"\x50\x2a\x4d\x18" + bytes(4), "model.tar.zst", "cut off"),
        (b"\x27\xb5\x2f\xfd" + bytes(100), "model.tar.zst", "is none"),
    ],
)  # fmt: skip
def test_what_needs_more_than_the_archive_says_is_refused(folder, content, name, named):
    with pytest.raises(ArtifactRefused, match=named):
        unpacked(folder, content, name)


def test_zeros_fill_the_last_record_and_no_more(folder):
    assert unpacked(folder, gzip.compress(ARCHIVE + bytes(1 << 20))) == FILES


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


def test_a_name_of_as_many_folders_as_fit_into_it_is_read(folder):
    deepest = "a/" * 511 + "x"
    assert unpacked(folder, packed({deepest: b"1"}), "model.tar") == {deepest: b"1"}


def test_every_flipped_bit_of_a_gzip_archive_is_caught_or_harmless(folder):
    flips = random.Random(7)
    for number in range(300):
        position = flips.randrange(len(ZIPPED))
        flipped = bytearray(ZIPPED)
        flipped[position] ^= 1 << flips.randrange(8)
        target = folder / str(number)
        target.mkdir()
        try:
            files = unpacked(target, bytes(flipped))
        except ArtifactRefused:
            continue
        # Harmless are dates and flags in gzip's header, and the bits that fill the last byte of a block.
        assert files == FILES


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


def test_anything_else_is_one_file(folder):
    assert unpacked(folder, ZIPPED, "model.onnx") == {"model.onnx": ZIPPED}
