"""What is kept of a fleet in the asset state of its model, as plain values; a cache of what the targets say.

::

    host/<target>   HostRow       what one target serves, after a rollout or an audit touched it
    rollout         RolloutRow    the running or the last rollout
    failed          FailedRow     rollouts that ended badly, of which Airflow keeps no event
    audit           AuditRow      the last audit
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, NotRequired, TypedDict

from hybrid_provider.rollout.states import FAILURES, RolloutState, TargetState

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from hybrid_provider.evidence.chain import Head, HeadDict
    from hybrid_provider.rollout.audit import DriftDict
    from hybrid_provider.rollout.result import RolloutResult
    from hybrid_provider.targets.target import Inspection

Kind = Literal["deploy", "rollback", "audit"]
# Ids of a DAG and of its run; empty where it is not known any more.
Run = tuple[str, str]
ROLLOUT_KEY: Final = "rollout"
FAILED_KEY: Final = "failed"
AUDIT_KEY: Final = "audit"

# Of the rollouts that ended badly; each is some hundred bytes of one row.
_FAILED_KEPT: Final = 50

RUNNING: Final = frozenset(
    {
        RolloutState.PENDING,
        RolloutState.PREFLIGHT,
        RolloutState.STAGING,
        RolloutState.CANARY,
        RolloutState.BAKING,
        RolloutState.WAVE,
        RolloutState.ROLLING_BACK,
    }
)
_SERVING: Final = frozenset({TargetState.SUCCEEDED, TargetState.ALREADY_CURRENT})
_UNDER_WAY: Final = frozenset(
    {
        TargetState.PENDING,
        TargetState.PREFLIGHT,
        TargetState.READY,
        TargetState.STAGING,
        TargetState.VERIFIED,
        TargetState.DRAINING,
        TargetState.ACTIVATING,
        TargetState.PROBING,
        TargetState.SOAKING,
        TargetState.REVERTING,
    }
)


def host_key(target: str) -> str:
    """The key of one target's row."""
    return f"host/{target}"


class ProbeRow(TypedDict):
    """What the last probe of the live release found."""

    healthy: bool
    detail: str
    at: str


class HostRow(TypedDict):
    """One target: what is live there since when, and how the last rollout or audit left it."""

    release: str | None
    digest: str | None
    state: str
    since: str | None
    rollout: str
    previous: str | None
    pinned: str | None
    group: str | None
    probe: ProbeRow | None
    error: str | None
    dag_id: str
    run_id: str


class RolloutRow(TypedDict):
    """One rollout, as it is now or ended; ``targets`` maps each one's name to its state.

    ``closed`` is the rollout before it, where that one was left running, and the state that it was closed in.
    """

    rollout: str
    kind: Kind
    model: str
    release: str | None
    digest: str | None
    state: str
    waves: list[list[str]]
    targets: dict[str, str]
    failures: int
    max_failures: int
    began: str
    updated: str
    seconds: float
    dag_id: str
    run_id: str
    task_id: str
    map_index: int
    approved_by: str | None
    closed: dict[str, str] | None


class AuditRow(TypedDict):
    """One audit: how many targets were as they should be, and what was not."""

    at: str
    model: str
    release: str | None
    targets: int
    drift: list[DriftDict]
    dag_id: str
    run_id: str
    task_id: str


class EventExtra(TypedDict):
    """The extra of the asset's event: a rollout that ended well; ``targets`` counts them by state.

    Of a rollback, ``release`` is the one that most targets have now. ``rows`` are those of the asset's state
    that no target can tell, by key; :mod:`hybrid_provider.fleet.told`.
    """

    kind: Kind
    rollout: str
    release: str | None
    digest: str | None
    state: str
    targets: dict[str, int]
    seconds: float
    training: Mapping[str, Any] | None
    evidence: HeadDict | None
    approved_by: str | None
    dag_id: str
    run_id: str
    rows: NotRequired[Mapping[str, Any]]


class FailedRollout(EventExtra):
    """A rollout that ended badly, as an event would tell it."""

    at: str
    task_id: str


class FailedRow(TypedDict):
    """Those of late, the newest last."""

    rollouts: list[FailedRollout]


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """The task instance that moves a fleet or looks at it."""

    dag_id: str
    run_id: str
    task_id: str
    map_index: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """How a rollout left one target.

    Attributes:
        state: The target's state.
        release: What the rollout moves it to.
        digest: Of that release.
        rollout: The rollout's id.
        at: When, ISO 8601.
        group: The target's site or rack.
        error: Why it failed, None where it did not.
        came_from: What was live before, as far as it is known.
        known: Whether the target was asked, so that what it said of the rest goes before the row before.
        live: What is live now, where it was asked.
        earlier: What was proved before that, where nothing was switched.
        pinned: What it is pinned to.
    """

    state: TargetState
    release: str | None
    digest: str | None
    rollout: str
    at: str
    group: str | None = None
    error: str | None = None
    came_from: str | None = None
    known: bool = False
    live: str | None = None
    earlier: str | None = None
    pinned: str | None = None


