"""What a model's file is, told by its content; above all whether loading it can run code."""

from __future__ import annotations

import ast
import bz2
import codecs
import gzip
import lzma
import os
import struct
import tarfile
import zipfile
import zlib
from enum import StrEnum
from functools import partial
from io import BufferedReader, FileIO
from itertools import islice
from typing import IO, TYPE_CHECKING, Self, cast

from hybrid_provider.artifacts.pickles import LookedLongEnough, is_pickle

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

_HEAD_BYTES = 512
_TEXT_BYTES = 64 << 10
_SKIP_BYTES = 1 << 20
_LINE_BYTES = 4 << 10
# A pickle in a compressed file is followed so far; one on the disk is followed to its end by seeking.
_MAX_INFLATED_BYTES = 256 << 20
_MAX_MEMBERS = 10_000
# Of an archive's own records at once: a directory of all members, a header of one.
_MAX_RECORD_BYTES = 8 << 20
_MAX_NUMPY_HEADER_BYTES = 1 << 20
_MAX_SAFETENSORS_HEADER_BYTES = 100_000_000
_LAYERS = 3

_NUMPY = b"\x93NUMPY"
_ZIP = b"PK\x03\x04"
_TAR = b"ustar"
_TAR_AT = 257
_ZLIB_METHOD = 0x78
_ZLIB_CHECK = 31
_OPAQUE = (b"\x04\x22\x4d\x18", b"\x28\xb5\x2f\xfd", b"7z\xbc\xaf\x27\x1c", b"Rar!", b"ZF0x")
_PICKLED_NAMES = (".pkl", ".pickle", ".joblib", ".pt", ".pth", ".dill", ".cloudpickle")
_SAVED_MODEL = {"saved_model.pb", "saved_model.pbtxt", "keras_metadata.pb", "fingerprint.pb"}
# What the standard library raises over a hostile archive; fuzzing found those that it does not document.
_DAMAGED = (
    OSError,
    EOFError,
    ValueError,
    LookupError,
    RuntimeError,
    AssertionError,
    struct.error,
    zlib.error,
    lzma.LZMAError,
    zipfile.BadZipFile,
    tarfile.TarError,
)


class Format(StrEnum):
    """What a file is. Only content counts where a format has a mark of its own."""

    PICKLE = "pickle"
    TORCH = "torch"
    """A zip or tar archive with a pickle in it, as ``torch.save`` writes it."""
    JOBLIB = "joblib"
    """A compressed pickle, as ``joblib.dump(compress=…)`` writes it."""
    NUMPY_OBJECTS = "numpy_objects"
    """An array of objects, which are a pickle."""
    OPAQUE = "opaque"
    """An archive that is damaged, encrypted, nested or of a kind that is not looked into."""
    NUMPY = "numpy"
    SAFETENSORS = "safetensors"
    ONNX = "onnx"
    TFLITE = "tflite"
    SAVED_MODEL = "saved_model"
    GGUF = "gguf"
    HDF5 = "hdf5"
    KERAS = "keras"
    ZIP = "zip"
    TAR = "tar"
    COMPRESSED = "compressed"
    TEXT = "text"
    """UTF-8: configurations, vocabularies, source code."""
    OTHER = "other"
    """Weights without a mark of their own, and all else."""


RUNS_CODE = frozenset({Format.PICKLE, Format.TORCH, Format.JOBLIB, Format.NUMPY_OBJECTS, Format.OPAQUE})
"""What strict refuses: loading it calls what it names, or nobody can tell."""


def format_of(path: Path, name: str | None = None) -> Format:
    """The format of a file on the disk.

    Args:
        path: A regular file.
        name: What its release calls it, where that is not its path's end.
    """
    name = (name or path.name).lower()
    if zipfile.is_zipfile(path):
        # A zip archive is found from its end: anything may stand before it.
        return _zip(path)
    found = _look(lambda: _ArchiveFile(FileIO(path)), _LAYERS)
    if found not in RUNS_CODE and name.endswith(_PICKLED_NAMES):
        return Format.PICKLE
    return _by_name(name, found) if found in {Format.OTHER, Format.TEXT} else found


