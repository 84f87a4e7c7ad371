"""From an artifact in cloud storage to a release in the store, in one pass over its bytes."""

from __future__ import annotations

import hashlib
import shutil
import time
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hybrid_provider.artifacts.admission import Admission
from hybrid_provider.artifacts.archive import Limits, unpack
from hybrid_provider.artifacts.artifact import Artifact
from hybrid_provider.artifacts.channels import CANDIDATE
from hybrid_provider.artifacts.folder import FolderWriter, free_bytes, store_errors_explained
from hybrid_provider.artifacts.objects import Location, StoredObject, artifact_of
from hybrid_provider.artifacts.origin import check_origin
from hybrid_provider.artifacts.policy import ArtifactPolicy
from hybrid_provider.artifacts.progress import Counter, Progress
from hybrid_provider.artifacts.reading import describe, stored_objects
from hybrid_provider.artifacts.reuse import (
    OBJECTS,
    Journal,
    KnownFiles,
    journal_beside,
    kept_for_a_retry,
    leftover_of,
    objects_read,
)
from hybrid_provider.artifacts.signature import MAX_SIGNATURE_BYTES
from hybrid_provider.artifacts.transfer import Arrived, Download, Part, parts_of
from hybrid_provider.artifacts.transfer_policy import TransferPolicy
from hybrid_provider.exceptions import (
    ArtifactChanged,
    ArtifactNotFound,
    ArtifactRefused,
    ConfigurationError,
    StoreError,
)
from hybrid_provider.names import checked_name

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
    from datetime import datetime
    from pathlib import Path

    from hybrid_provider.artifacts.folder import NewFile
    from hybrid_provider.artifacts.manifest import Manifest
    from hybrid_provider.artifacts.reading import Access
    from hybrid_provider.artifacts.release import Release
    from hybrid_provider.artifacts.store import ReleaseStore

_SHA256 = frozenset("0123456789abcdef")
_SHA256_DIGITS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncResult:
    """What a sync did.

    Attributes:
        release: The release, which is in the store now.
        seconds: How long it took.
        reused_bytes: How many of the artifact's bytes did not have to be fetched, since the store had them.
        read_bytes: How many were fetched.
    """

    release: Release
    seconds: float
    reused_bytes: int
    read_bytes: int


def sync(
    access: Access,
    source: Artifact | str,
    model: str,
    store: ReleaseStore,
    *,
    progress: Callable[[Progress], None] | None = None,
    expected_sha256: str | None = None,
    created: datetime | None = None,
    provenance: Mapping[str, object] | None = None,
    limits: Limits | None = None,
    transfer: TransferPolicy | None = None,
    policy: ArtifactPolicy | None = None,
) -> SyncResult:
    """Bring an artifact into the store, as its ``candidate``; one that is there already is not read again.

    Args:
        access: The account that holds it.
        source: The artifact, or a URI of what is there now.
        model: The model's name; the call waits while another process syncs the same model.
        store: Where the release goes.
        progress: Called as bytes come, and each second in which none do; for some archives on another thread.
        expected_sha256: Of the object's bytes as they are in the cloud; 64 hex digits.
        created: The release's date; the artifact's own where None.
        provenance: Further facts to keep with the release: plain values, no secrets.
        limits: What an archive may unpack to.
        transfer: How it is read.
        policy: From where, in which formats and signed by whom it must be; it also holds for a release
            that is there already.

    Raises:
        ArtifactError: Its kinds are in :mod:`hybrid_provider.exceptions`; the store is then as it was.
        ConfigurationError: A name, URI, credential or checksum that cannot be right.
    """
    begun = time.monotonic()
    checked_name("model", model)
    expected_sha256 = None if expected_sha256 is None else _checked_sha256(expected_sha256)
    transfer, policy = transfer or TransferPolicy(), policy or ArtifactPolicy()
    policy.check_source(source.uri if isinstance(source, Artifact) else source)
    artifact = source if isinstance(source, Artifact) else describe(access, source, transfer)
    if policy.asks_for_origin:
        check_origin(access, artifact, policy)
    admission = Admission(policy, store, model, lambda: _signature_beside(access, artifact, transfer))
    fetch = _Fetch(access, artifact, expected_sha256, progress, limits or Limits(), transfer)
    known = store.find(model, artifact, archive_sha256=expected_sha256)
    if known is None:
        with store.locked(model):
            # Another process may have brought it while this one waited.
            known = store.find(model, artifact, archive_sha256=expected_sha256)
            if known is None:
                release, reused_bytes = fetch.into(
                    admission, created or artifact.last_modified, provenance or {}
                )
    if known is not None:
        admission.admit_known(known)
        release, reused_bytes = known, artifact.size_bytes
    store.point(model, CANDIDATE, release.release_id)
    return SyncResult(
        release=release,
        seconds=time.monotonic() - begun,
        reused_bytes=reused_bytes,
        read_bytes=artifact.size_bytes - reused_bytes,
    )


