"""One immutable, verified, unpacked version of a model on-premises."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypedDict

if TYPE_CHECKING:
    from pathlib import Path

    from hybrid_provider.artifacts.artifact import Artifact, ArtifactDict
    from hybrid_provider.artifacts.manifest import Manifest


_RELEASE_ID = re.compile(r"[0-9]{8}T[0-9]{6}Z-[0-9a-f]{12}")


class ReleaseDict(TypedDict):
    """A release as an XCom. ``path`` is a hint: another worker may hold the store."""

    model: str
    release_id: str
    digest: str
    path: str
    files: int
    size_bytes: int
    artifact: ArtifactDict | None
    seconds: float
    reused_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """A release in the store of this machine.

    Attributes:
        model: The model's name.
        release_id: ``<created, UTC, 20261123T184600Z>-<first 12 of the digest>``.
        manifest: Its files; ``manifest.digest`` is its identity.
        path: The folder that holds exactly the manifest's files.
        artifact: Where it came from, None for an imported folder.
    """

    model: str
    release_id: str
    manifest: Manifest
    path: Path
    artifact: Artifact | None

    @property
    def digest(self) -> str:
        """The release's identity."""
        return self.manifest.digest

    def to_dict(self, *, seconds: float, reused_bytes: int) -> ReleaseDict:
        """The release as an XCom, with what it cost to have it."""
        return {
            "model": self.model,
            "release_id": self.release_id,
            "digest": self.digest,
            "path": str(self.path),
            "files": len(self.manifest.files),
            "size_bytes": self.manifest.size_bytes,
            "artifact": self.artifact.to_dict() if self.artifact else None,
            "seconds": round(seconds, 3),
            "reused_bytes": reused_bytes,
        }


def release_id_of(created: datetime, digest: str) -> str:
    """The id of a release: when it was created (in UTC, to the second) and what it is."""
    return f"{created.astimezone(UTC):%Y%m%dT%H%M%SZ}-{digest[:12]}"


def is_release_id(name: str) -> bool:
    """Whether a name has the form of a release's id."""
    return _RELEASE_ID.fullmatch(name) is not None


def created_of(release_id: str) -> datetime:
    """The date of creation in a release id."""
    return datetime.strptime(release_id.partition("-")[0] + "+0000", "%Y%m%dT%H%M%SZ%z")
