"""The bytes of one artifact on their way into a folder: linked, fetched, checked, unpacked."""

from __future__ import annotations

import hashlib
import shutil
from contextlib import ExitStack, closing
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

from hybrid_provider.artifacts.archive import unpack
from hybrid_provider.artifacts.behind import also_taken
from hybrid_provider.artifacts.checking import Checks, checksums_of, refuse_damaged
from hybrid_provider.artifacts.checksum import Running
from hybrid_provider.artifacts.folder import FolderWriter, free_bytes
from hybrid_provider.artifacts.objects import Location, StoredObject, artifact_of
from hybrid_provider.artifacts.parts import KeptParts
from hybrid_provider.artifacts.progress import Counter
from hybrid_provider.artifacts.reading import stored_objects
from hybrid_provider.artifacts.reuse import Journal, KnownFiles, journal_beside
from hybrid_provider.artifacts.transfer import Arrived, Download, Part, parts_of
from hybrid_provider.exceptions import ArtifactChanged, ArtifactRefused, ConfigurationError, StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from hybrid_provider.artifacts.archive import Limits
    from hybrid_provider.artifacts.artifact import Artifact
    from hybrid_provider.artifacts.manifest import Manifest
    from hybrid_provider.artifacts.new_file import NewFile
    from hybrid_provider.artifacts.progress import Progress
    from hybrid_provider.artifacts.reading import Access
    from hybrid_provider.artifacts.transfer_policy import TransferPolicy


