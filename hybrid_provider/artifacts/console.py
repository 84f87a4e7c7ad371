"""What a person at a terminal sees of the store's commands."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hybrid_provider.artifacts.progress import Progress

SECONDS_BETWEEN_LINES = 5.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a command did: plain values for programs, text for people, and whether all was well.

    ``code`` is the exit code where ``good`` does not say it all.
    """

    facts: object
    text: str
    good: bool = True
    code: int | None = None


class ProgressShown(Protocol):
    """Takes each progress of a transfer."""

    def show(self, progress: Progress) -> None:
        """A part has come."""

    def close(self) -> None:
        """The transfer is over."""


def progress_shown(*, silent: bool) -> ProgressShown:
    """A bar on a terminal where ``rich`` is installed, else a line every few seconds; on standard error."""
    if silent:
        return _Silent()
    if sys.stderr.isatty():
        try:
            return _Bar()
        except ImportError:
            pass
    return _Lines()


class _Silent:
    def show(self, progress: Progress) -> None:
        """Show nothing."""

    def close(self) -> None:
        """Nothing is open."""


class _Lines:
    def __init__(self) -> None:
        self._due = time.monotonic() + SECONDS_BETWEEN_LINES

    def show(self, progress: Progress) -> None:
        """Write a line if the last one is a while ago."""
        if time.monotonic() >= self._due:
            sys.stderr.write(f"{progress}\n")
            self._due = time.monotonic() + SECONDS_BETWEEN_LINES

    def close(self) -> None:
        """Nothing is open."""


class _Bar:
    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, TimeRemainingColumn, TransferSpeedColumn
        from rich.progress import Progress as Bar

        columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
        self._bar = Bar(*columns, console=Console(stderr=True))
        self._bar.start()
        self._task = self._bar.add_task("sync", total=None)

    def show(self, progress: Progress) -> None:
        """Move the bar."""
        self._bar.update(self._task, completed=progress.done_bytes, total=progress.total_bytes)

    def close(self) -> None:
        """Leave the bar as it is, and give the cursor back."""
        self._bar.stop()


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as their widest text."""
    lines = [head, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    return "\n".join(
        "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )
