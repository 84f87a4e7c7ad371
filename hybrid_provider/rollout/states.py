"""The states of a rollout and of each of its targets, and which may follow which; any other step raises."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping


class RolloutState(StrEnum):
    """Where a rollout or a rollback is; from PAUSED on its run has ended."""

    PENDING = "PENDING"
    PREFLIGHT = "PREFLIGHT"
    STAGING = "STAGING"
    CANARY = "CANARY"
    BAKING = "BAKING"
    WAVE = "WAVE"
    ROLLING_BACK = "ROLLING_BACK"
    PAUSED = "PAUSED"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    ABORTED = "ABORTED"
    SUPERSEDED = "SUPERSEDED"
    ROLLED_BACK = "ROLLED_BACK"
    ROLLBACK_PAUSED = "ROLLBACK_PAUSED"


class TargetState(StrEnum):
    """Where one target is; from SUCCEEDED on it has come out, though a switched one may still go back."""

    PENDING = "PENDING"
    PREFLIGHT = "PREFLIGHT"
    READY = "READY"
    STAGING = "STAGING"
    VERIFIED = "VERIFIED"
    DRAINING = "DRAINING"
    ACTIVATING = "ACTIVATING"
    PROBING = "PROBING"
    SOAKING = "SOAKING"
    REVERTING = "REVERTING"
    SUCCEEDED = "SUCCEEDED"
    ALREADY_CURRENT = "ALREADY_CURRENT"
    PINNED = "PINNED"
    SKIPPED = "SKIPPED"
    UNREACHABLE = "UNREACHABLE"
    LOCKED = "LOCKED"
    FAILED_NO_CHANGE = "FAILED_NO_CHANGE"
    REVERTED = "REVERTED"
    REVERT_FAILED = "REVERT_FAILED"


_R = RolloutState
_T = TargetState

# Each counts against the failure budget.
FAILURES: Final = frozenset({_T.UNREACHABLE, _T.LOCKED, _T.FAILED_NO_CHANGE, _T.REVERTED, _T.REVERT_FAILED})
# The release of the rollout is live and proved there.
SERVING: Final = frozenset({_T.SUCCEEDED, _T.ALREADY_CURRENT})

_EARLY_ENDS: Final = frozenset({_R.PAUSED, _R.FAILED, _R.ABORTED, _R.SUPERSEDED, _R.ROLLING_BACK})

# What may follow a rollout's state. After an end that a run can continue, the next run begins with PREFLIGHT.
ROLLOUT_STEPS: Final[Mapping[RolloutState, frozenset[RolloutState]]] = {
    _R.PENDING: frozenset({_R.PREFLIGHT}),
    _R.PREFLIGHT: _EARLY_ENDS | {_R.STAGING, _R.ROLLBACK_PAUSED},
    _R.STAGING: _EARLY_ENDS | {_R.CANARY, _R.BAKING, _R.WAVE, _R.SUCCEEDED},
    _R.CANARY: _EARLY_ENDS | {_R.BAKING, _R.WAVE, _R.SUCCEEDED},
    _R.BAKING: _EARLY_ENDS | {_R.WAVE, _R.SUCCEEDED, _R.PREFLIGHT},
    _R.WAVE: _EARLY_ENDS | {_R.WAVE, _R.SUCCEEDED},
    _R.ROLLING_BACK: frozenset({_R.ROLLED_BACK, _R.ROLLBACK_PAUSED, _R.FAILED, _R.ABORTED, _R.SUPERSEDED}),
    _R.PAUSED: frozenset({_R.PREFLIGHT}),
    _R.FAILED: frozenset({_R.PREFLIGHT}),
    _R.ABORTED: frozenset({_R.PREFLIGHT}),
    _R.ROLLBACK_PAUSED: frozenset({_R.PREFLIGHT}),
    _R.SUCCEEDED: frozenset(),
    _R.SUPERSEDED: frozenset(),
    _R.ROLLED_BACK: frozenset(),
}

_SWITCH: Final = frozenset({_T.DRAINING, _T.ACTIVATING})
_UNCHANGED: Final = frozenset({_T.UNREACHABLE, _T.SKIPPED, _T.LOCKED, _T.FAILED_NO_CHANGE})

TARGET_STEPS: Final[Mapping[TargetState, frozenset[TargetState]]] = {
    _T.PENDING: frozenset({_T.PREFLIGHT, _T.SKIPPED}),
    _T.PREFLIGHT: _UNCHANGED | {_T.READY, _T.ALREADY_CURRENT, _T.PINNED},
    # A rollback brings nothing; a rollout that meets a lock lets go of what it holds, to PENDING.
    # FAILED_NO_CHANGE: only what others answered shows that a place is in the fleet under two names.
    _T.READY: _SWITCH | {_T.STAGING, _T.PENDING, _T.FAILED_NO_CHANGE},
    _T.STAGING: _UNCHANGED | {_T.STAGING, _T.VERIFIED},
    _T.VERIFIED: _SWITCH,
    _T.DRAINING: frozenset({_T.ACTIVATING, _T.REVERTING}),
    _T.ACTIVATING: frozenset({_T.PROBING, _T.REVERTING}),
    _T.PROBING: frozenset({_T.PROBING, _T.SOAKING, _T.REVERTING}),
    # REVERTED: what was proved is the release that a switched target went back to.
    _T.SOAKING: frozenset({_T.PROBING, _T.SUCCEEDED, _T.REVERTED, _T.REVERTING}),
    # SUCCEEDED: the commit's answer was lost, and it had been committed. A switch: the release before was the
    # same one, and sick.
    _T.REVERTING: _SWITCH | frozenset({_T.REVERTED, _T.REVERT_FAILED, _T.SUCCEEDED, _T.LOCKED}),
    _T.SUCCEEDED: _SWITCH | {_T.REVERT_FAILED},
    _T.ALREADY_CURRENT: _SWITCH | {_T.REVERT_FAILED, _T.PENDING, _T.FAILED_NO_CHANGE},
    _T.PINNED: frozenset({_T.PENDING, _T.FAILED_NO_CHANGE}),
    _T.LOCKED: frozenset({_T.PREFLIGHT}),
    _T.SKIPPED: frozenset(),
    _T.UNREACHABLE: frozenset(),
    _T.FAILED_NO_CHANGE: frozenset(),
    _T.REVERTED: frozenset(),
    _T.REVERT_FAILED: frozenset(),
}

# The settings of the policy whose sum a target may spend in a state at most. ACTIVATING, PROBING and SOAKING
# share theirs, and STAGING's begins anew with each byte; a state that is not here waits for the rollout, or
# is an end.
DEADLINES: Final[Mapping[TargetState, tuple[str, ...]]] = {
    _T.PREFLIGHT: ("progress_deadline",),
    _T.LOCKED: ("lock_wait",),
    _T.STAGING: ("progress_deadline",),
    _T.DRAINING: ("drain", "progress_deadline"),
    _T.ACTIVATING: ("healthy_deadline",),
    _T.PROBING: ("healthy_deadline",),
    _T.SOAKING: ("healthy_deadline",),
    _T.REVERTING: ("progress_deadline",),
}


class ImpossibleStep(RuntimeError):
    """A state was to be followed by one that cannot follow it: a bug of the engine."""


def checked_rollout_step(before: RolloutState, after: RolloutState) -> RolloutState:
    """The state after, if it may follow.

    Raises:
        ImpossibleStep: It may not.
    """
    if after not in ROLLOUT_STEPS[before]:
        raise ImpossibleStep(f"a rollout goes from {before} to {after}")
    return after


def checked_target_step(before: TargetState, after: TargetState) -> TargetState:
    """The state after, if it may follow.

    Raises:
        ImpossibleStep: It may not.
    """
    if after not in TARGET_STEPS[before]:
        raise ImpossibleStep(f"a target goes from {before} to {after}")
    return after
