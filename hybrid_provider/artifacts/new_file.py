"""A file that is being written: large ones past the page cache, from memory that is used over and over.

Through the cache, each byte is copied once more, into memory that the kernel has to find first and that
others then lack. Measured for 1 GB: more than 1 s of processor time through it, 0.2 s past it.
"""

from __future__ import annotations

import errno
import hashlib
import mmap
import os
from collections import deque
from contextlib import contextmanager
from threading import Lock
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

FILE_MODE = 0o644
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_PAST_THE_CACHE = os.O_WRONLY | getattr(os, "O_DIRECT", 0) | os.O_NOFOLLOW | os.O_CLOEXEC
# Disks take no offset past the cache but a multiple of their sector, which is this at most.
_SECTOR_BYTES = 4096
# Measured: larger blocks fall out of the processor's cache.
_BLOCK_BYTES = 1 << 20


class Blocks:
    """Memory at addresses that disks take; for several threads at once."""

    def __init__(self) -> None:
        self._free: deque[memoryview] = deque()

    def filled(self, chunks: Iterable[memoryview]) -> Iterator[memoryview]:
        """The same bytes in whole blocks and a shorter last one, each until the next is asked for."""
        with self._one() as block:
            filled = 0
            for chunk in chunks:
                rest = chunk
                while rest:
                    piece = rest[: _BLOCK_BYTES - filled]
                    block[filled : filled + len(piece)] = piece
                    rest, filled = rest[len(piece) :], filled + len(piece)
                    if filled == _BLOCK_BYTES:
                        yield block
                        filled = 0
            if filled:
                yield block[:filled]

    @contextmanager
    def _one(self) -> Iterator[memoryview]:
        try:
            block = self._free.pop()
        except IndexError:
            block = memoryview(mmap.mmap(-1, _BLOCK_BYTES))
        try:
            yield block
        finally:
            self._free.append(block)


class NewFile:
    """A file that is being written: put anywhere, from any thread, and hashed in order.

    Args:
        root: The folder of all files.
        path: Relative to it; nothing is there yet.
        blocks: Lends the memory.
    """

    def __init__(self, root: Path, path: str, blocks: Blocks) -> None:
        self.path = path
        self.size_bytes = 0
        self.sha256 = hashlib.sha256()
        self._blocks = blocks
        self._place = root / path
        self._descriptor = os.open(self._place, _NEW, FILE_MODE)
        os.fchmod(self._descriptor, FILE_MODE)  # whatever the worker's umask is
        self._lock = Lock()
        self._past_the_cache: int | None = None
        self._can_be_passed = True

    def append(self, chunks: Iterable[memoryview]) -> None:
        """Write bytes to the file's end, and hash them."""
        for block in self._blocks.filled(chunks):
            self._write(self.size_bytes, block)
            self.hash(block)

    def put(self, offset: int, chunks: Iterable[memoryview]) -> None:
        """Write bytes to their place."""
        for block in self._blocks.filled(chunks):
            self._write(offset, block)
            offset += len(block)

    def hash(self, chunk: memoryview) -> None:
        """Take the next bytes into the SHA-256."""
        self.sha256.update(chunk)
        self.size_bytes += len(chunk)

    def close(self) -> None:
        """Write no more."""
        os.close(self._descriptor)
        if self._past_the_cache is not None:
            os.close(self._past_the_cache)

    def _write(self, offset: int, block: memoryview) -> None:
        if len(block) == _BLOCK_BYTES and offset % _SECTOR_BYTES == 0:
            written = self._write_past_the_cache(offset, block)
            block, offset = block[written:], offset + written
        self._write_through_the_cache(offset, block)

    def _write_through_the_cache(self, offset: int, chunk: memoryview) -> None:
        while chunk:
            written = os.pwrite(self._descriptor, chunk, offset)
            chunk, offset = chunk[written:], offset + written

    def _write_past_the_cache(self, offset: int, block: memoryview) -> int:
        """How many bytes were written: none where the file system knows no other way than its cache."""
        try:
            with self._lock:
                if not self._can_be_passed:
                    return 0
                if self._past_the_cache is None:
                    self._past_the_cache = os.open(self._place, _PAST_THE_CACHE)
            return os.pwrite(self._past_the_cache, block, offset)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            self._can_be_passed = False
            return 0
