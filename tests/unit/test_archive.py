"""Archives in all their forms: what is unpacked, and what is damaged."""

from __future__ import annotations

import bz2
import gzip
import io
import random
import struct
import subprocess
import tarfile
import zlib

import pytest
from backports import zstd
from hypothesis import given, settings
from hypothesis import strategies as st

from hybrid_provider.exceptions import ArtifactRefused
from tests.unit.archives import FILES, member, packed, tar_of, unpacked

ARCHIVE = packed(FILES)
ZIPPED = gzip.compress(ARCHIVE)


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


def test_the_dates_of_an_incremental_archive_are_no_folder(folder, tmp_path):
    """GNU tar's own dialect has them where POSIX's has the beginning of a name."""
    (tmp_path / "weights.bin").write_bytes(b"1")
    incremental = subprocess.run(
        ["tar", "-C", tmp_path, "--format=gnu", "-G", "-c", "weights.bin"], capture_output=True, check=True
    )
    assert unpacked(folder, incremental.stdout, "model.tar") == {"weights.bin": b"1"}


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


def test_anything_else_is_one_file(folder):
    assert unpacked(folder, ZIPPED, "model.onnx") == {"model.onnx": ZIPPED}
