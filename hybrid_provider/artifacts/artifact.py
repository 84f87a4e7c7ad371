"""What training leaves in cloud storage, and how it travels in an XCom."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TypedDict


class ArtifactDict(TypedDict):
    """An :class:`Artifact` as an XCom: plain values, the date in ISO 8601 with its zone."""

    uri: str
    size_bytes: int
    etag: str
    version_id: str | None
    last_modified: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """One object, or a prefix of objects, at one moment.

    Attributes:
        uri: ``s3://bucket/key`` of the object, or of the prefix with a ``/`` at its end.
        size_bytes: Size of the object, or of all objects under the prefix.
        etag: The object's ETag without quotes, a change token and no checksum. For a prefix, a
            SHA-256 over the objects' keys, sizes and ETags.
        version_id: The object's version where the bucket keeps versions, else None.
        last_modified: When the object, or the newest under the prefix, was written; timezone-aware.
    """

    uri: str
    size_bytes: int
    etag: str
    version_id: str | None
    last_modified: datetime

    @property
    def is_prefix(self) -> bool:
        """Whether this is a prefix of objects rather than one object."""
        return self.uri.endswith("/")

    def to_dict(self) -> ArtifactDict:
        """The artifact as an XCom."""
        return {
            "uri": self.uri,
            "size_bytes": self.size_bytes,
            "etag": self.etag,
            "version_id": self.version_id,
            "last_modified": self.last_modified.isoformat(),
        }

    @classmethod
    def from_dict(cls, fields: ArtifactDict) -> Artifact:
        """The artifact that :meth:`to_dict` wrote."""
        return cls(
            uri=fields["uri"],
            size_bytes=fields["size_bytes"],
            etag=fields["etag"],
            version_id=fields["version_id"],
            last_modified=datetime.fromisoformat(fields["last_modified"]),
        )
