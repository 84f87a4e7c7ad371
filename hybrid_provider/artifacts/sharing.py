"""One file on the disk for the same bytes in several releases of a model."""

from __future__ import annotations

import errno
import logging
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from hybrid_provider.artifacts.release import Release

# A smaller file takes one block of the disk whatever it shares.
MIN_SHARED_BYTES = 4096
# The file system's own limits on hard links, or none at all: the files then stay copies.
_NO_LINK = frozenset({errno.EMLINK, errno.EPERM, errno.EOPNOTSUPP, errno.EXDEV, errno.ENOSYS})
# Nor are they shared with a release that another user brought, or whose file somebody took away.
_LEFT_ALONE = frozenset({errno.EACCES, errno.ENOENT, errno.ENOTDIR})
_log = logging.getLogger(__name__)


def share_files(new: Release, others: Iterable[Release], temporary: Path) -> int:
    """Make files of other releases that the new one has as well hard links to the new one's.

    The new bytes were verified a moment ago, and the old ones perhaps long ago: so the old names move to
    the new file, each by one rename, and a file that rotted on the disk is not spread but healed.

    Args:
        new: A release that was just added.
        others: The model's other releases.
        temporary: A free path on the same file system, outside all releases.

    Returns:
        How many bytes the disk holds less.
    """
    by_digest = {file.sha256: file.path for file in new.manifest.files if file.size_bytes >= MIN_SHARED_BYTES}
    saved_bytes = 0
    for other in others:
        for file in other.manifest.files:
            if file.sha256 in by_digest:
                try:
                    if _is_in(other, file.path):
                        source = new.path / by_digest[file.sha256]
                        saved_bytes += _link(source, other.path / file.path, temporary)
                except OSError as error:
                    if error.errno in _LEFT_ALONE:
                        continue
                    if error.errno not in _NO_LINK:
                        raise
                    _log.info("Releases of model %s share no more files: %s", new.model, error)
                    return saved_bytes
    return saved_bytes


def _is_in(release: Release, path: str) -> bool:
    """Whether a file lies in its release, and not behind a link that somebody put there."""
    return (release.path / path).resolve() == release.path.resolve() / path


def _link(source: Path, name: Path, temporary: Path) -> int:
    """Make ``name`` a name of ``source``'s file; the bytes that this saves."""
    before, after = name.lstat(), source.lstat()
    if not stat.S_ISREG(before.st_mode) or (before.st_dev, before.st_ino) == (after.st_dev, after.st_ino):
        return 0
    temporary.unlink(missing_ok=True)
    os.link(source, temporary)
    temporary.replace(name)
    return before.st_size if before.st_nlink == 1 else 0


def files_below(folder: Path) -> set[str]:
    """All that is below a folder and no folder itself, relative to it; links are named, never followed."""
    found = set()
    for path, folders, files in os.walk(folder, onerror=_raise):
        links = [name for name in folders if Path(path, name).is_symlink()]
        found |= {str(Path(path, name).relative_to(folder)) for name in (*files, *links)}
    return found


def _raise(error: OSError) -> None:
    raise error
