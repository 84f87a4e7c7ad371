"""Files that are on this disk already: of other releases, or of a sync that was cut short.

An object with the URI, ETag and size of one that was read before has its bytes. The file that they became is
read again before it is taken, so a file that rotted or was cut short is fetched anew.
"""

from __future__ import annotations

import json
import shutil
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, TypeAlias

from hybrid_provider.exceptions import ArtifactUnavailable, HybridError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from hybrid_provider.artifacts.objects import StoredObject
    from hybrid_provider.artifacts.release import Release
    from hybrid_provider.artifacts.store import ReleaseStore

OBJECTS = "objects"
_JOURNAL = "journal"
_Identity: TypeAlias = tuple[str, str, int]


@dataclass(frozen=True, slots=True)
class KnownFile:
    """A file on this disk, and the SHA-256 that it had when it was written."""

    path: Path
    sha256: str


class Journal:
    """Which objects of a sync have become files: a line for each, beside the folder that is being filled."""

    def __init__(self, file: IO[str]) -> None:
        self._file = file

    def add(self, item: StoredObject, path: str, sha256: str) -> None:
        """Note a finished file; what the disk does not keep of it is found out when it is read."""
        self._file.write(json.dumps([*_identity(item), path, sha256]) + "\n")
        self._file.flush()


@contextmanager
def journal_beside(folder: Path) -> Iterator[Journal]:
    """The journal of the folder that is being filled."""
    with folder.with_name(f"{folder.name}.{_JOURNAL}").open("w", encoding="utf-8") as file:
        yield Journal(file)


@contextmanager
def leftover_of(staging: Path) -> Iterator[Path]:
    """What a killed or failed sync left, moved out of the way of the next one.

    It is removed in the end, unless :func:`kept_for_a_retry` put something newer there. The caller holds the
    model's lock.
    """
    leftover = staging.with_name(".partial")
    if staging.is_dir():
        shutil.rmtree(leftover, ignore_errors=True)
        staging.rename(leftover)
    try:
        yield leftover
    except BaseException as error:
        if not _may_be_mended(error):
            shutil.rmtree(leftover, ignore_errors=True)
        raise
    else:
        shutil.rmtree(leftover, ignore_errors=True)


@contextmanager
def kept_for_a_retry(staging: Path, leftover: Path) -> Iterator[None]:
    """Move what was staged to ``leftover`` if the sync ends in a way that a retry may mend."""
    try:
        yield
    except BaseException as error:
        if _may_be_mended(error) and staging.is_dir():
            shutil.rmtree(leftover, ignore_errors=True)
            staging.rename(leftover)
        raise


def _may_be_mended(error: BaseException) -> bool:
    """A network's fault or an interrupt; after any other the files are of no use, or in the way."""
    return isinstance(error, ArtifactUnavailable) or not isinstance(error, (HybridError, OSError))


def objects_read(objects: Iterable[StoredObject], prefix: str) -> list[list[str | int]]:
    """What provenance keeps of a prefix's objects."""
    return [[*_identity(item), item.location.key.removeprefix(prefix)] for item in objects]


class KnownFiles:
    """Finds the file of an object that was read before."""

    def __init__(self, store: ReleaseStore, model: str, leftover: Path) -> None:
        self._files: dict[_Identity, KnownFile] = {}
        for release in store.intact_releases(model):
            self._files.update(_of_release(release, store.provenance(release)))
        self._files.update(_of_leftover(leftover))

    def find(self, item: StoredObject) -> KnownFile | None:
        """The file, not yet read again; None for an object that says nothing by which it could be known."""
        return self._files.get(_identity(item)) if item.etag else None


def _identity(item: StoredObject) -> _Identity:
    return str(item.location), item.etag, item.size_bytes


def _of_release(release: Release, provenance: Mapping[str, object]) -> Iterator[tuple[_Identity, KnownFile]]:
    objects = provenance.get(OBJECTS)
    if isinstance(objects, list):
        by_path = {file.path: file.sha256 for file in release.manifest.files}
        for entry in objects:
            match entry:
                case [str(uri), str(etag), int(size_bytes), str(path)] if path in by_path:
                    yield (uri, etag, size_bytes), KnownFile(release.path / path, by_path[path])


def _of_leftover(leftover: Path) -> Iterator[tuple[_Identity, KnownFile]]:
    for journal in leftover.glob(f"*.{_JOURNAL}"):
        folder = leftover / journal.name.removesuffix(f".{_JOURNAL}")
        for line in journal.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                uri, etag, size_bytes, path, sha256 = json.loads(line)
            except ValueError:  # cut short by the kill
                continue
            yield (uri, etag, size_bytes), KnownFile(folder / path, sha256)
