"""Writing files into a new folder: hashed as they are written, durable when it is done."""

from __future__ import annotations

import ctypes
import errno
import hashlib
import os
import re
import shutil
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Self

from hybrid_provider.artifacts.file_names import TakenNames, checked_path, shown
from hybrid_provider.artifacts.manifest import Manifest, ManifestFile
from hybrid_provider.artifacts.new_file import FILE_MODE, Blocks, NewFile
from hybrid_provider.exceptions import ArtifactRefused, StoreError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

FOLDER_MODE = 0o755
MAX_FOLDERS = 100_000
"""Of one release: the names of few files can be of very many."""
# One fsync waits for one commit of the file system's journal; many at once share it.
_SYNCS_AT_ONCE = 16
# Smaller files wait for the end, where one call brings all of them to the disk.
_LARGE_BYTES = 1 << 20
# Of Linux: before it, a file's error was not told to who syncs the file system.
_SYNCFS_TELLS_ERRORS = (5, 8)
# The file system's own limits on hard links, or none at all.
_NO_LINK = frozenset({errno.EMLINK, errno.EPERM, errno.EOPNOTSUPP, errno.EXDEV, errno.ENOSYS})
_REMEDIES = {
    errno.ENOSPC: "free space there",
    errno.EDQUOT: "raise the quota of the worker's user, or free space there",
    errno.EROFS: "mount it writable, or set [hybrid] store_root to a folder that is",
    errno.EACCES: "let the worker's user write there, or set [hybrid] store_root to a folder where it may",
    errno.EPERM: "let the worker's user write there, or set [hybrid] store_root to a folder where it may",
    errno.EFBIG: "raise the worker's limit on the size of a file (ulimit -f)",
    errno.EIO: "check the disk",
    errno.EEXIST: "a part of this path is a file; set [hybrid] store_root to a folder",
    errno.ENOTDIR: "a part of this path is a file; set [hybrid] store_root to a folder",
}


