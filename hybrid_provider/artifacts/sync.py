"""From an artifact in cloud storage to a release in the store, in one pass over its bytes."""

from __future__ import annotations

import hashlib
import time
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hybrid_provider.artifacts.admission import Admission
from hybrid_provider.artifacts.archive import Limits, unpack
from hybrid_provider.artifacts.artifact import Artifact
from hybrid_provider.artifacts.folder import FolderWriter, free_bytes, store_errors_explained
from hybrid_provider.artifacts.origin import check_origin
from hybrid_provider.artifacts.policy import ArtifactPolicy
from hybrid_provider.artifacts.progress import Progress
from hybrid_provider.artifacts.s3 import S3Location, StoredObject, artifact_of, describe, stored_objects
from hybrid_provider.artifacts.signature import MAX_SIGNATURE_BYTES
from hybrid_provider.artifacts.transfer import TransferPolicy, read_parts
from hybrid_provider.exceptions import (
    ArtifactChanged,
    ArtifactNotFound,
    ArtifactRefused,
    ConfigurationError,
    StoreError,
)
from hybrid_provider.names import checked_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from datetime import datetime
    from pathlib import Path

    from hybrid_provider.artifacts.manifest import Manifest
    from hybrid_provider.artifacts.release import Release
    from hybrid_provider.artifacts.store import ReleaseStore
    from hybrid_provider.artifacts.transfer import Part
    from hybrid_provider.aws import AwsAccess

_SHA256 = frozenset("0123456789abcdef")
_SHA256_DIGITS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncResult:
    """What a sync did.

    Attributes:
        release: The release, which is in the store now.
        seconds: How long it took.
        reused_bytes: How many of the artifact's bytes did not have to be read, since the store had them.
    """

    release: Release
    seconds: float
    reused_bytes: int


def sync(
    access: AwsAccess,
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
    """Bring an artifact into the store; one that is there already is not read again.

    Args:
        access: The AWS account that holds it.
        source: The artifact, or a URI of what is there now.
        model: The model's name; the call waits while another process syncs the same model.
        store: Where the release goes.
        progress: Called as each part has come, for some archives on another thread.
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
    policy = policy or ArtifactPolicy()
    policy.check_source(source.uri if isinstance(source, Artifact) else source)
    artifact = source if isinstance(source, Artifact) else describe(access, source)
    if policy.asks_for_origin:
        check_origin(access, artifact, policy)
    transfer = transfer or TransferPolicy()
    admission = Admission(policy, store, model, lambda: _signature_beside(access, artifact, transfer))
    fetch = _Fetch(access, artifact, expected_sha256, progress, limits or Limits(), transfer)
    release = known = store.find(model, artifact, archive_sha256=expected_sha256)
    if release is None:
        with store.locked(model):
            # Another process may have brought it while this one waited.
            known = store.find(model, artifact, archive_sha256=expected_sha256)
            release = known or fetch.into(admission, created or artifact.last_modified, provenance or {})
    if known is not None:
        admission.admit_known(known)
    return SyncResult(
        release=release,
        seconds=time.monotonic() - begun,
        reused_bytes=artifact.size_bytes if known else 0,
    )


@dataclass(frozen=True, slots=True)
class _Fetch:
    """One artifact on its way into a store."""

    access: AwsAccess
    artifact: Artifact
    expected_sha256: str | None
    progress: Callable[[Progress], None] | None
    limits: Limits
    transfer: TransferPolicy

    def into(self, admission: Admission, created: datetime, provenance: Mapping[str, object]) -> Release:
        """Read it, and add it to the store; the caller holds the model's lock."""
        objects = self._objects()
        store, model = admission.store, admission.model
        with store.staging(model) as folder, store_errors_explained(folder, self.artifact.size_bytes):
            self._require_space(folder)
            manifest = self._receive(objects, folder)
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
        return release

    def _require_space(self, folder: Path) -> None:
        free, needed = free_bytes(folder), self.artifact.size_bytes
        if free < needed:
            raise StoreError(
                f"{folder}: {free} bytes free, more than {needed} needed for "
                f"{self.artifact.uri}; free space there"
            )

    def _objects(self) -> Sequence[StoredObject]:
        """The objects to read, each pinned to what it was when the artifact was looked at."""
        location = S3Location.parse(self.artifact.uri)
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
        objects = stored_objects(self.access, location)
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

    def _receive(self, objects: Sequence[StoredObject], folder: Path) -> Manifest:
        with (
            FolderWriter(folder) as writer,
            closing(read_parts(self.access, objects, self.transfer)) as parts,
        ):
            counted = self._counted(parts)
            if self.artifact.is_prefix:
                self._receive_prefix(objects, counted, writer)
            else:
                self._receive_object((body for _, body in counted), writer)
            return writer.seal()

    def _receive_prefix(
        self,
        objects: Sequence[StoredObject],
        parts: Iterator[tuple[Part, memoryview]],
        writer: FolderWriter,
    ) -> None:
        prefix = S3Location.parse(self.artifact.uri).key
        for item in objects:
            writer.write(item.location.key.removeprefix(prefix), _bodies_of(item, parts))

    def _receive_object(self, bodies: Iterator[memoryview], writer: FolderWriter) -> None:
        sha256 = hashlib.sha256()
        if self.expected_sha256 is not None:
            bodies = _hashed(bodies, sha256)
        name = self.artifact.uri.rpartition("/")[2]
        unpack(name, self.artifact.size_bytes, bodies, writer, self.limits)
        if self.expected_sha256 is not None and sha256.hexdigest() != self.expected_sha256:
            raise ArtifactRefused(
                f"{self.artifact.uri} has SHA-256 {sha256.hexdigest()}, not {self.expected_sha256}; "
                "it is not the artifact that was expected"
            )

    def _counted(self, parts: Iterable[tuple[Part, memoryview]]) -> Iterator[tuple[Part, memoryview]]:
        begun = time.monotonic()
        done_bytes = 0
        for part, body in parts:
            done_bytes += len(body)
            if self.progress is not None:
                self.progress(Progress(done_bytes, self.artifact.size_bytes, time.monotonic() - begun))
            yield part, body


def _signature_beside(access: AwsAccess, artifact: Artifact, transfer: TransferPolicy) -> str | None:
    """The object that lies beside the artifact and vouches for it: its name and ``.sig``."""
    location = S3Location.parse(artifact.uri.rstrip("/") + ".sig")
    try:
        objects = stored_objects(access, location)
    except ArtifactNotFound:
        return None
    if objects[0].size_bytes > MAX_SIGNATURE_BYTES:
        raise ArtifactRefused(
            f"{location} has {objects[0].size_bytes} bytes, more than a signature has; sign again"
        )
    with closing(read_parts(access, objects, transfer)) as parts:
        return b"".join(body for _, body in parts).decode(errors="replace")


def _bodies_of(item: StoredObject, parts: Iterator[tuple[Part, memoryview]]) -> Iterator[memoryview]:
    for part, body in parts:
        yield body
        if part.end == item.size_bytes:
            return


def _hashed(bodies: Iterable[memoryview], sha256: hashlib._Hash) -> Iterator[memoryview]:
    for body in bodies:
        sha256.update(body)
        yield body


def _checked_sha256(text: str) -> str:
    digits = text.strip().lower()
    if len(digits) != _SHA256_DIGITS or not _SHA256.issuperset(digits):
        raise ConfigurationError(f"expected_sha256 {text!r} is not 64 hex digits")
    return digits
