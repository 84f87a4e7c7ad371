"""The training source as one archive that is the same, byte for byte, wherever and whenever it is packed."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import tarfile
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from hybrid_provider.exceptions import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

MAX_SOURCE_BYTES = 256 * 1024 * 1024
"""Of all files, unpacked; more than this is data, which belongs into an input channel."""

# Made by tools beside the source; with them, running the tests would change the job's identity.
_LEFT_OUT = frozenset(
    {
        "__pycache__", ".git", ".hg", ".svn", ".venv", ".tox", ".mypy_cache", ".pytest_cache", ".ruff_cache",
        ".ipynb_checkpoints", ".DS_Store",
    }
)  # fmt: skip
_EXECUTABLE = 0o100


@dataclass(frozen=True)
class SourceBundle:
    """A packed source folder.

    Attributes:
        sha256: Of the tar before compression: two machines' zlib may pack the same tar differently.
        archive: The ``tar.gz``.
    """

    sha256: str
    archive: bytes = field(repr=False, compare=False)


def pack_file(script: Path) -> SourceBundle:
    """Pack one script and nothing beside it; errors as of :func:`pack_source`."""
    if not script.is_file():
        raise ConfigurationError(
            f"entry_point {str(script)!r} is no file on this worker; give a path, or source_dir as well"
        )
    return _pack([(script.name, script)], f"entry_point {str(script)!r}")


def pack_source(source_dir: Path, entry_point: str) -> SourceBundle:
    """Pack a folder for script mode, the entry point's path in it unchanged.

    Args:
        source_dir: The folder; everything in it but caches and version control is packed.
        entry_point: The script, relative to the folder.

    Raises:
        ConfigurationError: A missing folder or entry point, an entry point or a link that leads outside,
            a special file, or more than ``MAX_SOURCE_BYTES``.
    """
    root = source_dir.resolve()
    if not root.is_dir():
        raise ConfigurationError(f"source_dir {str(source_dir)!r} is no folder on this worker")
    _check_entry_point(root, entry_point)
    return _pack(sorted(_files(root), key=lambda file: file[0].encode()), f"source_dir {str(source_dir)!r}")


def _pack(files: Sequence[tuple[str, Path]], what: str) -> SourceBundle:
    size_bytes = sum(path.stat().st_size for _, path in files)
    if size_bytes > MAX_SOURCE_BYTES:
        raise ConfigurationError(
            f"{what} holds {size_bytes} bytes, at most {MAX_SOURCE_BYTES} are allowed; "
            "put data into an input channel"
        )
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, path in files:
            content = path.read_bytes()
            tar.addfile(_member(name, path, len(content)), io.BytesIO(content))
    return SourceBundle(
        sha256=hashlib.sha256(packed.getvalue()).hexdigest(),
        archive=gzip.compress(packed.getvalue(), mtime=0),
    )


def _check_entry_point(root: Path, entry_point: str) -> None:
    relative = PurePosixPath(entry_point)
    if relative.is_absolute() or ".." in relative.parts or not relative.parts:
        raise ConfigurationError(
            f"entry_point {entry_point!r} must be a path inside source_dir {str(root)!r}"
        )
    if not (root / relative).is_file():
        raise ConfigurationError(f"entry_point {entry_point!r} is no file in source_dir {str(root)!r}")


def _files(root: Path) -> Iterator[tuple[str, Path]]:
    """Every file with its name in the archive; links are followed to files inside the folder only."""
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if name not in _LEFT_OUT]
        links = [name for name in folders if (Path(folder) / name).is_symlink()]
        for name in [*names, *links]:
            path = Path(folder) / name
            if name in _LEFT_OUT or path.suffix == ".pyc":
                continue
            if not path.is_file():
                raise ConfigurationError(
                    f"{path} in source_dir is a link to a folder, a broken link or a special file; "
                    "put plain files there"
                )
            if not path.resolve().is_relative_to(root):
                raise ConfigurationError(f"{path} links to a file outside source_dir; copy the file there")
            yield path.relative_to(root).as_posix(), path


def _member(name: str, path: Path, size: int) -> tarfile.TarInfo:
    """A header that says nothing of when, where and by whom it was packed."""
    member = tarfile.TarInfo(name)
    member.size = size
    member.mode = 0o755 if path.stat().st_mode & _EXECUTABLE else 0o644
    return member