def is_end(state: TargetState) -> bool:
    """Whether a target in this state is through with its rollout."""
    return state not in _UNDER_WAY


def host_row(before: HostRow | None, change: Change, origin: Origin) -> HostRow:
    """One target's row after a rollout, from the row before; what nobody looked at stays as it was."""
    row: HostRow = {
        "release": before["release"] if before else change.came_from,
        "digest": before["digest"] if before else None,
        "state": change.state.value,
        "since": before["since"] if before else None,
        "rollout": change.rollout,
        "previous": before["previous"] if before else None,
        "pinned": before["pinned"] if before else None,
        "group": change.group,
        "probe": before["probe"] if before else None,
        "error": change.error,
        "dag_id": origin.dag_id,
        "run_id": origin.run_id,
    }
    if change.state in _SERVING:
        earlier = change.came_from or row["release"]
        if earlier not in {None, change.release}:
            row["previous"] = earlier
        if row["release"] != change.release or row["since"] is None:
            row["since"] = change.at
        row["release"], row["digest"] = change.release, change.digest
        row["probe"] = {"healthy": True, "detail": "", "at": change.at}
    elif change.known:
        if row["release"] != change.live:
            row["release"], row["digest"], row["since"] = change.live, None, change.at
        row["previous"] = change.earlier
    if change.known:
        row["pinned"] = change.pinned
    return row


def inspected_row(
    inspection: Inspection,
    state: str,
    *,
    group: str | None,
    probe: ProbeRow | None,
    error: str | None,
    run: Run,
) -> HostRow:
    """One target's row as the target itself says it is; ``run`` is the one behind its rollout."""
    return {
        "release": inspection.release,
        "digest": inspection.digest,
        "state": state,
        "since": inspection.since.isoformat() if inspection.since else None,
        "rollout": inspection.rollout or "",
        "previous": inspection.previous,
        "pinned": inspection.pinned,
        "group": group,
        "probe": probe,
        "error": error,
        "dag_id": run[0],
        "run_id": run[1],
    }


def unheard_row(before: HostRow | None, group: str | None, error: str | None) -> HostRow:
    """One target's row where it does not answer: what was known of it stays."""
    nothing: HostRow = {
        "release": None,
        "digest": None,
        "state": "",
        "since": None,
        "rollout": "",
        "previous": None,
        "pinned": None,
        "group": group,
        "probe": None,
        "error": None,
        "dag_id": "",
        "run_id": "",
    }
    return {**(before or nothing), "state": TargetState.UNREACHABLE.value, "error": error}


def live_after(result: RolloutResult) -> str | None:
    """The release of a rollout; of a rollback, which has none of its own, what most targets have now."""
    if result.release_id is not None:
        return result.release_id
    live = Counter(target.live for target in result.targets if target.live is not None)
    return live.most_common(1)[0][0] if live else None


def event_extra(
    kind: Kind,
    result: RolloutResult,
    digests: Mapping[str, str],
    origin: Origin,
    *,
    training: Mapping[str, Any] | None,
    head: Head | None = None,
    approved_by: str | None = None,
) -> EventExtra:
    """What the asset's event says of a finished rollout."""
    release = live_after(result)
    return {
        "kind": kind,
        "rollout": result.rollout,
        "release": release,
        "digest": result.digest or digests.get(release or ""),
        "state": result.state.value,
        "targets": dict(Counter(target.state.value for target in result.targets)),
        "seconds": round(result.seconds, 3),
        "training": _training(training),
        "evidence": head.to_dict() if head else None,
        "approved_by": approved_by,
        "dag_id": origin.dag_id,
        "run_id": origin.run_id,
    }


def _training(training: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    if not training:
        return None
    return {name: training.get(name) for name in ("job", "arn", "metrics", "billable_seconds")}


def failed_row(
    before: FailedRow | None, rollout: str, ended: EventExtra | None, at: str, task_id: str
) -> FailedRow:
    """The row after a rollout: with it where it ended badly, and without what an earlier try of it left."""
    kept = [one for one in (before or {"rollouts": []})["rollouts"] if one["rollout"] != rollout]
    if ended is not None:
        kept.append({**ended, "at": at, "task_id": task_id})
    return {"rollouts": kept[-_FAILED_KEPT:]}


def failures_in(states: Sequence[str]) -> int:
    """How many of these states count against the failure budget."""
    return sum(state in FAILURES for state in states)
