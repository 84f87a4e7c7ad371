"""What DescribeTrainingJob answers, read into the words of every cloud."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from hybrid_provider.training.backend import FailureClass, JobState, JobStatus, StopCause

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

_STOP_CAUSES: Final = {
    "MaxRuntimeExceeded": StopCause.MAX_RUNTIME,
    "MaxWaitTimeExceeded": StopCause.MAX_WAIT,
    "Interrupted": StopCause.INTERRUPTED,
}
_FAILURES: Final = (
    (re.compile(r"\s*AlgorithmError"), FailureClass.SCRIPT),
    (re.compile(r"\s*(Insufficient)?Capacity|.*insufficient capacity", re.IGNORECASE), FailureClass.CAPACITY),
    (re.compile(r"\s*(InternalServerError|InternalError)"), FailureClass.CLOUD),
    (re.compile(r"\s*ClientError"), FailureClass.REQUEST),
)  # fmt: skip


def job_status(description: Mapping[str, Any]) -> JobStatus:
    """One look at a job."""
    state = JobState(description["TrainingJobStatus"])
    secondary = description["SecondaryStatus"]
    transitions = description.get("SecondaryStatusTransitions") or [{}]
    reason = description.get("FailureReason")
    # A job that was stopped before its instances came has no start, and no end of training either.
    last = description["LastModifiedTime"] if state.terminal else None
    ended = description.get("TrainingEndTime") or last
    return JobStatus(
        state=state,
        phase=secondary,
        message=transitions[-1].get("StatusMessage") or "",
        created=description["CreationTime"],
        started=description.get("TrainingStartTime"),
        ended=ended,
        failure=failure_class(reason) if state is JobState.FAILED else None,
        stop_cause=_STOP_CAUSES.get(secondary, StopCause.ASKED) if state is JobState.STOPPED else None,
        reason=reason,
        instance_count=_instances(description.get("ResourceConfig") or {}),
        billed=_duration(description.get("BillableTimeInSeconds")),
        trained=_duration(description.get("TrainingTimeInSeconds")),
        spot=bool(description.get("EnableManagedSpotTraining")),
        inputs=tuple(_input_uris(description.get("InputDataConfig") or ())),
    )


def failure_class(reason: str | None) -> FailureClass:
    """Whose turn it is, by the beginning that SageMaker gives each FailureReason.

    An unknown reason is the request's: a retry that costs as much as the job needs a reason to help.
    """
    for pattern, failure in _FAILURES:
        if pattern.match(reason or ""):
            return failure
    return FailureClass.REQUEST


def _input_uris(channels: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    for channel in channels:
        source = channel.get("DataSource") or {}
        s3, files = source.get("S3DataSource"), source.get("FileSystemDataSource")
        if s3:
            yield s3["S3Uri"]
        elif files:
            yield f"{files['FileSystemType'].lower()}://{files['FileSystemId']}{files['DirectoryPath']}"


def _instances(resources: Mapping[str, Any]) -> int:
    groups = resources.get("InstanceGroups") or ()
    count = sum(group["InstanceCount"] for group in groups) or resources.get("InstanceCount") or 1
    return int(count)


def _duration(seconds: int | None) -> timedelta | None:
    return None if seconds is None else timedelta(seconds=seconds)
