"""A local file or folder as a release: what was trained elsewhere, or carried in by hand."""

from __future__ import annotations

import os
import stat
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from hybrid_provider.artifacts.admission import Admission
from hybrid_provider.artifacts.archive import Limits, unpack
from hybrid_provider.artifacts.file_names import shown
from hybrid_provider.artifacts.folder import FolderWriter, free_bytes, store_errors_explained
from hybrid_provider.artifacts.policy import ArtifactPolicy
from hybrid_provider.artifacts.sharing import files_below
from hybrid_provider.exceptions import ArtifactNotFound, ArtifactRefused, StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from hybrid_provider.artifacts.manifest import Manifest
    from hybrid_provider.artifacts.release import Release
    from hybrid_provider.artifacts.store import ReleaseStore

_CHUNK_BYTES = 1 << 20
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
# Opening a FIFO that took a file's place must not wait for its writer.
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def import_release(
    store: ReleaseStore,
    model: str,
    path: Path,
    *,
    created: datetime | None = None,
    provenance: Mapping[str, object] | None = None,
    limits: Limits | None = None,
    policy: ArtifactPolicy | None = None,
) -> Release:
    """Add a local file or folder to the store, copied and hashed in one pass.

    Args:
        store: Where the release goes.
        model: The model's name; the call waits while another process writes the same model.
        path: A folder, whose files are taken; an archive, which is unpacked; or any other file.
        created: The release's date; that of the newest file where None.
        provenance: Further facts to keep with the release: plain values, no secrets.
        limits: What an archive may unpack to, and how many files a folder may hold.
        policy: What the files must be; its rules about sources do not apply.

    Raises:
        ArtifactNotFound: There is nothing at the path, or it may not be read.
        ArtifactRefused: It holds a link, a device or an unsafe name, or the policy refuses it.
        StoreError: The store's disk refuses.
    """
    limits, policy = limits or Limits(), policy or ArtifactPolicy()
    with _reading_explained(path):
        files = sorted(files_below(path)) if path.is_dir() else [""]
        statuses = [_regular(path / file) for file in files]
    if len(files) > limits.files:
        raise ArtifactRefused(f"{path} holds {len(files)} files, more than {limits.files}")
    newest = datetime.fromtimestamp(max((status.st_mtime for status in statuses), default=0), UTC)
    size_bytes = sum(status.st_size for status in statuses)
    with store.locked(model), store.staging(model) as folder, store_errors_explained(folder, size_bytes):
        if free_bytes(folder) < size_bytes:
            raise StoreError(f"{folder}: less than {size_bytes} bytes free for {path}; free space there")
        manifest = _copy(path, files, size_bytes, folder, limits)
        admission = Admission(policy, store, model, lambda: _signature_beside(path))
        admitted = admission.admit(folder, manifest)
        release = store.add(
            model,
            folder,
            manifest,
            created=created or newest,
            artifact=None,
            provenance={"imported_from": str(path.absolute()), **(provenance or {}), **admitted.facts()},
            signature=admitted.signature,
        )
        admission.remember(admitted)
    return release


def _copy(path: Path, files: list[str], size_bytes: int, folder: Path, limits: Limits) -> Manifest:
    with FolderWriter(folder) as writer:
        if files == [""]:
            unpack(path.name, size_bytes, _chunks(path.parent, path.name), writer, limits)
        else:
            for file in files:
                writer.write(file, _chunks(path, file))
        return writer.seal()


def _chunks(folder: Path, file: str) -> Iterator[memoryview]:
    with _reading_explained(folder / file):
        try:
            descriptor = _opened(folder, file)
        except OSError as error:
            error.filename = str(folder / file)  # it would be a part of it alone
            raise
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise _no_file(folder / file)
        while chunk := os.read(descriptor, _CHUNK_BYTES):
            yield memoryview(chunk)
    finally:
        os.close(descriptor)


def _opened(folder: Path, file: str) -> int:
    """A file's descriptor, with no link below the folder followed: one may have come since the look."""
    *folders, name = file.split("/")
    descriptor = os.open(folder, _FOLDER)
    try:
        for part in folders:
            inner = os.open(part, _FOLDER | os.O_NOFOLLOW, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = inner
        return os.open(name, _READ, dir_fd=descriptor)
    finally:
        os.close(descriptor)


def _regular(path: Path) -> os.stat_result:
    status = path.lstat()
    if not stat.S_ISREG(status.st_mode):
        raise _no_file(path)
    return status


def _no_file(path: Path) -> ArtifactRefused:
    return ArtifactRefused(f"{shown(str(path))} is a link or a device; put the file itself there")


def _signature_beside(path: Path) -> str | None:
    try:
        return path.with_name(f"{path.name}.sig").read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return None


@contextmanager
def _reading_explained(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ArtifactNotFound(
            f"{error.filename or path} cannot be read: {error.strerror}; check the path and its permissions"
        ) from error
