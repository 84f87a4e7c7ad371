"""The states of a rollout and its targets, and what is told about them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final, TypedDict


class RolloutState(StrEnum):
    """Where a rollout is; the last six are ends."""

    PENDING = "PENDING"
    PREFLIGHT = "PREFLIGHT"
    STAGING = "STAGING"
    CANARY = "CANARY"
    BAKING = "BAKING"
    WAVE = "WAVE"
    ROLLING_BACK = "ROLLING_BACK"
    SUCCEEDED = "SUCCEEDED"
    PAUSED = "PAUSED"
    FAILED = "FAILED"
    ABORTED = "ABORTED"
    ROLLED_BACK = "ROLLED_BACK"
    ROLLBACK_PAUSED = "ROLLBACK_PAUSED"


class TargetState(StrEnum):
    """Where one target is; from SUCCEEDED on they are ends."""

    PENDING = "PENDING"
    PREFLIGHT = "PREFLIGHT"
    READY = "READY"
    STAGING = "STAGING"
    VERIFIED = "VERIFIED"
    ACTIVATING = "ACTIVATING"
    PROBING = "PROBING"
    SOAKING = "SOAKING"
    REVERTING = "REVERTING"
    SUCCEEDED = "SUCCEEDED"
    ALREADY_CURRENT = "ALREADY_CURRENT"
    UNREACHABLE = "UNREACHABLE"
    LOCKED = "LOCKED"
    FAILED_NO_CHANGE = "FAILED_NO_CHANGE"
    REVERTED = "REVERTED"
    REVERT_FAILED = "REVERT_FAILED"


FAILURES: Final = frozenset(
    {
        TargetState.UNREACHABLE,
        TargetState.LOCKED,
        TargetState.FAILED_NO_CHANGE,
        TargetState.REVERTED,
        TargetState.REVERT_FAILED,
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalEntry:
    """One transition.

    Attributes:
        seconds: Since the rollout began.
        target: The target's name; None for the rollout as a whole.
        state: The state that was entered.
        detail: Why, or with what; may be empty.
    """

    seconds: float
    target: str | None
    state: RolloutState | TargetState
    detail: str = ""

    def __str__(self) -> str:
        who = self.target or "rollout"
        return f"{self.seconds:8.1f} s  {who}: {self.state}{' - ' if self.detail else ''}{self.detail}"


class TargetDict(TypedDict):
    """A :class:`TargetResult` as an XCom."""

    name: str
    state: str
    from_release: str | None
    to_release: str
    seconds: float
    bytes_sent: int
    bytes_linked: int
    error: str | None


class RolloutDict(TypedDict):
    """A :class:`RolloutResult` as an XCom."""

    model: str
    release_id: str
    digest: str
    state: str
    targets: list[TargetDict]
    waves: list[list[str]]
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetResult:
    """How one target came out.

    Attributes:
        name: The target's name.
        state: Its last state.
        from_release: What was live before, None if nothing was.
        to_release: The release of the rollout; it is live only in SUCCEEDED and ALREADY_CURRENT.
        seconds: Spent on this target.
        bytes_sent: Of the release's files that travelled.
        bytes_linked: Of those that were on the target already, in the release before.
        error: Why it failed, None if it did not.
    """

    name: str
    state: TargetState
    from_release: str | None
    to_release: str
    seconds: float
    bytes_sent: int
    bytes_linked: int
    error: str | None

    def to_dict(self) -> TargetDict:
        """The result as plain values."""
        return {
            "name": self.name,
            "state": self.state.value,
            "from_release": self.from_release,
            "to_release": self.to_release,
            "seconds": round(self.seconds, 3),
            "bytes_sent": self.bytes_sent,
            "bytes_linked": self.bytes_linked,
            "error": self.error,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutResult:
    """How a rollout came out."""

    model: str
    release_id: str
    digest: str
    state: RolloutState
    targets: tuple[TargetResult, ...]
    waves: tuple[tuple[str, ...], ...]
    seconds: float
    retryable: bool

    def to_dict(self) -> RolloutDict:
        """The result as an XCom."""
        return {
            "model": self.model,
            "release_id": self.release_id,
            "digest": self.digest,
            "state": self.state.value,
            "targets": [target.to_dict() for target in self.targets],
            "waves": [list(wave) for wave in self.waves],
            "seconds": round(self.seconds, 3),
        }

    def table(self) -> str:
        """One line for each target, for a log."""
        head = ("target", "state", "from", "to", "seconds", "sent", "linked")
        rows = [head, *map(_row, self.targets)]
        widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows
        ]
        return "\n".join(line.rstrip() for line in lines)

    def reasons(self) -> str:
        """Each target that failed, its state and why."""
        failed = [target for target in self.targets if target.error is not None]
        return "\n".join(f"  {target.name}: {target.state}: {target.error}" for target in failed)


def _row(target: TargetResult) -> tuple[str, ...]:
    return (
        target.name,
        target.state.value,
        target.from_release or "-",
        target.to_release,
        f"{target.seconds:.1f}",
        f"{target.bytes_sent:,} B",
        f"{target.bytes_linked:,} B",
    )
