"""A release's files and the digest that is its identity.

The digest is the SHA-256 of the line ``hybrid-manifest/1`` followed by one line ``sha256 size path`` per
file, sorted by the path's UTF-8 bytes, each ended by a newline. Modes and dates are left out: the same files
give the same digest, however they were packed or copied.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hybrid_provider.exceptions import ArtifactRefused

if TYPE_CHECKING:
    from collections.abc import Iterable

HEADER = "hybrid-manifest/1"
MAX_PATH_BYTES = 1024
MAX_COMPONENT_BYTES = 255
_SHOWN_CHARACTERS = 120
# Most names are of these alone, and thousands are read at once; the others are looked at one by one.
_PLAIN = re.compile(r"[A-Za-z0-9._/ -]*")
# Of a character that is not assigned yet, a later Unicode may say that its normal form is another.
_REFUSED_CATEGORIES = frozenset({"Cc", "Cf", "Cn", "Cs", "Zl", "Zp"})
_SHA256 = re.compile(r"[0-9a-f]{64}")


def shown(path: str | None) -> str:
    """A name from outside for a message: quoted, escaped and of bounded length."""
    text = str(path)
    return repr(text) if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]!r}…"


def checked_path(path: str) -> str:
    """Return a file's path inside a release unchanged if it is safe on every host.

    Raises:
        ArtifactRefused: It is absolute, climbs with ``..``, holds a backslash, a control or an unpaired
            character, is not in Unicode's NFC form, or is too long.
    """
    if len(path) > MAX_PATH_BYTES:
        raise ArtifactRefused(f"file name {shown(path)} is longer than a host's file system can hold")
    if not _PLAIN.fullmatch(path):
        _check_characters(path)
    components = path.split("/")
    if any(component in {"", ".", ".."} for component in components):
        raise ArtifactRefused(f"file name {shown(path)} is absolute or not a plain relative path")
    if len(path.encode()) > MAX_PATH_BYTES or any(len(c.encode()) > MAX_COMPONENT_BYTES for c in components):
        raise ArtifactRefused(f"file name {shown(path)} is longer than a host's file system can hold")
    return path


def _check_characters(path: str) -> None:
    if "\\" in path or any(unicodedata.category(character) in _REFUSED_CATEGORIES for character in path):
        raise ArtifactRefused(
            f"file name {shown(path)} holds a backslash, or a control, invisible or unassigned character"
        )
    if path != unicodedata.normalize("NFC", path):
        raise ArtifactRefused(
            f"file name {shown(path)} is not in Unicode's NFC form; rename it in the training script"
        )


@dataclass(frozen=True, slots=True)
class ManifestFile:
    """One file of a release.

    Attributes:
        path: Relative, ``/`` between folders, in Unicode's NFC form.
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
            ArtifactRefused: There are none, a path is there twice (also when only its case differs, since
                a host's file system may fold case), or one file's path is another's folder.
        """
        ordered = tuple(sorted(files, key=lambda file: file.path.encode()))
        if not ordered:
            raise ArtifactRefused(
                "the artifact holds no file; the training script must write its model to SM_MODEL_DIR"
            )
        folded = Counter(file.path.casefold() for file in ordered)
        for file in ordered:
            if folded[file.path.casefold()] > 1:
                raise ArtifactRefused(
                    f"file name {shown(file.path)} is there twice, or differs from another only by case"
                )
            parents = file.path.casefold().split("/")[:-1]
            if any("/".join(parents[: n + 1]) in folded for n in range(len(parents))):
                raise ArtifactRefused(f"file name {shown(file.path)} lies in a folder that is itself a file")
        return cls(ordered)

    def text(self) -> str:
        """The canonical text whose SHA-256 is the digest."""
        lines = [HEADER, *(f"{file.sha256} {file.size_bytes} {file.path}" for file in self.files)]
        return "\n".join(lines) + "\n"

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
        if manifest.text() != text:
            raise ArtifactRefused(
                "the manifest is not in its canonical form; it was changed after it was written"
            )
        return manifest

    @property
    def digest(self) -> str:
        """The release's identity, 64 lowercase hex digits."""
        return hashlib.sha256(self.text().encode()).hexdigest()

    @property
    def size_bytes(self) -> int:
        """Sum of the files' sizes."""
        return sum(file.size_bytes for file in self.files)
