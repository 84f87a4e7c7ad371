"""A tar archive as a stream: regular files and folders, and nothing else.

The standard library parses each header; what a header may say is decided here. Links, devices, FIFOs, sparse
files, unknown types, unsafe and repeated names are refused, so no filter has to make them harmless.
"""

from __future__ import annotations

import tarfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hybrid_provider.artifacts.file_names import checked_path, shown
from hybrid_provider.exceptions import ArtifactRefused

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

_BLOCK = tarfile.BLOCKSIZE
_ZEROS = bytes(_BLOCK)
_MAX_EXTENSION_BYTES = 1 << 20
# Of each header that is allowed, on average: they are read, and count as nothing that is unpacked.
_EXTENSION_BYTES_PER_HEADER = 1 << 8
# Behind the end; tar fills its last record up, of 10 KiB if nothing else was asked for.
_MAX_PADDING_BYTES = 16 << 20
_MAX_SIZE_DIGITS = 19
_NEWLINE = ord("\n")
_NAME = slice(0, 100)
_MAGIC = slice(257, 265)
_GNU = b"ustar  \0"
_FILES = {tarfile.REGTYPE, tarfile.AREGTYPE}
_REFUSED = {
    tarfile.LNKTYPE: "a hard link",
    tarfile.SYMTYPE: "a symbolic link",
    tarfile.CHRTYPE: "a character device",
    tarfile.BLKTYPE: "a block device",
    tarfile.FIFOTYPE: "a FIFO",
    tarfile.CONTTYPE: "a contiguous file",
    tarfile.GNUTYPE_SPARSE: "a sparse file",
    tarfile.GNUTYPE_LONGLINK: "a link",
}


@dataclass(frozen=True, slots=True)
class TarFile:
    """One regular file of an archive; its bytes are read before the next one is asked for."""

    name: str
    size_bytes: int
    chunks: Iterator[memoryview]


@dataclass(slots=True)
class _Extension:
    """What pax and GNU headers say of the member that follows them."""

    path: str | None = None
    size_bytes: int | None = None
    refused: str | None = None


def read_tar(chunks: Iterable[memoryview], max_headers: int) -> Iterator[TarFile]:
    """The regular files of a tar archive (ustar, pax or GNU), in its order.

    Folders are passed over: a release holds files, and the folders that they need.

    Args:
        chunks: The archive's bytes.
        max_headers: How many headers, of files, folders and long names together, are read.

    Raises:
        ArtifactRefused: It holds anything else, or is damaged or cut off; the message names the member.
    """
    stream = _Stream(chunks)
    for member, extension in _members(stream, max_headers):
        name = extension.path or member.name
        size_bytes = member.size if extension.size_bytes is None else extension.size_bytes
        if extension.refused is not None:
            raise ArtifactRefused(f"member {shown(name)} {extension.refused}")
        if member.type == tarfile.DIRTYPE:
            _check_folder(name, size_bytes)
        elif member.type in _FILES:
            yield TarFile(_plain(name), size_bytes, stream.pieces(size_bytes, name))
            stream.skip(-size_bytes % _BLOCK, name)
        else:
            kind = _REFUSED.get(member.type, f"of type {member.type!r}")
            raise ArtifactRefused(
                f"member {shown(name)} is {kind}; pack regular files (tar --dereference --hard-dereference)"
            )
    stream.only_zeros()


def _members(stream: _Stream, max_headers: int) -> Iterator[tuple[tarfile.TarInfo, _Extension]]:
    extension = _Extension()
    headers = 0
    extension_bytes = _MAX_EXTENSION_BYTES + max_headers * _EXTENSION_BYTES_PER_HEADER
    while (block := stream.exactly(_BLOCK, "a header")) != _ZEROS:
        headers += 1
        if headers > max_headers:
            raise ArtifactRefused(
                f"the tar archive has more than {max_headers} headers; raise the limit if that is right"
            )
        member = _header(block)
        if member.type in _EXTENSIONS:
            extension_bytes -= member.size
            if extension_bytes < 0:
                raise ArtifactRefused(
                    f"the tar archive has too long headers for its {headers} members; pack it again without "
                    "extended attributes"
                )
            _EXTENSIONS[member.type](extension, _extension_bytes(stream, member))
        else:
            yield member, extension
            extension = _Extension()
    if extension != _Extension():
        raise ArtifactRefused(f"the tar archive ends before its member {shown(extension.path)}")


def _header(block: bytes) -> tarfile.TarInfo:
    try:
        member = tarfile.TarInfo.frombuf(block, "utf-8", "strict")
        if block[_MAGIC] == _GNU:
            # It has dates where POSIX's dialect has the beginning of a long name, which tarfile reads.
            member.name = block[_NAME].partition(b"\0")[0].decode()
    except (tarfile.HeaderError, ValueError) as error:
        raise ArtifactRefused(f"the tar archive is damaged, or a name in it is not UTF-8: {error}") from error
    if member.size < 0:
        raise ArtifactRefused(f"member {shown(member.name)} has a negative size")
    return member


