"""What crossed into the site and what went live, each fact chained to the one before it.

::

    <store root>/.evidence/chain       one entry a line, in canonical JSON; never rewritten
    <store root>/.evidence/lock        held by the process that appends

Each entry holds its number and the SHA-256 of the line before it, so no entry can be changed, taken out,
put in or moved without every later line changing. What the file alone cannot show is that its end was cut
off: for that, the *head* (how many entries there are, and the SHA-256 of the last) is kept elsewhere as well,
in each asset event.
"""

from __future__ import annotations

import fcntl
import getpass
import hashlib
import json
import logging
import os
import re
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, TypedDict

from hybrid_provider.exceptions import ConfigurationError, EvidenceBroken, StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path
    from typing import BinaryIO

# The link of the first entry.
NO_ENTRY: Final = "0" * 64
_HEAD = re.compile(r"(0|[1-9][0-9]*):([0-9a-f]{64})")
# An entry is some hundred bytes; whoever writes more must not make the next append read all of it.
_MAX_ENTRY_BYTES: Final = 1 << 16
# Read by whoever may read the store; it holds no secret.
_FOLDER_MODE: Final = 0o755
_FILE_MODE: Final = 0o644
_log = logging.getLogger(__name__)


class HeadDict(TypedDict):
    """A :class:`Head` in an asset event or an XCom."""

    length: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Head:
    """The end of a chain at one moment: ``length`` entries, the last of which has this SHA-256."""

    length: int
    sha256: str

    @classmethod
    def parse(cls, text: str) -> Head:
        """A head as :meth:`__str__` writes it.

        Raises:
            ConfigurationError: It is none.
        """
        match = _HEAD.fullmatch(text.strip())
        if match is None:
            raise ConfigurationError(f"head {text!r}: it looks like 42:<64 hex digits>")
        return cls(int(match[1]), match[2])

    def to_dict(self) -> HeadDict:
        """The head as plain values."""
        return {"length": self.length, "sha256": self.sha256}

    def __str__(self) -> str:
        return f"{self.length}:{self.sha256}"


@dataclass(frozen=True, slots=True)
class Entry:
    """One fact of a chain.

    Attributes:
        number: From 1.
        kind: ``transfer``, ``activation`` or ``activated``.
        at: When it was appended, UTC, by the clock of the machine that did.
        facts: What happened: plain values, no secrets.
        sha256: Of its line.
    """

    number: int
    kind: str
    at: datetime
    facts: Mapping[str, object]
    sha256: str


