"""What a file is by its content: a pickle is found whatever it is called and wherever it hides."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import pickle
import struct
import tarfile
import zipfile
import zlib

import joblib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybrid_provider.artifacts.formats import RUNS_CODE, Format, format_of


class Evil:
    def __reduce__(self):
        return print, ("loaded",)


EVIL = pickle.dumps(Evil())


def zip_of(files: dict[str, bytes]) -> bytes:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as opened:
        for name, content in files.items():
            opened.writestr(name, content)
    return archive.getvalue()


def tar_of(files: dict[str, bytes]) -> bytes:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as opened:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            opened.addfile(member, io.BytesIO(content))
    return archive.getvalue()


def npy_of(array, **arguments) -> bytes:
    content = io.BytesIO()
    np.save(content, array, **arguments)
    return content.getvalue()


def joblib_of(compress) -> bytes:
    content = io.BytesIO()
    joblib.dump({"weights": np.ones(500), "evil": Evil()}, content, compress=compress)
    return content.getvalue()


OBJECTS = npy_of(np.array([{}], dtype=object))
FIELDS = npy_of(np.zeros(2, dtype=[("O", "<f4"), ("deep", [("x", "O")])]))
SAFETENSORS = struct.pack("<Q", 2) + b"{}"
# A pickle needs no header and no end to have run its calls, and may begin with as much text as it likes.
HAND_MADE = b"\x8c\x05posix\x8c\x06system\x93\x8c\x02id\x85R"
PADDED = b"\x80\x04\x8d" + struct.pack("<Q", 3 << 20) + b"x" * (3 << 20) + b"0" + EVIL[2:]
LONG_LINE = b"S'" + b"x" * 100_000 + b"'\n0cos\nsystem\n(S'id'\ntR."

RUN_CODE = {
    **{f"protocol {number}": (pickle.dumps(Evil(), number), Format.PICKLE) for number in range(6)},
    "a plain dict": (pickle.dumps({"a": 1}), Format.PICKLE),
    "without header and end": (HAND_MADE, Format.PICKLE),
    "by INST": (b"(S'id'\niposix\nsystem\n.", Format.PICKLE),
    "behind megabytes of text": (PADDED, Format.PICKLE),
    "behind a long line": (LONG_LINE, Format.PICKLE),
    **{f"behind a long line, by {how.__name__}": (how.compress(LONG_LINE), Format.JOBLIB) for how in (zlib, gzip, bz2)},
    "of more opcodes than are read": (b"\x80\x04" + b"N0" * 150_000, Format.PICKLE),
    "with another file behind it": (EVIL + SAFETENSORS, Format.PICKLE),
    "torch": (zip_of({"archive/data.pkl": EVIL, "archive/data/0": bytes(9)}), Format.TORCH),
    "torch under another name": (zip_of({"archive/config.json": EVIL}), Format.TORCH),
    "torch behind a safetensors": (SAFETENSORS + zip_of({"a/data.pkl": EVIL}), Format.TORCH),
    "torch of old": (tar_of({"pickle": EVIL, "storages": b""}), Format.TORCH),
    "a compressed pickle in a zip": (zip_of({"a": gzip.compress(EVIL)}), Format.TORCH),
    "joblib": (joblib_of(0), Format.PICKLE),
    **{f"joblib by {how}": (joblib_of((how, 3)), Format.JOBLIB) for how in ("zlib", "gzip", "bz2", "xz", "lzma")},
    "compressed twice": (gzip.compress(bz2.compress(EVIL)), Format.JOBLIB),
    "compressed, behind megabytes of text": (zlib.compress(PADDED), Format.JOBLIB),
    "objects": (OBJECTS, Format.NUMPY_OBJECTS),
    "objects in a field of a field": (FIELDS, Format.NUMPY_OBJECTS),
    "objects in an npz": (zip_of({"a.npy": OBJECTS}), Format.NUMPY_OBJECTS),
    "an array with a damaged header": (b"\x93NUMPY\x01\x00\x04\x00oops", Format.OPAQUE),
    "an archive in an archive": (zip_of({"inner.zip": zip_of({"a": b"b"})}), Format.OPAQUE),
    "a tar that is compressed": (gzip.compress(tar_of({"a": b"b"})), Format.OPAQUE),
    "a zip that is cut off inside": (zip_of({"a": b"x" * 99}).replace(b"x" * 99, b"y" * 99), Format.OPAQUE),
    "a zip with a member without a name": (zip_of({"a": EVIL}).replace(b"a", b"\0"), Format.OPAQUE),
    "compressed five times": (gzip.compress(gzip.compress(gzip.compress(gzip.compress(EVIL)))), Format.OPAQUE),
    "a compressed pickle that is cut off": (gzip.compress(PADDED)[:300], Format.OPAQUE),
    "zstd": (b"\x28\xb5\x2f\xfd" + bytes(20), Format.OPAQUE),
    "lz4": (b"\x04\x22\x4d\x18" + bytes(20), Format.OPAQUE),
}  # fmt: skip


@pytest.mark.parametrize("kind", RUN_CODE)
def test_what_runs_code_is_found_under_any_name(tmp_path, kind):
    content, expected = RUN_CODE[kind]
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    assert format_of(path) == expected
    assert expected in RUNS_CODE


TORCH_NAMES = ["model.pt", "MODEL.PTH", "a.pkl", "b.joblib"]


@pytest.mark.parametrize("name", TORCH_NAMES)
def test_a_name_that_stands_for_a_pickle_is_believed(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(b"unheard of")
    assert format_of(path) is Format.PICKLE


HARMLESS = {
    "model.onnx": (b"\x08\x09\x12\x07pytorch", Format.ONNX),
    "model.safetensors": (SAFETENSORS, Format.SAFETENSORS),
    "protocol-like.safetensors": (struct.pack("<Q", 0x0280) + b"{".ljust(0x280), Format.SAFETENSORS),
    "model.tflite": (b"\x1c\0\0\0TFL3" + bytes(9), Format.TFLITE),
    "saved_model.pb": (b"\x08\x01\x12\xff", Format.SAVED_MODEL),
    "variables/variables.data-00000-of-00001": (bytes(range(256)), Format.SAVED_MODEL),
    "model.gguf": (b"GGUF\x03\0\0\0", Format.GGUF),
    "model.h5": (b"\x89HDF\r\n\x1a\n\0", Format.HDF5),
    "array.npy": (npy_of(np.ones(3)), Format.NUMPY),
    "arrays.npz": (zip_of({"a.npy": npy_of(np.ones(3))}), Format.NUMPY),
    "model.keras": (zip_of({"config.json": b"{}", "model.weights.h5": b"\x89HDF"}), Format.KERAS),
    "notes.zip": (zip_of({"readme": b"hello"}), Format.ZIP),
    "notes.tar": (tar_of({"readme": b"hello"}), Format.TAR),
    "vocabulary.gz": (gzip.compress(b"cat\ndog\n"), Format.COMPRESSED),
    "vocabulary.xz": (lzma.compress(b"cat\ndog\n"), Format.COMPRESSED),
    "weights.bin": (b"\x1f\x8b\xff\xff" + bytes(range(200)), Format.OTHER),
    "labels.txt": (b"cat\ndog\nbird\n", Format.TEXT),
    "more-labels.txt": (b"cat\ndog\nRabbit\n", Format.TEXT),
    "number.txt": (b"10.5\n", Format.TEXT),
    "config.json": (json.dumps({"c": 1}).encode(), Format.TEXT),
    "inference.py": (b"import json\nimport os\n\nfrom a import b\n", Format.TEXT),
    "classes.py": (b"class A:\n    pass\n", Format.TEXT),
    "umlauts.txt": (b"x" + "ä".encode() * 40_000, Format.TEXT),
    "empty": (b"", Format.TEXT),
}  # fmt: skip


@pytest.mark.parametrize("name", HARMLESS)
def test_what_runs_no_code_is_told_apart(tmp_path, name):
    content, expected = HARMLESS[name]
    path = tmp_path / "file"
    path.write_bytes(content)
    assert format_of(path, name) == expected


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner, inner),
    max_leaves=8,
)


@settings(max_examples=150, deadline=None)
def long_names() -> bytes:
    return zip_of({f"{number:01000}": b"" for number in range(9000)})


def many_folders() -> bytes:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as opened:
        for number in range(10_001):
            folder = tarfile.TarInfo(str(number))
            folder.type = tarfile.DIRTYPE
            opened.addfile(folder)
    return archive.getvalue()


def long_header() -> bytes:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w", format=tarfile.PAX_FORMAT) as opened:
        member = tarfile.TarInfo("a")
        member.pax_headers = {"comment": "x" * (9 << 20)}
        opened.addfile(member)
    return archive.getvalue()


@pytest.mark.parametrize("archive", [long_names, many_folders, long_header])
def test_an_archive_whose_own_records_would_fill_the_memory_is_not_looked_into(tmp_path, archive):
    """The libraries read them whole, and some gigabytes of them pack to nothing."""
    (tmp_path / "model.bin").write_bytes(archive())
    assert format_of(tmp_path / "model.bin") is Format.OPAQUE


@given(value=values, protocol=st.integers(0, 5))
def test_every_pickle_with_a_call_is_found(tmp_path_factory, value, protocol):
    path = tmp_path_factory.mktemp("pickles") / "weights"
    path.write_bytes(pickle.dumps([value, Evil()], protocol))
    assert format_of(path) is Format.PICKLE


class Called(Exception):
    pass


class Callable:
    def __new__(cls, *arguments):
        raise Called


class Unpickler(pickle.Unpickler):
    def find_class(self, module, name):
        if not all(part.isidentifier() for part in f"{module}.{name}".split(".")):
            raise ImportError
        return Callable


OPCODES = [bytes([code]) for code in b"(.012]}iobRs)u\x80\x04\x81\x85\x93\x94\x95ah\0q"]
PIECES = st.sampled_from([*OPCODES, b"cos\nsystem\n", b"(ios\nsystem\n", b"\x8c\x02os", b"S'id'\n", b"I1\n", b"p0\n", b"g0\n"])  # fmt: skip


@settings(max_examples=1500, deadline=None)
@given(content=st.binary(max_size=40) | st.lists(PIECES, max_size=12).map(b"".join))
def test_whatever_the_unpickler_would_call_is_called_a_pickle(tmp_path_factory, content):
    try:
        Unpickler(io.BytesIO(content)).load()
    except Called:
        path = tmp_path_factory.mktemp("any") / "weights"
        path.write_bytes(content)
        assert format_of(path) in RUNS_CODE
    except Exception:  # noqa: BLE001, S110 - the unpickler stopped before a call, as it would on a real file
        pass
