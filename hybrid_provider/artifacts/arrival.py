"""When an artifact counts as arrived: it is there, it is the right one, and it is no longer being written."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from hybrid_provider.artifacts.newest import Wanted, artifacts_under
from hybrid_provider.artifacts.objects import Location
from hybrid_provider.artifacts.reading import describe, stored_objects
from hybrid_provider.artifacts.source import ArtifactSource
from hybrid_provider.artifacts.transfer_policy import TransferPolicy
from hybrid_provider.exceptions import ArtifactChanged, ArtifactNotFound, ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hybrid_provider.artifacts.artifact import Artifact
    from hybrid_provider.artifacts.reading import Access

_LOOK: Final = TransferPolicy(part_timeout=timedelta(minutes=1))
"""A look that takes longer is better made again at the next interval."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Awaited:
    """What is waited for.

    Attributes:
        uri: Of an object, or of a prefix of objects.
        expected: The artifact that another task saw there; None takes any.
        newer_than: One written then or before is not the one; None takes any.
        newest: Take the newest of this name under ``uri``, as
            ``name`` of :class:`~hybrid_provider.artifacts.newest.Wanted`.
        marker: The name of an object that is written last into a prefix: without it, the prefix is not whole.
    """

    uri: str
    expected: Artifact | None = None
    newer_than: datetime | None = None
    newest: str | None = None
    marker: str | None = None

    def look(self, access: Access) -> Artifact | None:
        """What is there now, None for nothing; other errors as of :func:`describe`."""
        try:
            if self.newest is None and self.marker is None:
                version_id = self.expected.version_id if self.expected else None
                return describe(access, self.uri, _LOOK, version_id=version_id)
            found = self.all(access)
            # Only this tells the version of an object.
            return describe(access, found[-1].uri, _LOOK) if found else None
        except ArtifactNotFound:
            return None

    def all(self, access: Access) -> tuple[Artifact, ...]:
        """All whole artifacts that are there now, the newest last; one at most unless ``newest`` is set.

        Objects that were listed carry no version.
        """
        location = Location.parse(self.uri)
        wanted = Wanted(name=self.newest, marker=self.marker)
        wanted.check(location)
        try:
            objects = stored_objects(access, location, _LOOK)
        except ArtifactNotFound:
            return ()
        return artifacts_under(location, objects, wanted)

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
        return before is not None and now.uri == before.uri and _same(now, before)


def _same(one: Artifact, other: Artifact) -> bool:
    return (one.etag, one.size_bytes) == (other.etag, other.size_bytes)


def date_of(newer_than: object) -> datetime | None:
    """The moment that ``newer_than`` of a sensor means.

    Args:
        newer_than: None, a ``datetime``, ISO 8601, or what training, the sensor or the sync operator
            returned, which stands for the moment when its artifact was written.

    Raises:
        ConfigurationError: It is anything else.
    """
    if newer_than is None or newer_than == "":
        return None
    if isinstance(newer_than, str) and not newer_than.lstrip().startswith("{"):
        try:
            newer_than = datetime.fromisoformat(newer_than.strip())
        except ValueError:
            raise ConfigurationError(
                f"newer_than is {newer_than!r}; give an ISO 8601 date, a release or an artifact"
            ) from None
    if isinstance(newer_than, datetime):
        return newer_than if newer_than.tzinfo else newer_than.replace(tzinfo=UTC)
    artifact = ArtifactSource.read(newer_than).artifact
    return artifact.last_modified if artifact else None


class Arrivals:
    """Tells new artifacts from those that fired, look by look.

    Args:
        fired: The marks of what fired before; None if nothing was ever looked at.
    """

    def __init__(self, fired: frozenset[str] | None) -> None:
        self.fired = fired if fired is not None else frozenset()
        self.changed = False
        self._first = fired is None
        self._before: frozenset[str] = frozenset()

    def new(self, there: Sequence[Artifact]) -> tuple[Artifact, ...]:
        """Those that fire now; ``there`` is all that is there, the newest last."""
        marks = {mark_of(artifact): artifact for artifact in there}
        if self._first:
            # Whoever begins to watch wants the model of today, not its history.
            self.fired, self._first, self.changed = frozenset(marks) - set(list(marks)[-1:]), False, True
        new = [mark for mark in marks if mark in self._before and mark not in self.fired]
        # What is gone is forgotten, or the list would grow for ever.
        fired = (self.fired | set(new)) & set(marks)
        self.changed = self.changed or fired != self.fired
        self.fired, self._before = fired, frozenset(marks)
        return tuple(marks[mark] for mark in new)


def mark_of(artifact: Artifact) -> str:
    """Short for one artifact as it is: replaced, it has another."""
    return hashlib.sha256(f"{artifact.uri} {artifact.etag} {artifact.size_bytes}".encode()).hexdigest()[:16]
