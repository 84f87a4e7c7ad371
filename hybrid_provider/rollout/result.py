"""The states of a rollout and its targets, and what is told about them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final, TypedDict

from hybrid_provider.exceptions import RolloutError, RolloutPostponed


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


_SERVING: Final = frozenset({TargetState.SUCCEEDED, TargetState.ALREADY_CURRENT})
_SWITCHED: Final = frozenset({TargetState.SUCCEEDED, TargetState.REVERTED, TargetState.REVERT_FAILED})
_REMEDIES: Final = {
    RolloutState.FAILED: "correct what is below and clear the task",
    RolloutState.PAUSED: "the others are as they were; correct what is below and clear the task, which "
    "continues, or deploy the release before",
    RolloutState.ABORTED: "it was stopped; clear the task to continue",
    RolloutState.ROLLED_BACK: "the fleet is back on what it served before; correct what is below",
    RolloutState.ROLLBACK_PAUSED: "going back failed as well, and nothing more is tried; see below",
}


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

    def raise_unless_succeeded(self) -> None:
        """Explain any other end.

        Raises:
            RolloutPostponed: Nothing was switched, for reasons that may pass by themselves.
            RolloutError: Any other end; the message lists each target that failed, and what to do.
        """
        if self.state is RolloutState.SUCCEEDED:
            return
        serving = sum(target.state in _SERVING for target in self.targets)
        switched = any(target.state in _SWITCHED for target in self.targets)
        remedy = f"{'' if switched else 'nothing was switched; '}{_REMEDIES[self.state]}"
        kind = RolloutPostponed if self.retryable else RolloutError
        raise kind(
            f"rollout of {self.model} {self.release_id} ended as {self.state}: {serving} of "
            f"{len(self.targets)} targets serve it; {remedy}\n{self.reasons()}".rstrip()
        )

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
