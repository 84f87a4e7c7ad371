"""How far a transfer has come, and how a person reads it."""

from __future__ import annotations

from dataclasses import dataclass

_UNITS = ("B", "kB", "MB", "GB", "TB")
_UNIT_STEP = 1000


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a sync has come; the bytes are those of the artifact, packed."""

    done_bytes: int
    total_bytes: int
    seconds: float

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
        """One line: ``1.2 of 4.0 GB, 310 MB/s, 9 s left``."""
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