def _look(opener: Callable[[], IO[bytes]], layers: int) -> Format:
    """The format of a stream, which can be opened anew."""
    with opener() as stream:
        head = stream.read(_HEAD_BYTES)
    if head.startswith(_NUMPY):
        return _numpy(opener)
    if head.startswith(_OPAQUE):
        return Format.OPAQUE
    if head[_TAR_AT:].startswith(_TAR):
        return _tar(opener) if layers == _LAYERS else Format.OPAQUE
    if head.startswith(_ZIP):
        return Format.OPAQUE
    with opener() as stream:
        if is_pickle(_Bytes(stream)):
            return Format.PICKLE
    inflated = _inflated(head, opener, layers)
    return inflated or _by_mark(head, opener)


def _inflated(head: bytes, opener: Callable[[], IO[bytes]], layers: int) -> Format | None:
    """What a compressed stream holds; None if it is not compressed."""
    inflate = _decompressor(head)
    if inflate is None:
        return None
    if layers == 0:
        return Format.OPAQUE

    def inner() -> IO[bytes]:
        return inflate(opener())

    try:
        with inner() as stream:
            stream.read(1)
    except _DAMAGED:
        return None  # two bytes of weights may look like the beginning of a compressed stream
    try:
        found = _look(inner, layers - 1)
    except _DAMAGED:
        return Format.OPAQUE
    if found is Format.PICKLE:
        return Format.JOBLIB
    return found if found in RUNS_CODE else Format.COMPRESSED


def _decompressor(head: bytes) -> Callable[[IO[bytes]], IO[bytes]] | None:
    if head.startswith(b"\x1f\x8b"):
        return lambda stream: cast("IO[bytes]", gzip.GzipFile(fileobj=stream, mode="rb"))
    if head.startswith(b"BZh"):
        return lambda stream: cast("IO[bytes]", bz2.BZ2File(stream))
    if head.startswith((b"\xfd7zXZ\x00", b"\x5d\x00\x00")):
        return lambda stream: cast("IO[bytes]", lzma.LZMAFile(stream))
    if len(head) > 1 and head[0] == _ZLIB_METHOD and int.from_bytes(head[:2], "big") % _ZLIB_CHECK == 0:
        return lambda stream: cast("IO[bytes]", _Zlib(stream))
    return None


class _Zlib:
    """A zlib stream to read from, as joblib's default compression writes it."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._inflater = zlib.decompressobj()
        self._ahead = b""

    def read(self, size: int) -> bytes:
        self._inflate(size)
        read, self._ahead = self._ahead[:size], self._ahead[size:]
        return read

    def readline(self, size: int) -> bytes:
        self._inflate(size)
        return self.read(self._ahead.find(b"\n", 0, size) + 1 or size)

    def _inflate(self, size: int) -> None:
        while len(self._ahead) < size and not self._inflater.eof:
            packed = self._inflater.unconsumed_tail or self._stream.read(_TEXT_BYTES)
            piece = self._inflater.decompress(packed, size - len(self._ahead))
            if not packed and not piece:
                raise EOFError
            self._ahead += piece

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()


class _ArchiveFile(BufferedReader):
    """An archive on the disk, whose own records say how long they are: the libraries read them whole."""

    def read(self, size: int | None = -1, /) -> bytes:
        """No more at once than the records of an archive that is looked into may have."""
        if size is None or size < 0:
            size = max(0, os.fstat(self.fileno()).st_size - self.tell())
        if size > _MAX_RECORD_BYTES:
            raise ValueError(f"a record of {size} bytes")
        return super().read(size)


class _Bytes:
    """A stream for the walk over a pickle; skips by seeking where it can, and not without end where not."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._on_disk = hasattr(stream, "raw")
        self._left = _MAX_INFLATED_BYTES
        self.read = stream.read

    def skip(self, size: int) -> bool:
        if self._on_disk:
            before = self._stream.tell()
            end = self._stream.seek(0, 2)
            self._stream.seek(min(before + size, end))
            return before + size <= end
        while size:
            piece = self._stream.read(min(size, _SKIP_BYTES))
            if not piece:
                return False
            size -= len(piece)
            self._spend(len(piece))
        return True

    def skip_line(self) -> bool:
        while piece := self._stream.readline(_LINE_BYTES):
            if piece.endswith(b"\n"):
                return True
            if not self._on_disk:
                self._spend(len(piece))
        return False

    def _spend(self, size: int) -> None:
        self._left -= size
        if self._left <= 0:
            raise LookedLongEnough


