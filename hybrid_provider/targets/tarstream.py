"""What travels to a target: one tar stream, made while it is sent."""

from __future__ import annotations

import asyncio
import tarfile
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Mapping
    from pathlib import Path

    from hybrid_provider.artifacts.manifest import Manifest, ManifestFile

# Read in pieces that make a thread's hop cheap, written in pieces that SSH's window takes whole.
_READ_BYTES: Final = 2**20
_WRITE_BYTES: Final = 2**18
_BLOCK_BYTES: Final = tarfile.BLOCKSIZE


@dataclass(frozen=True, slots=True)
class Parts:
    """Which files of a release travel, and which are linked from another release on the target.

    Attributes:
        sent: Files whose bytes are not there.
        linked: Path in this release to ``<release id>/<path>`` of the same bytes there.
        sent_bytes: Of the files' contents.
        linked_bytes: Likewise.
    """

    sent: tuple[ManifestFile, ...]
    linked: Mapping[str, str]
    sent_bytes: int
    linked_bytes: int


def parts_of(wanted: Manifest, there: Manifest | None, there_id: str | None) -> Parts:
    """Split a release's files by whether the target has their bytes in the release ``there_id``."""
    known = {file.sha256: file.path for file in there.files} if there and there_id else {}
    # An empty file travels for nothing, and a link count has a limit.
    linked = tuple(file for file in wanted.files if file.sha256 in known and file.size_bytes)
    taken = {file.path for file in linked}
    sent = tuple(file for file in wanted.files if file.path not in taken)
    return Parts(
        sent=sent,
        linked={file.path: f"{there_id}/{known[file.sha256]}" for file in linked},
        sent_bytes=sum(file.size_bytes for file in sent),
        linked_bytes=sum(file.size_bytes for file in linked),
    )


async def tar_stream(
    folder: Path, manifest: Manifest, parts: Parts, progress: Callable[[int], None]
) -> AsyncIterator[bytes]:
    """The stream that ``stage.sh`` reads: ``manifest``, ``links`` and ``files/…``.

    Raises:
        OSError: A file of the release cannot be read here, or is not as long as its manifest says.
    """
    links = "".join(f"{source}\t{path}\n" for path, source in parts.linked.items())
    for name, text in (("manifest", manifest.text()), ("links", links)):
        content = text.encode()
        yield _header(name, len(content)) + content + _padding(len(content))
    for file in parts.sent:
        pieces = _pieces(folder / PurePosixPath(file.path), file.size_bytes)
        yield _header(f"files/{file.path}", file.size_bytes)
        while piece := await asyncio.to_thread(next, pieces, b""):
            for start in range(0, len(piece), _WRITE_BYTES):
                chunk = piece[start : start + _WRITE_BYTES]
                yield chunk
                progress(len(chunk))
        yield _padding(file.size_bytes)
    yield bytes(2 * _BLOCK_BYTES)


def _pieces(path: Path, size_bytes: int) -> Iterator[bytes]:
    left = size_bytes
    with path.open("rb") as file:
        while left:
            piece = file.read(min(left, _READ_BYTES))
            if not piece:
                raise OSError(f"{path} is {left} bytes shorter than its manifest says; run the sync again")
            left -= len(piece)
            yield piece


def _header(name: str, size_bytes: int) -> bytes:
    member = tarfile.TarInfo(name)
    member.size = size_bytes
    member.mode = 0o644
    # GNU's form and not pax: BusyBox reads its long names and large sizes. A date of 0 makes GNU tar warn.
    member.mtime = 1
    return member.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape")


def _padding(size_bytes: int) -> bytes:
    return bytes(-size_bytes % _BLOCK_BYTES)
