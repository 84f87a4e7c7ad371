"""A release's files and the digest that is its identity.

The digest is the SHA-256 of the line ``hybrid-manifest/1`` followed by one line ``sha256 size path`` per
file, sorted by the path's UTF-8 bytes, each ended by a newline. Modes and dates are left out: the same files
give the same digest, however they were packed or copied.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hybrid_provider.artifacts.file_names import TakenNames, checked_path, shown
from hybrid_provider.exceptions import ArtifactRefused

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

HEADER = "hybrid-manifest/1"
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class ManifestFile:
    """One file of a release.

    Attributes:
        path: Relative, of the grammar in :mod:`.file_names`.
        size_bytes: Its length.
        sha256: Of its bytes, 64 lowercase hex digits.
    """

    path: str
    size_bytes: int
    sha256: str

    def __post_init__(self) -> None:
        checked_path(self.path)
        if not _SHA256.fullmatch(self.sha256) or self.size_bytes < 0:
            raise ArtifactRefused(
                f"file {shown(self.path)} has no SHA-256 of 64 hex digits, or a negative size"
            )


@dataclass(frozen=True, slots=True)
class Manifest:
    """All files of a release, sorted by path."""

    files: tuple[ManifestFile, ...]

    @classmethod
    def of(cls, files: Iterable[ManifestFile]) -> Manifest:
        """The manifest of ``files`` in any order.

        Raises:
            ArtifactRefused: There are none, a path is there twice (also when only its case or a folder's
                differs, since a host's file system may fold case), or one file's path is another's folder.
        """
        # Text is compared by its code points, which is the order of its UTF-8 bytes.
        ordered = tuple(sorted(files, key=lambda file: file.path))
        if not ordered:
            raise ArtifactRefused(
                "the artifact holds no file; the training script must write its model to SM_MODEL_DIR"
            )
        taken = TakenNames()
        for file in ordered:
            taken.take(file.path)
        return cls(ordered)

    def text(self) -> str:
        """The canonical text whose SHA-256 is the digest."""
        return "".join(self._lines())

    def _lines(self) -> Iterator[str]:
        yield f"{HEADER}\n"
        for file in self.files:
            yield f"{file.sha256} {file.size_bytes} {file.path}\n"

    @classmethod
    def parse(cls, text: str) -> Manifest:
        """Read what :meth:`text` wrote, and nothing else.

        Raises:
            ArtifactRefused: The text is not exactly what :meth:`text` writes for these files.
        """
        header, *lines = text.split("\n")
        if header != HEADER:
            raise ArtifactRefused(f"a manifest begins with {HEADER!r}, this one with {header[:40]!r}")
        files = []
        for line in lines[:-1]:
            sha256, _, rest = line.partition(" ")
            size, _, path = rest.partition(" ")
            if not size.isascii() or not size.isdigit() or len(size) > 19:  # noqa: PLR2004 - digits of 2**63
                raise ArtifactRefused(f"manifest line {line[:80]!r} has no size")
            files.append(ManifestFile(path, int(size), sha256))
        manifest = cls.of(files)
        if not manifest._is_written_as(text):
            raise ArtifactRefused(
                "the manifest is not in its canonical form; it was changed after it was written"
            )
        return manifest

    def _is_written_as(self, text: str) -> bool:
        """Whether it is :meth:`text`, without a second one in memory: of 100,000 files it is long."""
        end = 0
        for line in self._lines():
            if not text.startswith(line, end):
                return False
            end += len(line)
        return end == len(text)

    @property
    def digest(self) -> str:
        """The release's identity, 64 lowercase hex digits."""
        sha256 = hashlib.sha256()
        for line in self._lines():
            sha256.update(line.encode())
        return sha256.hexdigest()

    @property
    def size_bytes(self) -> int:
        """Sum of the files' sizes."""
        return sum(file.size_bytes for file in self.files)