def _zip(path: Path) -> Format:
    try:
        with _ArchiveFile(FileIO(path)) as stream, zipfile.ZipFile(stream) as archive:
            members = [member for member in archive.infolist() if not member.is_dir()]
            found = _worst(partial(archive.open, member) for member in members)
            names = {member.filename for member in members}
    except _DAMAGED:
        return Format.OPAQUE
    if found is not None:
        return found
    if {"config.json", "model.weights.h5"} <= names:
        return Format.KERAS
    return Format.NUMPY if names and all(name.endswith(".npy") for name in names) else Format.ZIP


def _tar(opener: Callable[[], IO[bytes]]) -> Format:
    try:
        with opener() as stream, tarfile.open(fileobj=stream, mode="r:") as archive:
            members = list(islice(archive, _MAX_MEMBERS + 1))
            found = _worst(partial(_member, archive, member) for member in members if member.isreg())
    except _DAMAGED:
        return Format.OPAQUE
    return Format.OPAQUE if len(members) > _MAX_MEMBERS else found or Format.TAR


def _member(archive: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    return cast("IO[bytes]", archive.extractfile(member))


def _worst(openers: Iterable[Callable[[], IO[bytes]]]) -> Format | None:
    """The first member's format that can run code, None where none can."""
    for number, opener in enumerate(openers):
        if number >= _MAX_MEMBERS:
            return Format.OPAQUE
        found = _look(opener, _LAYERS - 1)
        if found in {Format.PICKLE, Format.JOBLIB}:
            return Format.TORCH
        if found in RUNS_CODE:
            return found
    return None


def _numpy(opener: Callable[[], IO[bytes]]) -> Format:
    with opener() as stream:
        version = stream.read(len(_NUMPY) + 2)[len(_NUMPY) :]
        length = int.from_bytes(stream.read(2 if version[:1] == b"\x01" else 4), "little")
        header = stream.read(length) if length <= _MAX_NUMPY_HEADER_BYTES else b""
    try:
        described = ast.literal_eval(header.decode().strip())["descr"]
    except (ValueError, SyntaxError, KeyError, TypeError, MemoryError, RecursionError):
        return Format.OPAQUE
    return Format.NUMPY_OBJECTS if _holds_objects(described) else Format.NUMPY


def _holds_objects(described: object) -> bool:
    """Whether an array's description has a field of objects; fields may hold fields."""
    if isinstance(described, str):
        return described.lstrip("<>=|").lower().startswith("o")
    if isinstance(described, list):
        return any(_holds_objects(field[1]) for field in described if isinstance(field, tuple) and field[1:])
    return not isinstance(described, tuple) or _holds_objects(described[0] if described else None)


def _by_mark(head: bytes, opener: Callable[[], IO[bytes]]) -> Format:
    marks = {b"GGUF": Format.GGUF, b"\x89HDF\r\n\x1a\n": Format.HDF5}
    for mark, found in marks.items():
        if head.startswith(mark):
            return found
    if head[4:8] == b"TFL3":
        return Format.TFLITE
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= _MAX_SAFETENSORS_HEADER_BYTES:
        return Format.SAFETENSORS
    with opener() as stream:
        return Format.TEXT if _is_text(stream.read(_TEXT_BYTES)) else Format.OTHER


def _is_text(beginning: bytes) -> bool:
    if b"\0" in beginning:
        return False
    try:
        codecs.getincrementaldecoder("utf-8")().decode(beginning)
    except UnicodeDecodeError:
        return False
    return True


def _by_name(name: str, otherwise: Format) -> Format:
    """Protocol buffers carry no mark: their names are the convention."""
    folder, _, base = name.rpartition("/")
    if base.endswith(".onnx"):
        return Format.ONNX
    if base in _SAVED_MODEL or (folder.endswith("variables") and base.startswith("variables.")):
        return Format.SAVED_MODEL
    return otherwise
