"""A tar stream from an engine, hashed as it arrives."""

from __future__ import annotations

import asyncio
import hashlib
import queue
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TYPE_CHECKING, Final

from hybrid_provider.artifacts.manifest import ManifestFile
from hybrid_provider.artifacts.tar import read_tar

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

# As many targets as a rollout stages at once: each needs a thread for as long as its stream lasts, and
# asyncio's own pool has six on two cores.
_AT_ONCE: Final = 30
_CHUNKS_AHEAD: Final = 32
_MAX_HEADERS: Final = 10_000_000


@cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="hybrid-untar")


async def hashed_files(
    chunks: AsyncIterator[bytes], progress: Callable[[int], None]
) -> tuple[ManifestFile, ...]:
    """The files of an archive.

    Args:
        chunks: Its bytes.
        progress: Told that something arrived, of no bytes that were sent.

    Raises:
        ArtifactRefused: It holds more than files and folders, or it is cut off.
    """
    bridge = _Bridge()
    reading = asyncio.get_running_loop().run_in_executor(_threads(), _read, bridge)
    try:
        async for chunk in chunks:
            if reading.done():
                break
            await bridge.give(chunk)
            progress(0)
    finally:
        bridge.end()
    return await reading


def _read(bridge: _Bridge) -> tuple[ManifestFile, ...]:
    found = []
    try:
        for file in read_tar(bridge.chunks(), _MAX_HEADERS):
            digest = hashlib.sha256()
            for chunk in file.chunks:
                digest.update(chunk)
            found.append(ManifestFile(file.name, file.size_bytes, digest.hexdigest()))
    finally:
        bridge.close()
    return tuple(found)


class _Bridge:
    """Chunks on their way from the event loop to a thread, a few at a time."""

    def __init__(self) -> None:
        self._chunks: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._loop = asyncio.get_running_loop()
        self._room = asyncio.Event()
        self._closed = False

    async def give(self, chunk: bytes) -> None:
        """Hand a chunk over, once there is room for it."""
        self._chunks.put(chunk)
        while self._chunks.qsize() > _CHUNKS_AHEAD and not self._closed:
            self._room.clear()
            await self._room.wait()

    def end(self) -> None:
        """There are no more."""
        self._chunks.put(None)

    def chunks(self) -> Iterator[memoryview]:
        """What was handed over; in the thread."""
        while (chunk := self._chunks.get()) is not None:
            self._notify()
            yield memoryview(chunk)

    def close(self) -> None:
        """Nobody reads any more; in the thread."""
        self._closed = True
        self._notify()

    def _notify(self) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._room.set)
