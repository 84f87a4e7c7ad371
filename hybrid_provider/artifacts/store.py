"""The on-premises folder of releases.

::

    <root>/.evidence/                  what came here and what went live from here; hybrid_provider.evidence
    <root>/<model>/
        releases/<release_id>/…        exactly the manifest's files
        manifests/<release_id>         the manifest's canonical text
        provenance/<release_id>.json   where it came from
        signatures/<release_id>        who vouches for it, where a signature came beside the artifact
        sources/<hash>                 an artifact's identity → the digest of its release, and
                                       the SHA-256 of the object where it was asked for
        channels/<name>                candidate, champion: a release id, and the one before it
        pins/<release_id>              why this release is never pruned
        leases/<release_id>            locked (shared) by whoever reads the release now
        last-signed                    the date of the newest signature that was accepted
        .staging/                      a release that is being written
        .lock                          held by the process that writes

A release is there when its folder is: everything else about it is written before that one rename.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import shutil
import stat
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hybrid_provider.artifacts.artifact import Artifact
from hybrid_provider.artifacts.channels import CHANNELS, Channel, check_channel, read_channel, write_channel
from hybrid_provider.artifacts.folder import (
    FOLDER_MODE,
    make_folder,
    store_errors_explained,
    sync_folder,
)
from hybrid_provider.artifacts.records import (
    read_provenance,
    read_release,
    read_signature,
    read_source,
    write_record,
    write_signature,
    write_source,
)
from hybrid_provider.artifacts.release import Release, ReleaseDict, created_of, is_release_id, release_id_of
from hybrid_provider.artifacts.sharing import files_below, share_files
from hybrid_provider.evidence.chain import EvidenceChain
from hybrid_provider.exceptions import (
    ArtifactChanged,
    ReleaseNotFound,
    StoreError,
)
from hybrid_provider.names import checked_name, is_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from datetime import datetime

    from hybrid_provider.artifacts.manifest import Manifest, ManifestFile

LATEST = "latest"
# What a release's evidence takes from its provenance: who had it brought, and who vouches for it.
_EVIDENT = ("run", "imported_from", "signature")
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ReleaseStore:
    """All releases of all models below one folder; any number of processes may use it at once."""

    root: Path

    def release(self, model: str, name: str) -> Release:
        """One release.

        Args:
            model: The model's name.
            name: A release id, ``latest`` (the newest by creation), or a channel.

        Raises:
            ReleaseNotFound: There is no such release, or nothing in the channel.
        """
        return self._read(model, self._existing(model, name))

    def _existing(self, model: str, name: str) -> str:
        """The id of one release; errors as of :meth:`release`."""
        folder = self.folder(model)
        if name == LATEST:
            release_id = max(self._release_ids(folder), default=None)
        elif name in CHANNELS:
            release_id = self.channel(model, name).current
        else:
            release_id = checked_name("release", name)
        if release_id is None or not (folder / "releases" / release_id).is_dir():
            raise ReleaseNotFound(
                f"model {model!r} has no release {name!r} in {self.root} "
                f"on {os.uname().nodename}; sync it first"
            )
        return release_id

    def releases(self, model: str) -> tuple[Release, ...]:
        """All releases of a model, the oldest first."""
        return tuple(self._read(model, release_id) for release_id in self.release_ids(model))

    def intact_releases(self, model: str, besides: str | None = None) -> Iterator[Release]:
        """Those whose manifest can be read, the oldest first; the log tells of the others."""
        for release_id in self.release_ids(model):
            if release_id != besides:
                try:
                    yield self._read(model, release_id)
                except StoreError as error:
                    _log.warning("%s", error)

    def release_ids(self, model: str) -> tuple[str, ...]:
        """The ids of a model's releases, the oldest first; also of those whose manifest is damaged."""
        return tuple(self._release_ids(self.folder(model)))

    def models(self) -> tuple[str, ...]:
        """The models that have a release, by name."""
        with store_errors_explained(self.root):
            try:
                names = [path.name for path in self.root.iterdir() if (path / "releases").is_dir()]
            except FileNotFoundError:
                return ()
        return tuple(sorted(filter(is_name, names)))

    def find(self, model: str, artifact: Artifact, *, archive_sha256: str | None = None) -> Release | None:
        """The release that was made from exactly this artifact, without reading a byte of it.

        Args:
            model: The model's name.
            artifact: Where it came from.
            archive_sha256: Only if the object's own bytes were seen to have this SHA-256.
        """
        source = read_source(self.folder(model), artifact)
        if source is None:
            return None
        digest, proven = source
        return self.find_digest(model, digest) if archive_sha256 in {None, proven} else None

    def find_digest(self, model: str, digest: str) -> Release | None:
        """The release whose files have this digest."""
        for release_id in self._release_ids(self.folder(model)):
            if release_id.endswith(f"-{digest[:12]}"):
                release = self._read(model, release_id)
                if release.digest == digest:
                    return release
        return None

    def ensure(self, wanted: ReleaseDict, fetch: Callable[[Artifact, datetime], Release]) -> Release:
        """The release of an earlier task, which may have run on a worker with another store.

        Args:
            wanted: What that task returned.
            fetch: Brings the artifact into this store; gets it and the release's date of creation.

        Raises:
            ReleaseNotFound: It is not here and its artifact is not known.
            ArtifactChanged: The artifact gives other files now.
        """
        here = self.find_digest(wanted["model"], wanted["digest"])
        if here is not None:
            return here
        place = f"the store {self.root} on {os.uname().nodename}"
        if wanted["artifact"] is None:
            raise ReleaseNotFound(
                f"release {wanted['release_id']} of model {wanted['model']!r} is not in {place}, "
                "and it was imported from a folder; let the task run on the worker that did (queue=)"
            )
        fetched = fetch(Artifact.from_dict(wanted["artifact"]), created_of(wanted["release_id"]))
        if fetched.digest != wanted["digest"]:
            raise ArtifactChanged(
                f"release {wanted['release_id']} of model {wanted['model']!r} was fetched again into {place} "
                f"and has digest {fetched.digest[:12]} now, not {wanted['digest'][:12]}; sync it anew"
            )
        return fetched

    def provenance(self, release: Release) -> Mapping[str, object]:
        """What was kept with a release about where it came from."""
        return read_provenance(self.folder(release.model), release.release_id)

    def verify(self, release: Release) -> tuple[str, ...]:
        """Read every file again; one line for each that is missing, different or not in the manifest."""
        expected = {file.path: file for file in release.manifest.files}
        with store_errors_explained(release.path):
            found = files_below(release.path)
            faults = [f"{path}: not in the manifest" for path in found - expected.keys()]
            faults += [f"{path}: missing" for path in expected.keys() - found]
            faults += [
                f"{path}: changed since it was verified"
                for path in expected.keys() & found
                if not _is_as_it_was(release.path / path, expected[path])
            ]
        return tuple(sorted(faults))

    def channel(self, model: str, channel: str) -> Channel:
        """The release that a channel is at, and the one that it was at before."""
        return read_channel(self.folder(model), channel)

    def point(self, model: str, channel: str, release_id: str) -> None:
        """Set a channel to a release; one rename, and nothing at all where it is there already.

        A sync points ``candidate``, and whoever proved that the fleet serves it ``champion``.

        Raises:
            ConfigurationError: There is no such channel.
            ReleaseNotFound: There is no such release.
        """
        check_channel(channel)
        if self.channel(model, channel).current == release_id:
            return
        folder = self.folder(model)
        with store_errors_explained(folder), self.locked(model):
            write_channel(folder, channel, self._existing(model, release_id))

    @property
    def evidence(self) -> EvidenceChain:
        """The record of what came into this store, and of what went live from it."""
        return EvidenceChain(self.root)

    @contextmanager
    def locked(self, model: str) -> Iterator[None]:
        """Hold the model's lock, waiting for it; the kernel lets go of it when the process ends."""
        folder = self.folder(model)
        with store_errors_explained(folder):
            make_folder(folder)
            descriptor = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            with store_errors_explained(folder):
                _wait_for(descriptor, model)
            yield
        finally:
            os.close(descriptor)

    @contextmanager
    def staging(self, model: str) -> Iterator[Path]:
        """An empty folder on the store's file system, removed at the end unless it was added.

        The caller holds the lock; what a killed process left behind is removed first.
        """
        staging = self.folder(model) / ".staging"
        with store_errors_explained(staging):
            shutil.rmtree(staging, ignore_errors=True)
            make_folder(staging)
            folder = Path(tempfile.mkdtemp(dir=staging))
            folder.chmod(FOLDER_MODE)
        try:
            yield folder
        finally:
            shutil.rmtree(staging, ignore_errors=True)

    def add(
        self,
        model: str,
        staged: Path,
        manifest: Manifest,
        *,
        created: datetime,
        artifact: Artifact | None,
        provenance: Mapping[str, object],
        archive_sha256: str | None = None,
        signature: str | None = None,
    ) -> Release:
        """Make the files in ``staged``, verified and durable, a release; the caller holds the lock.

        A digest that the store knows keeps its release and id. ``archive_sha256`` is that of the object's
        own bytes, where it was computed; ``signature`` is kept beside the release. Files that older
        releases have as well become one file with several names.

        The transfer is in the store's evidence before its release appears, so that no release is without.
        """
        folder = self.folder(model)
        with store_errors_explained(folder):
            release = self.find_digest(model, manifest.digest)
            release_id = release.release_id if release else release_id_of(created, manifest.digest)
            facts = {
                "model": model,
                "release": release_id,
                "digest": manifest.digest,
                "size_bytes": manifest.size_bytes,
                "artifact": artifact.to_dict() if artifact else None,
                **{name: provenance[name] for name in _EVIDENT if name in provenance},
            }
            self.evidence.append("transfer", facts)
            if release is None:
                write_record(folder, release_id, manifest, artifact, provenance)
                write_signature(folder, release_id, signature)
                make_folder(folder / "releases")
                staged.rename(folder / "releases" / release_id)
                sync_folder(folder / "releases")
                path = folder / "releases" / release_id
                release = Release(
                    model=model, release_id=release_id, manifest=manifest, path=path, artifact=artifact
                )
                others = self.intact_releases(model, besides=release_id)
                share_files(release, others, staged.parent / "link")
            else:
                write_signature(folder, release.release_id, signature)
            if artifact is not None:
                write_source(folder, artifact, manifest.digest, archive_sha256)
        return release

    def signature(self, release: Release) -> str | None:
        """The signature that came beside the release's artifact, as it was."""
        return read_signature(self.folder(release.model), release.release_id)

    def keep_signature(self, release: Release, signature: str | None) -> Path:
        """Keep a signature beside a release that is there; its path. The caller holds the lock."""
        folder = self.folder(release.model)
        with store_errors_explained(folder):
            return write_signature(folder, release.release_id, signature)

    def _read(self, model: str, release_id: str) -> Release:
        return read_release(self.folder(model), release_id)

    def folder(self, model: str) -> Path:
        """Where everything about a model is."""
        return self.root / checked_name("model", model)

    def _release_ids(self, folder: Path) -> list[str]:
        with store_errors_explained(folder):
            try:
                names = [path.name for path in (folder / "releases").iterdir()]
            except FileNotFoundError:
                return []
        return sorted(filter(is_release_id, names))


def _wait_for(descriptor: int, model: str) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        _log.info("Waiting for another process that writes model %s", model)
        fcntl.flock(descriptor, fcntl.LOCK_EX)


def _is_as_it_was(path: Path, expected: ManifestFile) -> bool:
    if not stat.S_ISREG(path.lstat().st_mode):
        return False
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == expected.sha256
