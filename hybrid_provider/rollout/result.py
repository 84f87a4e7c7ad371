"""What is told about a rollout: its journal while it runs, and how it came out."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Final, TypedDict

from hybrid_provider.exceptions import RolloutError, RolloutPostponed
from hybrid_provider.rollout.states import FAILURES, SERVING, RolloutState, TargetState

if TYPE_CHECKING:
    from hybrid_provider.rollout.probe import Answer


class Kind(StrEnum):
    """What moves the fleet."""

    DEPLOY = "deploy"
    ROLLBACK = "rollback"


_WORDS: Final = {Kind.DEPLOY: "rollout", Kind.ROLLBACK: "rollback"}
_SWITCHED: Final = frozenset({TargetState.SUCCEEDED, TargetState.REVERTED, TargetState.REVERT_FAILED})
_REMEDIES: Final = {
    RolloutState.FAILED: "correct what is below and clear the task",
    RolloutState.PAUSED: "the others are as they were; correct what is below and clear the task, which "
    "continues, or roll back",
    RolloutState.ABORTED: "it was stopped; clear the task to continue",
    RolloutState.SUPERSEDED: "a newer rollout has the fleet; there is nothing to do here",
    RolloutState.ROLLED_BACK: "the fleet is back on what it served before; correct what is below",
    RolloutState.ROLLBACK_PAUSED: "going back failed as well, and nothing more is tried; see below",
}
# Of a rollout that Airflow's retries take up again, without anybody.
_TRIED_AGAIN: Final = (
    "what is below may pass, and a retry of the task may help; where it stays, correct it and clear the task"
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
    to_release: str | None
    seconds: float
    bytes_sent: int
    bytes_linked: int
    error: str | None


class RolloutDict(TypedDict):
    """A :class:`RolloutResult` as an XCom."""

    model: str
    release_id: str | None
    digest: str | None
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
        from_release: What was live before, None if nothing was or nobody could ask.
        to_release: The release of the rollout, or of a rollback on this target, None where it has none to go
            to; it is live only in SUCCEEDED and ALREADY_CURRENT.
        seconds: Spent on this target.
        bytes_sent: Of the release's files that travelled.
        bytes_linked: Of those that were on the target already, in the release before.
        error: Why it failed, None if it did not.
        live: What is live now, None if nothing is or if that is not known.
        previous: What was proved there before the release that was live when the rollout began.
        pinned: The release that somebody pinned it to.
        group: Its site or rack.
        probe: The last answer of the probe, None if it was not asked.
    """

    name: str
    state: TargetState
    from_release: str | None
    to_release: str | None
    seconds: float
    bytes_sent: int
    bytes_linked: int
    error: str | None
    live: str | None = None
    previous: str | None = None
    pinned: str | None = None
    group: str | None = None
    probe: Answer | None = None

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
    """How a rollout came out, or where it is.

    Attributes:
        kind: What moved the fleet.
        rollout: The rollout's id.
        model: The model's name.
        release_id: The release; None for a rollback, in which each target has its own.
        digest: The release's digest; likewise.
        state: The rollout's state.
        targets: One for each target, in the order of the fleet.
        waves: The names of the targets of each wave.
        seconds: Since it began.
        retryable: Nothing was switched, for reasons that may pass by themselves.
        planned: It is PAUSED where ``stop_after`` asked for it: the canary is switched and baked.
        bake_left: In BAKING, for how long the canary still bakes; then run the same rollout again.
        detail: What the rollout's last transition says.
    """

    kind: Kind
    rollout: str
    model: str
    release_id: str | None
    digest: str | None
    state: RolloutState
    targets: tuple[TargetResult, ...]
    waves: tuple[tuple[str, ...], ...]
    seconds: float
    retryable: bool = False
    planned: bool = False
    bake_left: timedelta = timedelta(0)
    detail: str = ""

    @property
    def failures(self) -> int:
        """How many targets count against the failure budget."""
        return sum(target.state in FAILURES for target in self.targets)

    @property
    def well(self) -> bool:
        """Whether it is where it was asked to go: there is nothing for a person to correct."""
        if self.kind is Kind.ROLLBACK:
            return self.state is RolloutState.ROLLED_BACK
        return self.planned or self.state in {RolloutState.SUCCEEDED, RolloutState.BAKING}

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
        """Explain any end that is not :attr:`well`.

        Raises:
            RolloutPostponed: Nothing was switched, for reasons that may pass by themselves.
            RolloutError: Any other end; the message lists each target that failed, and what to do.
        """
        if self.well:
            return
        serving = sum(target.state in SERVING for target in self.targets)
        switched = any(target.state in _SWITCHED for target in self.targets)
        to_do = _TRIED_AGAIN if self.retryable else _REMEDIES[self.state]
        remedy = f"{'' if switched else 'nothing was switched; '}{to_do}"
        kind = RolloutPostponed if self.retryable else RolloutError
        what = f"{self.model} {self.release_id or ''}".rstrip()
        done = "went back" if self.kind is Kind.ROLLBACK else "serve it"
        raise kind(
            f"{_WORDS[self.kind]} of {what} ended as {self.state}: {serving} of "
            f"{len(self.targets)} targets {done}; {remedy}\n{self.reasons()}".rstrip()
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
        target.to_release or "-",
        f"{target.seconds:.1f}",
        f"{target.bytes_sent:,} B",
        f"{target.bytes_linked:,} B",
    )
