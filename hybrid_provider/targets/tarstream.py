"""What travels to a target: one tar stream, made while it is sent."""

from __future__ import annotations

import asyncio
import heapq
import tarfile
from collections import deque
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Final, TypeAlias
from weakref import WeakKeyDictionary, WeakValueDictionary

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
    from pathlib import Path

    from hybrid_provider.artifacts.manifest import Manifest, ManifestFile

# Makes a thread's hop cheap, and SSH's window takes it whole.
_PIECE_BYTES: Final = 2**20
_BLOCK_BYTES: Final = tarfile.BLOCKSIZE
# A target that is no further behind another than so many pieces is sent what that one has read.
_KEPT_PIECES: Final = 4

# As many files are hashed at once on a host that has the processors.
_SHARES: Final = 4


Piece: TypeAlias = "asyncio.Future[bytes]"
# The targets of a wave get the same bytes at once: measured with eight, to read them for each took a seventh
# of all the time. A piece is here for as long as a stream keeps it.
_pieces: WeakKeyDictionary[asyncio.AbstractEventLoop, WeakValueDictionary[tuple[Path, int], Piece]] = (
    WeakKeyDictionary()
)


@dataclass(frozen=True, slots=True)
class Parts:
    """Which files of a release travel, and which are linked from what is on the target.

    Attributes:
        sent: Files whose bytes are not there.
        arrived: Path in this release to the path there, in the model's folder, of a file that a stream
            brought before it was cut.
        kin: Release on the target to path in this release to the path there of the same bytes in that one.
        wanted: All of the release's files by their path.
    """

    sent: tuple[ManifestFile, ...]
    arrived: Mapping[str, str]
    kin: Mapping[str, Mapping[str, str]]
    wanted: Mapping[str, ManifestFile]

    @property
    def linked(self) -> Mapping[str, str]:
        """Path in this release to the path there, of all files that are linked."""
        return {
            **self.arrived,
            **{path: source for links in self.kin.values() for path, source in links.items()},
        }

    @property
    def sent_bytes(self) -> int:
        """Of the files' contents."""
        return sum(file.size_bytes for file in self.sent)

    @property
    def linked_bytes(self) -> int:
        """Likewise."""
        return sum(self.wanted[path].size_bytes for path in self.linked)


def parts_of(
    wanted: Manifest,
    there: Mapping[str, Manifest] | None = None,
    arrived: Mapping[str, tuple[str, int]] | None = None,
) -> Parts:
    """Split a release's files by whether the target has their bytes.

    Args:
        wanted: The release's files.
        there: The releases on the target, the one to link from first.
        arrived: What a stream brought before it was cut: path in this release to where it is, and how much
            of it.
    """
    known: dict[str, tuple[str, str]] = {}
    for release_id, manifest in (there or {}).items():
        for file in manifest.files:
            known.setdefault(file.sha256, (release_id, f"releases/{release_id}/{file.path}"))
    kin: dict[str, dict[str, str]] = {}
    came: dict[str, str] = {}
    sent = []
    for file in wanted.files:
        where, size_bytes = (arrived or {}).get(file.path, ("", -1))
        # An empty file travels for nothing, and a link count has a limit.
        if file.size_bytes and file.sha256 in known:
            release_id, source = known[file.sha256]
            kin.setdefault(release_id, {})[file.path] = source
        elif file.size_bytes and size_bytes == file.size_bytes:
            came[file.path] = where
        else:
            sent.append(file)
    return Parts(sent=tuple(sent), arrived=came, kin=kin, wanted={file.path: file for file in wanted.files})


def _members(manifest: Manifest, parts: Parts) -> Iterator[tuple[str, str]]:
    """What goes before the files: the manifest, where to link from, and which files are to be proved."""
    yield "manifest", manifest.text()
    yield "links", "".join(f"{source}\t{path}\n" for path, source in sorted(parts.linked.items()))
    came = [parts.wanted[path] for path in parts.arrived]
    for number, share in enumerate(_shares([*parts.sent, *came])):
        if share:
            yield f"check/{number}", _sums(share)
    for release_id, links in parts.kin.items():
        yield f"kin/{release_id}", _sums(parts.wanted[path] for path in links)


