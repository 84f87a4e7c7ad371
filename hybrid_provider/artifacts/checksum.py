"""The checksum that a store keeps of a whole object, computed again over the bytes that came.

It finds what was damaged on the way or in the store, at a fiftieth of what a SHA-256 costs. That of an upload
in parts may be one over the parts' own (``COMPOSITE``): it is computed where they are as long as the first.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from hybrid_provider.exceptions import ArtifactRefused

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from hybrid_provider.artifacts.objects import Location

_WHOLE = "FULL_OBJECT"
_CRC_BYTES = {"CRC64NVME": 8, "CRC32C": 4, "CRC32": 4}
MD5 = "MD5"
"""In S3 it is the ETag of an object that was uploaded in one piece and without KMS."""
_HASHES = {"SHA256": "sha256", "SHA1": "sha1", MD5: "md5"}
# The cheapest first; AWS computes CRC64NVME of what is uploaded without any.
_ALGORITHMS = (*_CRC_BYTES, "SHA256", "SHA1")


@dataclass(frozen=True, slots=True)
class Checksum:
    """What the store says of an object's bytes.

    Attributes:
        algorithm: As in S3: ``CRC64NVME``, ``CRC32C``, ``CRC32``, ``SHA256`` or ``SHA1``; or :data:`MD5`.
        value: In base64.
        part_bytes: 0 for that of the whole object. Else it is that of the parts' own checksums, one after the
            other, and this is the length of each part but the last.
        parts: How many there are; 0 for the whole object.
    """

    algorithm: str
    value: str
    part_bytes: int = 0
    parts: int = 0

    @classmethod
    def of(cls, head: Mapping[str, object]) -> Checksum | None:
        """The checksum in the answer to a HEAD with ChecksumMode; None for none.

        One over parts comes without their length, which another HEAD tells.
        """
        for algorithm in _ALGORITHMS:
            said = head.get(f"Checksum{algorithm}")
            if isinstance(said, str):
                value, _, parts = said.partition("-")
                if parts.isdecimal() or (not parts and head.get("ChecksumType", _WHOLE) == _WHOLE):
                    return cls(algorithm, value, parts=int(parts or 0))
        return None

    @property
    def can_be_computed(self) -> bool:
        """Whether this machine has what computes it: CRC64NVME and CRC32C are in AWS's own library."""
        return self.algorithm in _HASHES or _crc(self.algorithm) is not None


class Running:
    """A checksum of bytes that come in order."""

    def __init__(self, expected: Checksum) -> None:
        self.expected = expected
        self._sum: _Sum = (
            _OverParts(expected.algorithm, expected.part_bytes)
            if expected.parts
            else _sum(expected.algorithm)
        )

    def update(self, chunk: memoryview) -> None:
        """Take the next bytes."""
        self._sum.update(chunk)

    @property
    def holds(self) -> bool:
        """Whether the bytes so far have it."""
        return self._value == self.expected.value

    def refusal(self, location: Location) -> ArtifactRefused:
        """The error that the bytes are not those that the store took in."""
        return ArtifactRefused(
            f"{location}: its bytes have {self.expected.algorithm} {self._value}, and the store says "
            f"{self.expected.value}: they were damaged there or on the way; sync again, and if "
            "that does not help, upload it again"
        )

    @property
    def _value(self) -> str:
        return base64.b64encode(self._sum.digest()).decode()


class _Sum(Protocol):
    def update(self, data: memoryview, /) -> None: ...

    def digest(self) -> bytes: ...


class _OverParts:
    """The checksum of the checksums of parts of equal length."""

    def __init__(self, algorithm: str, part_bytes: int) -> None:
        self._algorithm, self._part_bytes = algorithm, part_bytes
        self._sums = bytearray()
        self._part, self._left = _sum(algorithm), part_bytes

    def update(self, data: memoryview, /) -> None:
        while len(data):
            if not self._left:
                self._end_part()
            piece, data = data[: self._left], data[self._left :]
            self._part.update(piece)
            self._left -= len(piece)

    def digest(self) -> bytes:
        whole = _sum(self._algorithm)
        whole.update(memoryview(bytes(self._sums) + self._part.digest()))
        return whole.digest()

    def _end_part(self) -> None:
        self._sums += self._part.digest()
        self._part, self._left = _sum(self._algorithm), self._part_bytes


class _Crc:
    def __init__(self, algorithm: str) -> None:
        crc = _crc(algorithm)
        if crc is None:
            raise LookupError(algorithm)
        self._crc, self._bytes, self._value = crc, _CRC_BYTES[algorithm], 0

    def update(self, data: memoryview, /) -> None:
        self._value = self._crc(data, self._value)

    def digest(self) -> bytes:
        return self._value.to_bytes(self._bytes, "big")


def _sum(algorithm: str) -> _Sum:
    if algorithm in _HASHES:
        return hashlib.new(_HASHES[algorithm], usedforsecurity=False)
    return _Crc(algorithm)


def _crc(algorithm: str) -> Callable[[memoryview, int], int] | None:
    if algorithm == "CRC32":
        from isal import isal_zlib

        return isal_zlib.crc32
    try:
        from awscrt import checksums
    except ImportError:
        return None
    return checksums.crc64nvme if algorithm == "CRC64NVME" else checksums.crc32c  # type: ignore[no-any-return]