class FolderWriter:
    """Fills an empty folder with files, each opened once, hashed while written, and never a link.

    A context manager: files are brought to the disk on threads while the next ones are written.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._syncing = ThreadPoolExecutor(_SYNCS_AT_ONCE, thread_name_prefix="fsync")
        self._synced: list[Future[None]] = []
        self._blocks = Blocks()
        self._files: list[ManifestFile] = []
        self._open: dict[str, NewFile] = {}
        self._folders: dict[str, None] = {}
        self._taken = TakenNames()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for file in self._open.values():
            file.close()
        self._syncing.shutdown(cancel_futures=True)

    def write(self, path: str, chunks: Iterable[memoryview]) -> None:
        """Write one file.

        Args:
            path: Relative to the folder; checked here.
            chunks: Its bytes, in order.

        Raises:
            ArtifactRefused: The path is unsafe, or taken (also when only its case or a folder's differs).
        """
        file = self.begin(path)
        file.append(chunks)
        self.finish(file)

    def begin(self, path: str) -> NewFile:
        """Make an empty file, to be filled and handed to :meth:`finish`; errors as of :meth:`write`."""
        self._take(checked_path(path))
        file = self._open[path] = NewFile(self.root, path, self._blocks)
        return file

    def adopt(self, path: str, source: Path, sha256: str) -> bool:
        """Take a file that is on this disk already: a hard link, or a copy where none can be made.

        Args:
            path: As of :meth:`write`; errors as there.
            source: The file; it is read to its end first.
            sha256: What it must have.

        Returns:
            Whether it is there and has it; if not, nothing was done.
        """
        checked_path(path)
        if not _has_sha256(source, sha256):
            return False
        try:
            self._take(path)
            os.link(source, self.root / path, follow_symlinks=False)
        except OSError as error:
            if error.errno not in _NO_LINK:
                raise
            self._copy(path, source)
        self._take_as_written(path, source.stat().st_size, sha256)
        return True

    def _copy(self, path: str, source: Path) -> None:
        with source.open("rb") as old, (self.root / path).open("xb") as new:
            os.fchmod(new.fileno(), FILE_MODE)
            shutil.copyfileobj(old, new)

    def finish(self, file: NewFile) -> None:
        """Take a file as complete: all its bytes were put and hashed."""
        del self._open[file.path]
        file.close()
        self._take_as_written(file.path, file.size_bytes, file.sha256.hexdigest())

    def _take_as_written(self, path: str, size_bytes: int, sha256: str) -> None:
        self._files.append(ManifestFile(path, size_bytes, sha256))
        if size_bytes >= _LARGE_BYTES:
            self._synced.append(self._syncing.submit(sync_to_disk, self.root / path))

    def seal(self) -> Manifest:
        """Make everything durable; what was written."""
        manifest = Manifest.of(self._files)
        small = [file.path for file in self._files if file.size_bytes < _LARGE_BYTES]
        if len(small) <= _SYNCS_AT_ONCE or not sync_file_system(self.root):
            self._synced += [self._syncing.submit(sync_to_disk, self.root / path) for path in small]
        for synced in self._synced:
            synced.result()
        for folder in reversed(self._folders):
            sync_to_disk(self.root / folder)
        sync_to_disk(self.root)
        return manifest

    def _take(self, path: str) -> None:
        self._taken.take(path)
        self._make_folder(path.rpartition("/")[0])

    def _make_folder(self, folder: str) -> None:
        if not folder or folder in self._folders:
            return
        self._make_folder(folder.rpartition("/")[0])
        if len(self._folders) == MAX_FOLDERS:
            raise ArtifactRefused(f"folder {shown(folder)} is one more than the {MAX_FOLDERS} of a release")
        (self.root / folder).mkdir(FOLDER_MODE, exist_ok=True)
        (self.root / folder).chmod(FOLDER_MODE)
        self._folders[folder] = None


def _has_sha256(path: Path, sha256: str) -> bool:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return False
    with open(descriptor, "rb") as file:  # noqa: PTH123 - pathlib opens no descriptors
        return hashlib.file_digest(file, "sha256").hexdigest() == sha256


def sync_to_disk(path: Path) -> None:
    """Fsync a file or a folder of a release, in which nothing is a link."""
    with _opened(path, os.O_NOFOLLOW) as descriptor:
        os.fsync(descriptor)


def sync_folder(path: Path) -> None:
    """Fsync a folder of the store; it, or the store's root, may be a link to where the disk is."""
    with _opened(path, os.O_DIRECTORY) as descriptor:
        os.fsync(descriptor)


@contextmanager
def _opened(path: Path, flags: int) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | flags)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def sync_file_system(path: Path) -> bool:
    """Bring all that was written to the file system of ``path`` to the disk; False where that proves nothing.

    A thousand small files take a tenth of the time of as many fsyncs. It waits for what other programs wrote
    there as well.
    """
    release = tuple(int(number) for number in re.findall(r"[0-9]+", os.uname().release)[:2])
    if release < _SYNCFS_TELLS_ERRORS:
        return False
    try:
        syncfs = ctypes.CDLL(None, use_errno=True).syncfs
    except (OSError, AttributeError):  # another libc
        return False
    with _opened(path, os.O_DIRECTORY) as descriptor:
        if syncfs(descriptor) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(path))
    return True


def make_folder(path: Path) -> None:
    """Make a folder of the store, and those above it, durable and readable by others."""
    if path.is_dir():
        return
    make_folder(path.parent)
    path.mkdir(FOLDER_MODE, exist_ok=True)
    path.chmod(FOLDER_MODE)
    sync_folder(path.parent)


def write_small_file(path: Path, text: str) -> None:
    """Replace a small file by one rename; a crash leaves the old text or the new one."""
    temporary = path.with_name(f".{path.name}.new")
    with temporary.open("w", encoding="utf-8", newline="\n") as file:
        os.fchmod(file.fileno(), FILE_MODE)
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    sync_folder(path.parent)


def read_small_file(path: Path) -> str | None:
    """A small file's text without the newline at its end; None where there is none."""
    with store_errors_explained(path):
        try:
            return path.read_bytes().decode(errors="replace").removesuffix("\n")
        except FileNotFoundError:
            return None


@contextmanager
def store_errors_explained(root: Path, needed_bytes: int = 0) -> Iterator[None]:
    """Raise the operating system's refusals below ``root`` as StoreError with the remedy."""
    try:
        yield
    except OSError as error:
        if error.errno not in _REMEDIES:
            raise
        path = error.filename or root
        needed = f", {needed_bytes} bytes needed" if needed_bytes else ""
        raise StoreError(
            f"{path}: {os.strerror(error.errno)} ({free_bytes(root)} bytes free{needed}); "
            f"{_REMEDIES[error.errno]}"
        ) from error


def free_bytes(path: Path) -> int:
    """Free bytes on the file system that holds ``path`` or will hold it."""
    while not path.exists() and path != path.parent:
        path = path.parent
    return shutil.disk_usage(path).free