@dataclass(frozen=True, slots=True)
class Fetch:
    """One artifact on its way.

    Attributes:
        access: The account that holds it.
        artifact: What it was when it was looked at.
        seen: Its objects then; None where it was looked at elsewhere.
        expected_sha256: Of the object's bytes.
        progress: Called as bytes come.
        limits: What it may unpack to.
        transfer: How it is read.
    """

    access: Access
    artifact: Artifact
    seen: Sequence[StoredObject] | None
    expected_sha256: str | None
    progress: Callable[[Progress], None] | None
    limits: Limits
    transfer: TransferPolicy

    def objects(self) -> Sequence[StoredObject]:
        """The objects to read, each pinned to what it was when the artifact was looked at."""
        location = Location.parse(self.artifact.uri)
        if not location.is_prefix:
            return [
                StoredObject(
                    location=location,
                    size_bytes=self.artifact.size_bytes,
                    etag=self.artifact.etag,
                    version_id=self.artifact.version_id,
                    last_modified=self.artifact.last_modified,
                )
            ]
        if self.expected_sha256 is not None:
            raise ConfigurationError(
                f"{location}: expected_sha256 is of one object, this is a prefix of objects"
            )
        objects = self._listed_again(location) if self.seen is None else self.seen
        if len(objects) > self.limits.files:
            raise ArtifactRefused(
                f"{location} holds {len(objects)} objects, more than {self.limits.files}; "
                "raise the limit if that is right"
            )
        return objects

    def _listed_again(self, location: Location) -> Sequence[StoredObject]:
        objects = stored_objects(self.access, location, self.transfer)
        if artifact_of(location, objects).etag != self.artifact.etag:
            raise ArtifactChanged(
                f"the objects under {location} are not those that were looked at; look again, then sync"
            )
        return objects

    def prefix(
        self, objects: Sequence[StoredObject], folder: Path, known: KnownFiles
    ) -> tuple[Manifest, int]:
        """Link what is on the disk already, and read the rest; the files, and how many bytes were here."""
        prefix = Location.parse(self.artifact.uri).key
        with FolderWriter(folder) as writer, journal_beside(folder) as journal:
            missing = []
            for item in objects:
                path, file = item.location.key.removeprefix(prefix), known.find(item)
                if file is not None and writer.adopt(path, file.path, file.sha256):
                    journal.add(item, path, file.sha256)
                else:
                    missing.append(item)
            missing_bytes = sum(item.size_bytes for item in missing)
            self._require_space(folder, missing_bytes)
            if missing:
                self._receive_files(missing, prefix, writer, journal)
            return writer.seal(), self.artifact.size_bytes - missing_bytes

    def object(self, item: StoredObject, folder: Path, leftover: Path) -> tuple[Manifest, int]:
        """Unpack one object; the files, and how many of its bytes an earlier sync left."""
        self._require_space(folder, item.size_bytes)
        kept = KeptParts(folder.parent, leftover, item, self.transfer)
        shutil.rmtree(leftover, ignore_errors=True)
        parts = parts_of([item], self.transfer.part_bytes)
        try:
            with FolderWriter(folder) as writer:
                download = self._download([item], parts, landing=kept.keep, kept=kept.take, steps_back=True)
                with download:
                    self._unpack(item, download, writer)
                return writer.seal(), kept.reused_bytes
        except BaseException:
            # What is in it now is unpacked anew from the parts.
            shutil.rmtree(folder if kept.any else folder.parent, ignore_errors=True)
            raise

    def _unpack(self, item: StoredObject, download: Download, writer: FolderWriter) -> None:
        sha256 = hashlib.sha256()
        arriving = iter(download)  # from here on, also while the store is asked for its checksum
        bodies: Iterator[memoryview] = chain.from_iterable(arrived.chunks for arrived in arriving)
        checksum = checksums_of(self.access, [item]).get(item)
        running = Running(checksum) if checksum else None
        name = self.artifact.uri.rpartition("/")[2]
        with ExitStack() as beside:
            if running is not None:
                bodies = beside.enter_context(closing(also_taken(bodies, running.update)))
            if self.expected_sha256 is not None:
                bodies = beside.enter_context(closing(also_taken(bodies, sha256.update)))
            unpack(name, item.size_bytes, bodies, writer, self.limits, stop=download.stop)
        if running is not None:
            refuse_damaged(self.access, item, running)
        if self.expected_sha256 is not None and sha256.hexdigest() != self.expected_sha256:
            raise ArtifactRefused(
                f"{self.artifact.uri} has SHA-256 {sha256.hexdigest()}, not {self.expected_sha256}; "
                "it is not the artifact that was expected"
            )

    def _receive_files(
        self, objects: Sequence[StoredObject], prefix: str, writer: FolderWriter, journal: Journal
    ) -> None:
        """Write each part where it belongs as it comes, and hash it in its turn."""
        files: dict[StoredObject, NewFile] = {}

        def begun(parts: Iterable[Part]) -> Iterator[Part]:
            for part in parts:
                if part.start == 0:
                    files[part.item] = writer.begin(part.item.location.key.removeprefix(prefix))
                yield part

        def land(arrived: Arrived) -> None:
            files[arrived.part.item].put(arrived.part.start, arrived.chunks)

        parts = begun(parts_of(objects, self.transfer.part_bytes))
        with self._download(objects, parts, landing=land) as download:
            arriving = iter(download)  # from here on, also while the store is asked for its checksums
            checks = Checks(self.access, objects)
            for arrived in arriving:
                item, file = arrived.part.item, files[arrived.part.item]
                for chunk in arrived.chunks:
                    file.hash(chunk)
                checks.take(arrived)
                if arrived.part.end == item.size_bytes:
                    writer.finish(files.pop(item))
                    # What is in doubt is not kept for a retry: that would take it for verified.
                    if checks.end(item, file.path):
                        journal.add(item, file.path, file.sha256.hexdigest())
        checks.settle(writer.root)

    def _download(
        self,
        objects: Sequence[StoredObject],
        parts: Iterable[Part],
        *,
        landing: Callable[[Arrived], None],
        kept: Callable[[Part], memoryview | None] | None = None,
        steps_back: bool = False,
    ) -> Download:
        total_bytes = sum(item.size_bytes for item in objects)
        return Download(
            self.access,
            objects[0].location,
            parts,
            self.transfer,
            landing=landing,
            kept=kept,
            on_bytes=Counter(total_bytes, self.progress).add if self.progress else None,
            steps_back=steps_back,
        )

    def _require_space(self, folder: Path, needed: int) -> None:
        free = free_bytes(folder)
        if free < needed:
            raise StoreError(
                f"{folder}: {free} bytes free, more than {needed} needed for "
                f"{self.artifact.uri}; free space there"
            )
