"""The checksum that S3 keeps of a whole object, computed again over the bytes that came.

It finds what was damaged on the way or in the store, at a fiftieth of what a SHA-256 costs. One over the
parts of an upload (``COMPOSITE``) cannot be computed, for S3 does not tell where they end.
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
"""The ETag of an object that was uploaded in one piece and without KMS."""
_HASHES = {"SHA256": "sha256", "SHA1": "sha1", MD5: "md5"}
# The cheapest first; AWS computes CRC64NVME of what is uploaded without any.
_ALGORITHMS = (*_CRC_BYTES, "SHA256", "SHA1")


@dataclass(frozen=True, slots=True)
class Checksum:
    """What S3 says of an object's bytes.

    Attributes:
        algorithm: As in S3: ``CRC64NVME``, ``CRC32C``, ``CRC32``, ``SHA256`` or ``SHA1``; or :data:`MD5`.
        value: In base64.
    """

    algorithm: str
    value: str

    @classmethod
    def of(cls, head: Mapping[str, object]) -> Checksum | None:
        """The checksum of the whole object in the answer to a HEAD with ChecksumMode; None for none."""
        if head.get("ChecksumType", _WHOLE) != _WHOLE:
            return None
        for algorithm in _ALGORITHMS:
            value = head.get(f"Checksum{algorithm}")
            # Before S3 told the type, a composite one was known by the number of its parts.
            if isinstance(value, str) and "-" not in value:
                return cls(algorithm, value)
        return None

    @property
    def can_be_computed(self) -> bool:
        """Whether this machine has what computes it: CRC64NVME and CRC32C are in AWS's own library."""
        return self.algorithm in _HASHES or _crc(self.algorithm) is not None


class Running:
    """A checksum of bytes that come in order."""

    def __init__(self, expected: Checksum) -> None:
        self._expected = expected
        self._sum: _Sum = (
            hashlib.new(_HASHES[expected.algorithm], usedforsecurity=False)
            if expected.algorithm in _HASHES
            else _Crc(expected.algorithm)
        )

    def update(self, chunk: memoryview) -> None:
        """Take the next bytes."""
        self._sum.update(chunk)

    @property
    def holds(self) -> bool:
        """Whether the bytes so far have it."""
        return self._value == self._expected.value

    def check(self, location: Location) -> None:
        """Raise ArtifactRefused if the bytes are not those that S3 took in."""
        if not self.holds:
            raise ArtifactRefused(
                f"{location}: its bytes have {self._expected.algorithm} {self._value}, and S3 says "
                f"{self._expected.value}: they were damaged in the store or on the way; sync again, and if "
                "that does not help, upload it again"
            )

    @property
    def _value(self) -> str:
        return base64.b64encode(self._sum.digest()).decode()


class _Sum(Protocol):
    def update(self, data: memoryview, /) -> None: ...

    def digest(self) -> bytes: ...


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


def _crc(algorithm: str) -> Callable[[memoryview, int], int] | None:
    if algorithm == "CRC32":
        from isal import isal_zlib

        return isal_zlib.crc32
    try:
        from awscrt import checksums
    except ImportError:
        return None
    return checksums.crc64nvme if algorithm == "CRC64NVME" else checksums.crc32c  # type: ignore[no-any-return]
