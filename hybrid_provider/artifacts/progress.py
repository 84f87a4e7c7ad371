"""How far a transfer has come, and how a person reads it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_UNITS = ("B", "kB", "MB", "GB", "TB")
_UNIT_STEP = 1000
_WORTH_SAYING_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a sync has come; the bytes are those of the artifact, packed.

    Attributes:
        done_bytes: That have come.
        total_bytes: That the artifact has.
        seconds: Since the beginning.
        silent_seconds: Since the last byte came.
    """

    done_bytes: int
    total_bytes: int
    seconds: float
    silent_seconds: float = 0.0

    @property
    def bytes_per_second(self) -> float:
        """The mean rate so far."""
        return self.done_bytes / self.seconds if self.seconds else 0.0

    @property
    def seconds_left(self) -> float | None:
        """At that rate; None before the first byte."""
        rate = self.bytes_per_second
        return (self.total_bytes - self.done_bytes) / rate if rate else None

    def __str__(self) -> str:
        """One line: ``1.2 GB of 4.0 GB, 310 MB/s, 9 s left``, or ``…, nothing came for 20 s``."""
        if self.silent_seconds >= _WORTH_SAYING_SECONDS:
            left = f", nothing came for {self.silent_seconds:.0f} s"
        else:
            left = "" if self.seconds_left is None else f", {self.seconds_left:.0f} s left"
        return (
            f"{in_units(self.done_bytes)} of {in_units(self.total_bytes)}, "
            f"{in_units(self.bytes_per_second)}/s{left}"
        )


def in_units(size_bytes: float) -> str:
    """``1.2 GB``: three digits are what a person compares."""
    for unit in _UNITS[:-1]:
        if size_bytes < _UNIT_STEP:
            return f"{size_bytes:.3g} {unit}"
        size_bytes /= _UNIT_STEP
    return f"{size_bytes:.3g} {_UNITS[-1]}"


class Counter:
    """Turns counts of bytes into :class:`Progress`."""

    def __init__(self, total_bytes: int, report: Callable[[Progress], None]) -> None:
        self._total_bytes = total_bytes
        self._report = report
        self._begun = self._last_came = time.monotonic()
        self._done_bytes = 0

    def add(self, size_bytes: int) -> None:
        """Report that ``size_bytes`` have come, perhaps none, since the last call."""
        now = time.monotonic()
        if size_bytes > 0:
            self._last_came = now
        self._done_bytes += size_bytes
        self._report(Progress(self._done_bytes, self._total_bytes, now - self._begun, now - self._last_came))
