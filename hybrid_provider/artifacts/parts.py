"""Parts of one object on the disk, until its release is there: what a killed sync goes on from.

A stream of gzip cannot be entered in its middle, so it is the object's own bytes that are kept, beside what
they unpack to. That writes them twice: it is done only where the transfer is slow, and the disk has time and
room.
"""

from __future__ import annotations

import hashlib
import json
import logging
import threading
import time
from typing import TYPE_CHECKING

from hybrid_provider.artifacts.folder import free_bytes

if TYPE_CHECKING:
    from pathlib import Path

    from hybrid_provider.artifacts.objects import StoredObject
    from hybrid_provider.artifacts.transfer import Arrived, Part
    from hybrid_provider.artifacts.transfer_policy import TransferPolicy

PARTS = "parts"
_IDENTITY = "of"
_SHA256_BYTES = 32
# The object's bytes, and about twice as many that they unpack to.
_ROOM = 3
_log = logging.getLogger(__name__)


class KeptParts:
    """The parts of one object, each a file that begins with the SHA-256 of the rest.

    Args:
        staging: Where they are kept.
        leftover: Where a sync that was cut short left those that it kept.
        item: The object.
        policy: Says from which length of the transfer on they are kept, and how long they are.
    """

    def __init__(self, staging: Path, leftover: Path, item: StoredObject, policy: TransferPolicy) -> None:
        self._folder = staging / PARTS
        self._total_bytes = item.size_bytes
        self._worth_it = policy.resumable_from.total_seconds()
        self._identity = json.dumps(
            [str(item.location), item.version_id, item.etag, item.size_bytes, policy.part_bytes]
        )
        self._lock = threading.Lock()
        self._begun = time.monotonic()
        self._fetched_bytes = 0
        self.reused_bytes = 0
        self._take_over(leftover / PARTS)
        self._room = free_bytes(staging) >= _ROOM * item.size_bytes

    @property
    def any(self) -> bool:
        """Whether a retry would find something."""
        return self._folder.is_dir()

    def take(self, part: Part) -> memoryview | None:
        """A part that is here, read again and verified."""
        try:
            content = self._path(part).read_bytes()
        except OSError:
            return None
        body = memoryview(content)[_SHA256_BYTES:]
        if len(body) != part.size_bytes:  # an earlier version of this package divided the object otherwise
            return None
        if hashlib.sha256(body).digest() != content[:_SHA256_BYTES]:
            return None
        with self._lock:
            self.reused_bytes += len(body)
        return body

    def keep(self, arrived: Arrived) -> None:
        """Keep a part that was fetched, if the whole transfer takes long and the disk does not refuse."""
        part = arrived.part
        with self._lock:
            self._fetched_bytes += part.size_bytes
            seconds = time.monotonic() - self._begun
            to_fetch = self._total_bytes - self.reused_bytes
            if not self._room or seconds * to_fetch < self._worth_it * self._fetched_bytes:
                return
        sha256 = hashlib.sha256()
        for chunk in arrived.chunks:
            sha256.update(chunk)
        try:
            self._make_folder()
            with self._path(part).open("wb") as file:
                file.writelines((sha256.digest(), *arrived.chunks))
        except OSError as error:
            _log.warning("%s keeps no more parts for a retry: %s", self._folder, error)
            self._room = False
            self._path(part).unlink(missing_ok=True)

    def _path(self, part: Part) -> Path:
        return self._folder / str(part.start)

    def _make_folder(self) -> None:
        if not self._folder.is_dir():
            self._folder.mkdir(exist_ok=True)
            (self._folder / _IDENTITY).write_text(self._identity)

    def _take_over(self, left: Path) -> None:
        try:
            identity = (left / _IDENTITY).read_text()
        except OSError:
            return
        if identity == self._identity:
            left.rename(self._folder)
        else:
            _log.info("What an earlier sync kept is of another artifact, or in other parts; it begins anew")
