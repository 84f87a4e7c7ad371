"""When an artifact counts as arrived: it is there, it is the right one, and it is no longer being written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from hybrid_provider.artifacts.s3 import describe
from hybrid_provider.exceptions import ArtifactChanged, ArtifactNotFound

if TYPE_CHECKING:
    from datetime import datetime

    from hybrid_provider.artifacts.artifact import Artifact
    from hybrid_provider.aws import AwsAccess


@dataclass(frozen=True, slots=True, kw_only=True)
class Awaited:
    """What is waited for.

    Attributes:
        uri: Of an object, or of a prefix of objects.
        expected: The artifact that another task saw there; None takes any.
        newer_than: One written then or before is not the one; None takes any.
    """

    uri: str
    expected: Artifact | None = None
    newer_than: datetime | None = None

    def look(self, access: AwsAccess) -> Artifact | None:
        """What is there now, None for nothing; other errors as of :func:`describe`."""
        try:
            return describe(access, self.uri, version_id=self.expected.version_id if self.expected else None)
        except ArtifactNotFound:
            return None

    def arrived(self, now: Artifact | None, before: Artifact | None) -> bool:
        """Whether ``now``, with ``before`` seen one interval ago, ends the wait.

        An expected artifact is known to be whole. Of any other the ETag and size must have stood still for
        one interval: a prefix of objects is written one after another.

        Raises:
            ArtifactChanged: Something else is where the expected artifact was.
        """
        if now is None:
            return False
        if self.expected is not None:
            if not _same(now, self.expected):
                raise ArtifactChanged(
                    f"{self.uri} was replaced since the task before saw it (ETag {self.expected.etag}, "
                    f"now {now.etag}); "
                    "clear that task, or give the URI alone to take what is there"
                )
            return True
        if self.newer_than is not None and now.last_modified <= self.newer_than:
            return False
        return before is not None and _same(now, before)


def _same(one: Artifact, other: Artifact) -> bool:
    return (one.etag, one.size_bytes) == (other.etag, other.size_bytes)