@dataclass(frozen=True, slots=True)
class EvidenceChain:
    """The chain of one store; any number of processes may append to it at once."""

    store_root: Path

    @property
    def path(self) -> Path:
        """The file."""
        return self.store_root / ".evidence" / "chain"

    def append(self, kind: str, facts: Mapping[str, object]) -> Head:
        """Add one entry; when this returns, it is on the disk.

        Raises:
            StoreError: The disk refuses it, or the end of the file is no entry.
        """
        with self._errors_explained(), self._appending() as file:
            before = self._head(file)
            line = _line(before.length + 1, kind, datetime.now(UTC), facts, before.sha256, by=_who())
            if len(line) > _MAX_ENTRY_BYTES:
                raise StoreError(f"{self.path}: an entry of {len(line)} bytes is longer than an entry may be")
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
        return Head(before.length + 1, _sha256(line))

    def head(self) -> Head:
        """The end as it is now; reads the last entry alone, and proves nothing."""
        with self._errors_explained():
            try:
                with self.path.open("rb") as file:
                    return self._head(file)
            except FileNotFoundError:
                return Head(0, NO_ENTRY)

    def entries(self) -> Iterator[Entry]:
        """Every entry from the first, each proved to follow the one before it.

        Raises:
            EvidenceBroken: One does not; the message names its number.
        """
        before = Head(0, NO_ENTRY)
        with self._errors_explained():
            if not self.path.exists():
                return
            with self.path.open("rb") as file:
                while line := file.readline(_MAX_ENTRY_BYTES + 1):
                    if not line.endswith(b"\n") and not file.read(1):
                        _log.warning("%s ends in an unfinished entry, which counts for nothing", self.path)
                        return
                    entry = self._entry(line, before)
                    before = Head(entry.number, entry.sha256)
                    yield entry

    def verify(self, *heads: Head) -> Head:
        """Read the whole chain and hold it against heads that were kept elsewhere, in any order.

        Returns:
            The head as it is now.

        Raises:
            EvidenceBroken: An entry was changed, removed, added or moved, or what a head knows is gone.
        """
        expected: dict[int, set[str]] = {}
        for head in heads:
            expected.setdefault(head.length, set()).add(head.sha256)
        found = Head(0, NO_ENTRY)
        _compare(self.path, found, expected.pop(0, set()))
        for entry in self.entries():
            found = Head(entry.number, entry.sha256)
            _compare(self.path, found, expected.pop(entry.number, set()))
        if expected:
            raise EvidenceBroken(
                f"{self.path} has {found.length} entries, and a head was kept when it had {max(expected)}: "
                "its end was cut off; restore it from a copy, and find out who could write there"
            )
        return found

    @contextmanager
    def _appending(self) -> Iterator[BinaryIO]:
        folder = self.path.parent
        if not folder.is_dir():
            folder.mkdir(parents=True, exist_ok=True)
            folder.chmod(_FOLDER_MODE)  # whatever the worker's umask is
            _sync_folder(folder.parent)
        lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _FILE_MODE)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            is_new = not self.path.exists()
            with self.path.open("ab+") as file:
                if is_new:
                    for descriptor in (lock, file.fileno()):
                        os.fchmod(descriptor, _FILE_MODE)
                    _sync_folder(folder)
                yield file
        finally:
            os.close(lock)

    def _head(self, file: BinaryIO) -> Head:
        """The last whole entry; who appends cuts off what a killed process left unfinished behind it."""
        end = file.seek(0, os.SEEK_END)
        file.seek(max(0, end - 2 * _MAX_ENTRY_BYTES))
        tail = file.read()
        whole = tail[: tail.rfind(b"\n") + 1]
        if len(whole) < len(tail) and file.writable():
            _log.warning("%s ended in an unfinished entry that nobody was told of; it is removed", self.path)
            file.truncate(end - len(tail) + len(whole))
        if not whole:
            return Head(0, NO_ENTRY)
        line = whole[whole.rfind(b"\n", 0, -1) + 1 :]
        try:
            return Head(int(json.loads(line)["n"]), _sha256(line))
        except (ValueError, KeyError, TypeError) as error:
            raise StoreError(
                f"{self.path}: its last line is no entry ({error}); see what "
                "`python -m hybrid_provider.evidence verify` says, and restore the file from a copy"
            ) from error

    def _entry(self, line: bytes, before: Head) -> Entry:
        number = before.length + 1
        try:
            fields = json.loads(line)
            entry = Entry(
                number, fields["kind"], datetime.fromisoformat(fields["at"]), fields["facts"], _sha256(line)
            )
            follows = _line(number, entry.kind, entry.at, entry.facts, before.sha256, by=fields["by"]) == line
        except (ValueError, KeyError, TypeError, AttributeError):
            follows = False
        if not follows:
            raise EvidenceBroken(
                f"{self.path}: entry {number} is not what was appended after entry {before.length}: one of "
                "them was changed, removed, added or moved; restore the file from a copy, and find out who "
                "could write there"
            )
        return entry

    @contextmanager
    def _errors_explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StoreError(
                f"{self.path} cannot be written or read: {error.strerror or error}; without its evidence "
                "nothing is brought here and nothing goes live, so let the worker's user write there"
            ) from error


def _line(
    number: int, kind: str, at: datetime, facts: Mapping[str, object], previous: str, *, by: str
) -> bytes:
    """One entry's bytes. The same facts give the same bytes, so a reader can tell that nothing was added."""
    fields = {
        "n": number,
        "kind": kind,
        "at": at.isoformat(timespec="milliseconds"),
        "by": by,
        "facts": facts,
        "previous": previous,
    }
    return json.dumps(fields, sort_keys=True, separators=(",", ":"), allow_nan=False).encode() + b"\n"


def _who() -> str:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        # A container may run as a user id that has no name.
        user = str(os.getuid())
    return f"{user}@{os.uname().nodename}"


def _sha256(line: bytes) -> str:
    return hashlib.sha256(line).hexdigest()


def _compare(path: Path, found: Head, expected: set[str]) -> None:
    if expected - {found.sha256}:
        raise EvidenceBroken(
            f"{path}: entry {found.length} is another than when its head was kept: the record was written "
            "anew; restore it from a copy, and find out who could write there"
        )


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