def _shares(files: Iterable[ManifestFile]) -> list[list[ManifestFile]]:
    """Files in shares that take as long to read, each to the smallest yet, the longest first."""
    shares: list[list[ManifestFile]] = [[] for _ in range(_SHARES)]
    smallest = [(0, number) for number in range(_SHARES)]
    for file in sorted(files, key=lambda file: -file.size_bytes):
        size_bytes, number = heapq.heappop(smallest)
        shares[number].append(file)
        heapq.heappush(smallest, (size_bytes + file.size_bytes + 1, number))
    return shares


def _sums(files: Iterable[ManifestFile]) -> str:
    """In the form of ``sha256sum -c``."""
    return "".join(f"{file.sha256}  ./{file.path}\n" for file in files)


async def tar_stream(
    folder: Path, manifest: Manifest, parts: Parts, progress: Callable[[int], None]
) -> AsyncIterator[bytes]:
    """The stream that ``stage.sh`` reads: ``manifest``, ``links``, ``check/…``, ``kin/…`` and ``files/…``.

    Raises:
        OSError: A file of the release cannot be read here, or is not as long as its manifest says.
    """
    for name, text in _members(manifest, parts):
        content = text.encode()
        yield _header(name, len(content)) + content + _padding(len(content))
    for file in parts.sent:
        yield _header(f"files/{file.path}", file.size_bytes)
        async for chunk in _file_stream(folder, file, progress, 0):
            yield chunk
    yield bytes(2 * _BLOCK_BYTES)


async def rest_stream(
    folder: Path, file: ManifestFile, progress: Callable[[int], None], start: int
) -> AsyncIterator[bytes]:
    """The stream that ``append.sh`` reads: one file's bytes from ``start`` on.

    Raises:
        OSError: As :func:`tar_stream`.
    """
    yield _header("rest", file.size_bytes - start)
    async for chunk in _file_stream(folder, file, progress, start):
        yield chunk
    yield bytes(2 * _BLOCK_BYTES)


async def _file_stream(
    folder: Path, file: ManifestFile, progress: Callable[[int], None], start: int
) -> AsyncIterator[bytes]:
    path, padding = folder / PurePosixPath(file.path), _padding(file.size_bytes - start)
    # Kept for the targets that are a little behind.
    latest: deque[Piece] = deque(maxlen=_KEPT_PIECES)
    while start < file.size_bytes:
        latest.append(_piece(path, start))
        piece = (await asyncio.shield(latest[-1]))[: file.size_bytes - start]
        if not piece:
            left = file.size_bytes - start
            raise OSError(f"{path} is {left} bytes shorter than its manifest says; run the sync again")
        start += len(piece)
        yield piece
        progress(len(piece))
    yield padding


def _piece(path: Path, start: int) -> Piece:
    """A piece of a file: one that is being read or was just read, for whichever target, or else is now."""
    pieces = _pieces.setdefault(asyncio.get_running_loop(), WeakValueDictionary())
    piece = pieces.get((path, start))
    if piece is None or (piece.done() and (piece.cancelled() or piece.exception())):
        pieces[path, start] = piece = asyncio.ensure_future(asyncio.to_thread(_read, path, start))
    return piece


def _read(path: Path, start: int) -> bytes:
    with path.open("rb", buffering=0) as content:
        content.seek(start)
        return content.read(_PIECE_BYTES)


def _header(name: str, size_bytes: int) -> bytes:
    member = tarfile.TarInfo(name)
    member.size = size_bytes
    member.mode = 0o644
    # GNU's form and not pax: BusyBox reads its long names and large sizes. A date of 0 makes GNU tar warn.
    member.mtime = 1
    return member.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape")


def _padding(size_bytes: int) -> bytes:
    return bytes(-size_bytes % _BLOCK_BYTES)
