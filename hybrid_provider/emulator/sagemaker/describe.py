"""A job as DescribeTrainingJob and ListTrainingJobs answer it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from hybrid_provider.emulator.sagemaker.job import TrainingJob

# A spot instance costs about a third; the rest is what the service shows as saved.
SPOT_BILLED_SHARE: Final = 0.3
# What a request may have and a description never shows.
NOT_ECHOED: Final = frozenset({"Tags", "SessionChainingConfig"})


def billable_seconds(job: TrainingJob) -> int | None:
    """BillableTimeInSeconds: per instance; with spot, the share that is charged."""
    if job.training_time is None:
        return None
    seconds = job.training_time.total_seconds()
    if job.spot:
        seconds *= SPOT_BILLED_SHARE
    return max(1, round(seconds))


def description(job: TrainingJob) -> dict[str, Any]:
    """The reply of DescribeTrainingJob."""
    with job.lock:
        training_time = job.training_time
        reply: dict[str, Any] = {
            **{name: value for name, value in job.request.items() if name not in NOT_ECHOED},
            "TrainingJobArn": job.arn,
            "TrainingJobStatus": str(job.status),
            "SecondaryStatus": str(job.secondary),
            "SecondaryStatusTransitions": [
                {
                    "Status": str(transition.secondary),
                    "StartTime": transition.started,
                    "EndTime": transition.ended,
                    "StatusMessage": transition.message,
                }
                for transition in job.transitions
            ],
            "CreationTime": job.created,
            "LastModifiedTime": job.modified,
            "TrainingStartTime": job.started,
            "TrainingEndTime": job.ended,
            "FailureReason": job.failure_reason,
            "TrainingTimeInSeconds": None if training_time is None else int(training_time.total_seconds()),
            "BillableTimeInSeconds": billable_seconds(job),
            "FinalMetricDataList": [
                {"MetricName": metric.name, "Value": metric.value, "Timestamp": metric.at}
                for metric in job.metrics
            ]
            or None,
        }
        if job.artifact_uri is not None:
            reply["ModelArtifacts"] = {"S3ModelArtifacts": job.artifact_uri}
        for flag in (
            "EnableNetworkIsolation",
            "EnableInterContainerTrafficEncryption",
            "EnableManagedSpotTraining",
        ):
            reply.setdefault(flag, False)
        return reply


def summary(job: TrainingJob) -> dict[str, Any]:
    """One entry of ListTrainingJobs."""
    with job.lock:
        return {
            "TrainingJobName": job.name,
            "TrainingJobArn": job.arn,
            "CreationTime": job.created,
            "TrainingEndTime": job.ended,
            "LastModifiedTime": job.modified,
            "TrainingJobStatus": str(job.status),
            "SecondaryStatus": str(job.secondary),
        }
