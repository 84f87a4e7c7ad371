"""What an ended job comes to: an artifact that is there, or an error that says whose turn it is."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, TypedDict

from hybrid_provider.exceptions import (
    CapacityUnavailable,
    CloudUnavailable,
    TrainingFailed,
    TrainingInterrupted,
    TrainingStopped,
)
from hybrid_provider.training.backend import FailureClass, JobState, StopCause

if TYPE_CHECKING:
    from datetime import datetime

    from hybrid_provider.artifacts.artifact import Artifact, ArtifactDict
    from hybrid_provider.exceptions import TrainingError
    from hybrid_provider.training.backend import JobRef, JobStatus
    from hybrid_provider.training.watch import Watched


class OnStopped(StrEnum):
    """What a stopped job means."""

    FAIL = "fail"
    ACCEPT = "accept"
    """Hand on the artifact that it left."""


class TrainingDict(TypedDict):
    """A training as an XCom: plain values, dates in ISO 8601 with their zone.

    ``artifact`` is None, and so are the values that come with the end, if the task did not wait.
    """

    job: str
    arn: str
    status: str
    artifact: ArtifactDict | None
    metrics: dict[str, float]
    inputs: list[str]
    billable_seconds: int
    saved_seconds: int
    started: str | None
    ended: str | None
    spec_fingerprint: str


_STOPPED = {
    StopCause.ASKED: (TrainingStopped, "was stopped by somebody; clear the task to train again"),
    StopCause.MAX_RUNTIME: (
        TrainingStopped,
        "ran longer than max_runtime; raise it, or accept what it left with on_stopped='accept'",
    ),
    StopCause.MAX_WAIT: (
        TrainingInterrupted,
        "found no spot instances in time, or lost them; raise max_wait, or train without spot",
    ),
    StopCause.INTERRUPTED: (TrainingInterrupted, "lost its spot instances"),
}
_FAILED: dict[FailureClass, tuple[type[TrainingError], str]] = {
    FailureClass.SCRIPT: (TrainingFailed, "correct the training script or its data"),
    FailureClass.REQUEST: (TrainingFailed, "correct the role's permissions, the image or the inputs"),
    FailureClass.CAPACITY: (CapacityUnavailable, "no such instances are free now"),
    FailureClass.CLOUD: (CloudUnavailable, "the cloud failed; the same job may work later"),
}


def accepted_states(on_stopped: OnStopped) -> frozenset[JobState]:
    """The end states whose artifact is wanted."""
    good = {JobState.COMPLETED}
    return frozenset(good | {JobState.STOPPED} if on_stopped is OnStopped.ACCEPT else good)


def bad_end(ref: JobRef, watched: Watched, accepted: frozenset[JobState]) -> TrainingError | None:
    """The error that an ended job is, None if its artifact is wanted."""
    status = watched.status
    if status.state in accepted and not watched.timed_out:
        return None
    if watched.timed_out:
        kind: type[TrainingError] = TrainingStopped
        why = "was stopped at the task's execution_timeout or max_ingestion_time; raise it"
    elif status.failure is not None:
        kind, remedy = _FAILED[status.failure]
        why = f"failed: {status.reason or 'no reason given'}; {remedy}"
    else:
        kind, why = _STOPPED[status.stop_cause or StopCause.ASKED]
    return kind(f"training job {ref.name} {why}")


def training_dict(
    ref: JobRef,
    status: JobStatus,
    fingerprint: str,
    artifact: Artifact | None = None,
    metrics: dict[str, float] | None = None,
) -> TrainingDict:
    """The XCom."""
    return {
        "job": ref.name,
        "arn": ref.id,
        "status": str(status.state),
        "artifact": None if artifact is None else artifact.to_dict(),
        "metrics": metrics or {},
        "inputs": list(status.inputs),
        "billable_seconds": status.billable_seconds,
        "saved_seconds": status.saved_seconds,
        "started": _iso(status.started),
        "ended": _iso(status.ended),
        "spec_fingerprint": fingerprint,
    }


def bill(status: JobStatus) -> str:
    """What was billed, for the log."""
    said = f"{status.billable_seconds} instance seconds billed"
    if not status.spot or status.billed is None or not status.trained:
        return said
    saved = 1 - status.billed / status.trained
    return f"{said}, {saved:.0%} saved by spot"


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()