@dataclass(frozen=True, slots=True)
class _Fetch:
    """One artifact on its way into a store."""

    access: Access
    artifact: Artifact
    expected_sha256: str | None
    progress: Callable[[Progress], None] | None
    limits: Limits
    transfer: TransferPolicy

    def into(
        self, admission: Admission, created: datetime, provenance: Mapping[str, object]
    ) -> tuple[Release, int]:
        """Read it, and add it to the store; the release, and how many bytes were on the disk already.

        The caller holds the model's lock.
        """
        store, model = admission.store, admission.model
        objects = self._objects()
        if self.artifact.is_prefix:
            prefix = Location.parse(self.artifact.uri).key
            provenance = {**provenance, OBJECTS: objects_read(objects, prefix)}
        with ExitStack() as stack:
            leftover = stack.enter_context(leftover_of(store.root / model / ".staging"))
            folder = stack.enter_context(store.staging(model))
            stack.enter_context(store_errors_explained(folder, self.artifact.size_bytes))
            if self.artifact.is_prefix:
                stack.enter_context(kept_for_a_retry(folder.parent, leftover))
                manifest, reused_bytes = self._receive_prefix(
                    objects, folder, KnownFiles(store, model, leftover)
                )
            else:
                shutil.rmtree(leftover, ignore_errors=True)
                manifest, reused_bytes = self._receive_object(objects, folder), 0
            admitted = admission.admit(folder, manifest)
            release = store.add(
                model,
                folder,
                manifest,
                created=created,
                artifact=self.artifact,
                archive_sha256=self.expected_sha256,
                provenance={**provenance, **admitted.facts()},
                signature=admitted.signature,
            )
            admission.remember(admitted)
            return release, reused_bytes

    def _require_space(self, folder: Path, needed: int) -> None:
        free = free_bytes(folder)
        if free < needed:
            raise StoreError(
                f"{folder}: {free} bytes free, more than {needed} needed for "
                f"{self.artifact.uri}; free space there"
            )

    def _objects(self) -> Sequence[StoredObject]:
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
        objects = stored_objects(self.access, location, self.transfer)
        if len(objects) > self.limits.files:
            raise ArtifactRefused(
                f"{location} holds {len(objects)} objects, more than {self.limits.files}; "
                "raise the limit if that is right"
            )
        if artifact_of(location, objects).etag != self.artifact.etag:
            raise ArtifactChanged(
                f"the objects under {location} are not those that were looked at; look again, then sync"
            )
        return objects

    def _receive_prefix(
        self, objects: Sequence[StoredObject], folder: Path, known: KnownFiles
    ) -> tuple[Manifest, int]:
        """Link what is on the disk already, and read the rest."""
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
            offset = arrived.part.start
            for chunk in arrived.chunks:
                files[arrived.part.item].put(offset, chunk)
                offset += len(chunk)

        parts = begun(parts_of(objects, self.transfer.part_bytes))
        with self._download(objects, parts, landing=land) as download:
            for arrived in download:
                item, file = arrived.part.item, files[arrived.part.item]
                for chunk in arrived.chunks:
                    file.hash(chunk)
                if arrived.part.end == item.size_bytes:
                    writer.finish(files.pop(item))
                    journal.add(item, file.path, file.sha256.hexdigest())

    def _receive_object(self, objects: Sequence[StoredObject], folder: Path) -> Manifest:
        self._require_space(folder, self.artifact.size_bytes)
        sha256 = hashlib.sha256()
        name = self.artifact.uri.rpartition("/")[2]
        with (
            FolderWriter(folder) as writer,
            self._download(objects, parts_of(objects, self.transfer.part_bytes)) as download,
        ):
            bodies = (chunk for arrived in download for chunk in arrived.chunks)
            if self.expected_sha256 is not None:
                bodies = _hashed(bodies, sha256)
            unpack(name, self.artifact.size_bytes, bodies, writer, self.limits, stop=download.stop)
            if self.expected_sha256 is not None and sha256.hexdigest() != self.expected_sha256:
                raise ArtifactRefused(
                    f"{self.artifact.uri} has SHA-256 {sha256.hexdigest()}, not {self.expected_sha256}; "
                    "it is not the artifact that was expected"
                )
            return writer.seal()

    def _download(
        self,
        objects: Sequence[StoredObject],
        parts: Iterable[Part],
        landing: Callable[[Arrived], None] | None = None,
    ) -> Download:
        total_bytes = sum(item.size_bytes for item in objects)
        return Download(
            self.access,
            objects[0].location,
            parts,
            self.transfer,
            landing=landing,
            on_bytes=Counter(total_bytes, self.progress).add if self.progress else None,
        )


def _signature_beside(access: Access, artifact: Artifact, transfer: TransferPolicy) -> str | None:
    """The object that lies beside the artifact and vouches for it: its name and ``.sig``."""
    location = Location.parse(artifact.uri.rstrip("/") + ".sig")
    try:
        objects = stored_objects(access, location, transfer)
    except ArtifactNotFound:
        return None
    if objects[0].size_bytes > MAX_SIGNATURE_BYTES:
        raise ArtifactRefused(
            f"{location} has {objects[0].size_bytes} bytes, more than a signature has; sign again"
        )
    with Download(access, location, parts_of(objects, transfer.part_bytes), transfer) as download:
        content = b"".join(bytes(chunk) for arrived in download for chunk in arrived.chunks)
    return content.decode(errors="replace")


def _hashed(bodies: Iterable[memoryview], sha256: hashlib._Hash) -> Generator[memoryview, None, None]:
    for body in bodies:
        sha256.update(body)
        yield body


def _checked_sha256(text: str) -> str:
    digits = text.strip().lower()
    if len(digits) != _SHA256_DIGITS or not _SHA256.issuperset(digits):
        raise ConfigurationError(f"expected_sha256 {text!r} is not 64 hex digits")
    return digits
