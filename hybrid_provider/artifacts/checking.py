"""Whether the bytes that came are those that the store took in, by its checksum of each object or its MD5."""

from __future__ import annotations

import base64
import logging
import re
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from hybrid_provider.artifacts.checksum import MD5, Checksum, Running
from hybrid_provider.artifacts.reading import checksum_teller, is_damaged

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from hybrid_provider.artifacts.objects import StoredObject
    from hybrid_provider.artifacts.reading import Access
    from hybrid_provider.artifacts.transfer import Arrived

# As many as botocore's pool keeps connections.
_HEADS_AT_ONCE = 10
# What waits for its turn takes more memory than the object that it is about.
_QUEUED_AT_ONCE = 1000
# MD5 is slower than any of the checksums, and a HEAD slower than the MD5 of less than this.
_SMALL_BYTES = 256 << 10
_MD5 = re.compile(r"[0-9a-f]{32}")
_log = logging.getLogger(__name__)


def checksums_of(access: Access, objects: Sequence[StoredObject]) -> Mapping[StoredObject, Checksum]:
    """What the store says of each object, without those of which it says nothing that can be computed."""
    ask = checksum_teller(access)
    said: dict[StoredObject, Checksum] = {}
    with ThreadPoolExecutor(_HEADS_AT_ONCE, thread_name_prefix="head") as pool:
        for start in range(0, len(objects), _QUEUED_AT_ONCE):
            some = objects[start : start + _QUEUED_AT_ONCE]
            answers = zip(some, pool.map(ask, some), strict=True)
            said |= {item: checksum for item, checksum in answers if checksum is not None}
    computed = {item: checksum for item, checksum in said.items() if checksum.can_be_computed}
    for item in list(said.keys() - computed.keys())[:1]:
        _log.warning(
            "%s: its %s is not compared, for awscrt is not installed: "
            "pip install 'airflow-provider-hybrid[checksums]'",
            item.location,
            said[item].algorithm,
        )
    return computed


def refuse_damaged(access: Access, item: StoredObject, running: Running) -> None:
    """Raise ArtifactRefused if the bytes of an object, now all here, are not those that the store took in."""
    if is_damaged(access, item, running):
        raise running.refusal(item.location)


class Checks:
    """The objects of a prefix, each compared as its bytes come.

    The ETag of a small object usually is its MD5, which spares a HEAD for each of thousands. Where it is not
    (with KMS, for one), the object is in doubt until :meth:`settle` has asked.
    """

    def __init__(self, access: Access, objects: Sequence[StoredObject]) -> None:
        self._access = access
        self._expected = {item: md5 for item in objects if (md5 := _md5_of(item)) is not None}
        self._expected |= checksums_of(access, [item for item in objects if item not in self._expected])
        self._running: dict[StoredObject, Running] = {}
        self._doubted: dict[StoredObject, str] = {}

    def take(self, arrived: Arrived) -> None:
        """The next bytes of an object."""
        item = arrived.part.item
        if item in self._expected:
            running = self._running.setdefault(item, Running(self._expected[item]))
            for chunk in arrived.chunks:
                running.update(chunk)

    def end(self, item: StoredObject, path: str) -> bool:
        """Whether all that can be known of an object, whose file this is, is known and good.

        Raises:
            ArtifactRefused: Its bytes are not those that the store took in.
        """
        running = self._running.pop(item, None)
        if running is None or running.holds:
            return True
        if self._expected[item].algorithm != MD5:
            refuse_damaged(self._access, item, running)
            return True
        self._doubted[item] = path
        return False

    def settle(self, folder: Path) -> None:
        """Compare those that are in doubt, read again from ``folder``; errors as of :meth:`end`."""
        asked = checksums_of(self._access, list(self._doubted))
        for item, checksum in asked.items():
            running = Running(checksum)
            running.update(memoryview((folder / self._doubted[item]).read_bytes()))
            refuse_damaged(self._access, item, running)


def _md5_of(item: StoredObject) -> Checksum | None:
    if item.location.scheme != "s3" or item.size_bytes > _SMALL_BYTES or not _MD5.fullmatch(item.etag):
        return None
    return Checksum(MD5, base64.b64encode(bytes.fromhex(item.etag)).decode())