def _plain(name: str) -> str:
    """``tar -C folder .`` writes ``./name``; the rest of the grammar is the manifest's."""
    while name.startswith("./"):
        name = name[2:]
    return name


def _check_folder(name: str, size_bytes: int) -> None:
    plain = _plain(name).rstrip("/")
    if plain not in {"", "."} or name.startswith("/"):
        checked_path(plain)
    if size_bytes:
        raise ArtifactRefused(f"folder {shown(name)} has content; the archive is damaged")


def _extension_bytes(stream: _Stream, member: tarfile.TarInfo) -> bytes:
    if member.size > _MAX_EXTENSION_BYTES:
        raise ArtifactRefused(f"a header of {member.size} bytes for one member is refused")
    text = stream.exactly(member.size, "a long header")
    stream.skip(-member.size % _BLOCK, "a long header")
    return text


def _gnu_long_name(extension: _Extension, text: bytes) -> None:
    try:
        extension.path = text.rstrip(b"\0").decode()
    except UnicodeDecodeError as error:
        raise ArtifactRefused(f"a name in the tar archive is not UTF-8: {error}") from error


def _pax(extension: _Extension, text: bytes) -> None:
    """Take path and size from ``length key=value`` records; dates, owners and attributes do not matter."""
    for key, value in _pax_records(text):
        if key in {"path", "GNU.sparse.name"}:
            extension.path = value
        if key == "size":
            extension.size_bytes = _size(value)
        elif key.startswith("GNU.sparse") or key == "SCHILY.realsize":
            extension.refused = "is a sparse file; pack it with tar without --sparse"
        elif key == "hdrcharset" and value == "BINARY":
            extension.refused = "has a name that is not UTF-8; rename it in the training script"


def _pax_global(extension: _Extension, text: bytes) -> None:  # noqa: ARG001 - the signature of its siblings
    for key, _ in _pax_records(text):
        if key in {"path", "size", "linkpath", "hdrcharset"} or key.startswith("GNU.sparse"):
            raise ArtifactRefused(f"a global pax header that sets {key!r} for all members is refused")


def _size(digits: str) -> int:
    if not digits.isascii() or not digits.isdigit() or len(digits) > _MAX_SIZE_DIGITS:
        raise ArtifactRefused(f"a pax header gives the size {shown(digits)}")
    return int(digits)


def _pax_records(text: bytes) -> Iterator[tuple[str, str]]:
    """Keys and values; a value that is not UTF-8, as an extended attribute's may be, is left out."""
    start = 0
    while start < len(text):
        space = text.find(b" ", start, start + _MAX_SIZE_DIGITS)
        digits = text[start : max(space, start)]
        end = start + int(digits) if digits.isdigit() else 0
        key, equals, value = text[space + 1 : end - 1].partition(b"=")
        if not equals or not start < space < end <= len(text) or text[end - 1] != _NEWLINE:
            raise ArtifactRefused("a pax header of the tar archive is damaged; upload it again")
        start = end
        try:
            yield key.decode(), value.decode()
        except UnicodeDecodeError:
            if key in {b"path", b"size"}:
                raise ArtifactRefused(
                    "a name in the tar archive is not UTF-8; rename it in the training script"
                ) from None


_EXTENSIONS: dict[bytes, Callable[[_Extension, bytes], None]] = {
    tarfile.GNUTYPE_LONGNAME: _gnu_long_name,
    tarfile.XHDTYPE: _pax,
    tarfile.SOLARIS_XHDTYPE: _pax,
    tarfile.XGLTYPE: _pax_global,
}


class _Stream:
    """Takes exact amounts from a sequence of chunks without copying file contents."""

    def __init__(self, chunks: Iterable[memoryview]) -> None:
        self._chunks = iter(chunks)
        self._rest = memoryview(b"")

    def pieces(self, size_bytes: int, name: str) -> Iterator[memoryview]:
        """The next ``size_bytes``, as views of the chunks that they came in."""
        while size_bytes:
            if not self._rest:
                self._next(name)
            piece, self._rest = self._rest[:size_bytes], self._rest[size_bytes:]
            size_bytes -= len(piece)
            yield piece

    def exactly(self, size_bytes: int, what: str) -> bytes:
        return b"".join(self.pieces(size_bytes, what))

    def skip(self, size_bytes: int, name: str) -> None:
        for _ in self.pieces(size_bytes, name):
            pass

    def only_zeros(self) -> None:
        left = _MAX_PADDING_BYTES
        while True:
            left -= len(self._rest)
            if left < 0 or bytes(self._rest).strip(b"\0"):
                raise ArtifactRefused("something follows the end of the tar archive; pack it again")
            try:
                self._rest = next(self._chunks)
            except StopIteration:
                return

    def _next(self, name: str) -> None:
        try:
            self._rest = next(self._chunks)
        except StopIteration:
            raise ArtifactRefused(f"the tar archive is cut off in {shown(name)}; upload it again") from None
