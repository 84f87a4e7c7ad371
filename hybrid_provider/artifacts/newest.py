"""Which of the objects under a prefix are artifacts, and which of those are whole."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from hybrid_provider.artifacts.objects import artifact_of
from hybrid_provider.exceptions import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from hybrid_provider.artifacts.artifact import Artifact
    from hybrid_provider.artifacts.objects import Location, StoredObject


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What counts as an artifact under a prefix.

    Attributes:
        name: An object's name, as in ``model.tar.gz`` or ``*.tar.gz``; with a ``/`` at its end a folder's, as
            in ``model/``, and the artifact is all that lies in it. None takes the whole prefix as one.
        marker: The name of the object that is written last into a folder.
    """

    name: str | None = None
    marker: str | None = None

    def check(self, location: Location) -> None:
        """Raise ConfigurationError if nothing under ``location`` can be this."""
        if not location.is_prefix:
            raise ConfigurationError(
                f"{location}: newest and marker are for a prefix of objects; give one, with a '/' at its end"
            )
        if self.name is not None and (not self.name.strip("/") or "/" in self.name[:-1]):
            raise ConfigurationError(
                f"newest is {self.name!r}; give the name of an object ('model.tar.gz', '*.tar.gz') "
                "or of a folder ('model/'), without those above it"
            )
        if self.marker is not None and self.name is not None and not self.name.endswith("/"):
            raise ConfigurationError(
                f"marker {self.marker!r} is for prefixes, and newest {self.name!r} takes single objects; "
                "leave marker out"
            )


def artifacts_under(
    location: Location, objects: Iterable[StoredObject], wanted: Wanted
) -> tuple[Artifact, ...]:
    """The whole artifacts among the objects under ``location``, the newest last."""
    groups: dict[Location, list[StoredObject]] = {}
    for item in objects:
        place = _artifact_of_object(location, item.location, wanted.name)
        if place is not None:
            groups.setdefault(place, []).append(item)
    found = [
        artifact_of(place, items) for place, items in groups.items() if _is_whole(place, items, wanted.marker)
    ]
    return tuple(sorted(found, key=lambda artifact: (artifact.last_modified, artifact.uri)))


def _artifact_of_object(prefix: Location, item: Location, name: str | None) -> Location | None:
    """Where the artifact is that an object belongs to, None for an object of no artifact."""
    if name is None:
        return prefix
    *folders, file = item.key.removeprefix(prefix.key).split("/")
    if not name.endswith("/"):
        return item if fnmatchcase(file, name) else None
    for depth, folder in enumerate(folders, start=1):
        if fnmatchcase(folder, name[:-1]):
            return replace(prefix, key=prefix.key + "/".join(folders[:depth]) + "/")
    return None


def _is_whole(place: Location, items: Sequence[StoredObject], marker: str | None) -> bool:
    """Whether there is something, and where a marker is asked for, one that is not older than all else."""
    if sum(item.size_bytes for item in items) == 0:
        return False
    if marker is None:
        return True
    written = max(item.last_modified for item in items)
    return any(item.location.key == place.key + marker and item.last_modified >= written for item in items)
