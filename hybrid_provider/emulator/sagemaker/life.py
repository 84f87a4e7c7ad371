"""The life of one training job, from Starting to its end, in a thread of its own."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field
from enum import Enum, auto
from threading import Event
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from hybrid_provider.emulator.sagemaker import storage
from hybrid_provider.emulator.sagemaker.cluster import Cluster
from hybrid_provider.emulator.sagemaker.container import Container
from hybrid_provider.emulator.sagemaker.failure import failure_reason
from hybrid_provider.emulator.sagemaker.job import Secondary, Status, now
from hybrid_provider.emulator.sagemaker.metrics import MetricReader

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import timedelta
    from pathlib import Path

    from hybrid_provider.emulator.sagemaker.container import Runner
    from hybrid_provider.emulator.sagemaker.job import TrainingJob
    from hybrid_provider.emulator.sagemaker.trouble import Trouble

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class World:
    """What all jobs share.

    Attributes:
        account: The account's twelve digits.
        folder: Holds one folder for each job.
        aws: Credentials, region and endpoints for AWS clients in a container.
        s3: A boto3 client.
        logs: A boto3 client.
        iam: A boto3 client.
        runner_for: Gives the runner for an image.
        stop_grace: From SIGTERM to SIGKILL when a job is stopped; SageMaker's is 120 seconds.
        closing: Set when the emulator ends: no job is given time any more.
    """

    account: str
    folder: Path
    aws: Mapping[str, str]
    s3: Any
    logs: Any
    iam: Any
    runner_for: Callable[[str], Runner]
    stop_grace: timedelta
    closing: Event = field(default_factory=Event)


class JobFailed(Exception):
    """The job ends as Failed; the message is its FailureReason."""


class _Cause(Enum):
    """Why the containers ended."""

    BY_THEMSELVES = auto()
    STOPPED = auto()
    TIMED_OUT = auto()
    WAITED_OUT = auto()
    INTERRUPTED = auto()
    """Their spot instances were taken back."""


def live(job: TrainingJob, world: World, trouble: Trouble) -> None:
    """Run the job to its end; whatever goes wrong becomes its FailureReason."""
    try:
        _train(job, world, trouble)
    except JobFailed as failure:
        _fail(job, str(failure))
    except Exception as error:  # noqa: BLE001 - nobody is above a thread; a job must end all the same
        if not world.closing.is_set():
            _log.exception("training job %s", job.name)
        _fail(job, f"InternalServerError: We encountered an internal error: {error}")


def _train(job: TrainingJob, world: World, trouble: Trouble) -> None:
    containers = [
        Container(job, host, world.folder / job.name / host / "opt" / "ml", world.aws) for host in job.hosts
    ]
    ran = 0.0
    cause = _Cause.INTERRUPTED
    while cause is _Cause.INTERRUPTED:
        if not _bring_up(job, containers, world, trouble):
            return
        began = time.monotonic()
        cause = _run(job, containers, world, trouble, deadline=began + job.max_runtime.total_seconds() - ran)
        ran += time.monotonic() - began
        if cause is _Cause.INTERRUPTED:
            job.enter(Secondary.INTERRUPTED, "Training job interrupted: the spot instances were taken back")
    if world.closing.is_set():
        return
    _upload(job, containers, world)
    _finish(job, cause)


def _bring_up(job: TrainingJob, containers: list[Container], world: World, trouble: Trouble) -> bool:
    """Go all the way to Training; False if the job has ended on it."""
    job.enter(Secondary.STARTING, "Launching requested ML instances")
    if _ended_while_waiting(job, trouble):
        return False
    for secondary, message in (
        (Secondary.PENDING, "Preparing the instances for training"),
        (Secondary.DOWNLOADING, "Downloading input data"),
    ):
        if _stopped_early(job):
            return False
        job.enter(secondary, message)
    _download(job, containers, world)
    job.enter(Secondary.DOWNLOADING, "Downloading the training image")
    if _stopped_early(job):
        return False
    job.enter(Secondary.TRAINING, "Training image download completed. Training in progress.")
    return True


def _ended_while_waiting(job: TrainingJob, trouble: Trouble) -> bool:
    """Wait for spot instances; a job that has waited too long for them has no artifact."""
    while job.spot and not trouble.spot_instances and not job.stop_requested.is_set():
        if now() >= job.wait_ends:
            _wait_over(job)
            return True
        _wait_for(job.wake, _when_wait_ends(job))
    return False


def _stopped_early(job: TrainingJob) -> bool:
    """A job that is stopped before its containers run has no artifact."""
    if job.stop_requested.is_set():
        job.enter(Secondary.STOPPED, "Training job stopped", status=Status.STOPPED)
    return job.stop_requested.is_set()


def _download(job: TrainingJob, containers: list[Container], world: World) -> None:
    checkpoints = job.request.get("CheckpointConfig", {}).get("S3Uri")
    with job.lock:
        # After an interruption it goes on.
        job.started = job.started or now()
    for container in containers:
        container.prepare()
        try:
            if checkpoints is not None:
                uri = f"{checkpoints.rstrip('/')}/"
                storage.download_channel(world.s3, uri, container.checkpoint_folder)
            for channel in job.request.get("InputDataConfig", ()):
                uri = channel["DataSource"]["S3DataSource"]["S3Uri"]
                storage.download_channel(world.s3, uri, container.channel_folder(channel["ChannelName"]))
        except (ClientError, BotoCoreError) as error:
            raise JobFailed(f"ClientError: Data download failed:{error}") from error


def _run(
    job: TrainingJob, containers: list[Container], world: World, trouble: Trouble, deadline: float
) -> _Cause:
    """Run the containers to their end, and bring their checkpoints to S3.

    The service keeps checkpoints in step all the time; that is not emulated.

    Raises:
        JobFailed: One of them failed by itself.
    """
    image = job.request["AlgorithmSpecification"].get("TrainingImage", "")
    metrics = MetricReader(job.request["AlgorithmSpecification"].get("MetricDefinitions", ()))
    try:
        cluster = Cluster(containers, world.runner_for(image), world.logs, metrics.read, job.wake.set)
    except OSError as error:
        raise JobFailed(f"AlgorithmError: the container's entry point does not start: {error}") from error
    try:
        cause = _wait(job, cluster, trouble, deadline)
        if cause is not _Cause.BY_THEMSELVES:
            _stop(job, cluster, world)
    finally:
        cluster.end()
        cluster.join()
        with job.lock:
            job.metrics = metrics.found()
    _keep_checkpoints(job, containers, world)
    failed = cluster.failed()
    if failed is not None and cause is _Cause.BY_THEMSELVES:
        container = next(container for container in containers if container.host == failed.host)
        raise JobFailed(failure_reason(container.failure(), failed.status, failed.last_lines))
    return cause


def _keep_checkpoints(job: TrainingJob, containers: list[Container], world: World) -> None:
    uri = job.request.get("CheckpointConfig", {}).get("S3Uri")
    if uri is None or world.closing.is_set():
        return
    try:
        for container in containers:
            storage.upload_checkpoints(world.s3, container.checkpoint_folder, uri)
    except (ClientError, BotoCoreError, storage.UploadFailed) as error:
        raise JobFailed(f"ClientError: Checkpoint upload failed:{error}") from error


def _wait(job: TrainingJob, cluster: Cluster, trouble: Trouble, deadline: float) -> _Cause:
    """Return when the containers are over, or must be stopped."""
    while not cluster.over():
        wait_ends = _when_wait_ends(job)
        if job.stop_requested.is_set():
            return _Cause.STOPPED
        if time.monotonic() >= min(deadline, wait_ends):
            job.enter(Secondary.STOPPING, "Stopping the training job: its time is up", status=Status.STOPPING)
            return _Cause.TIMED_OUT if time.monotonic() >= deadline else _Cause.WAITED_OUT
        if job.spot and not trouble.spot_instances:
            return _Cause.INTERRUPTED
        _wait_for(job.wake, min(deadline, wait_ends))
    return _Cause.BY_THEMSELVES


def _when_wait_ends(job: TrainingJob) -> float:
    """MaxWaitTimeInSeconds on the monotonic clock."""
    return time.monotonic() + (job.wait_ends - now()).total_seconds() if job.spot else float("inf")


def _stop(job: TrainingJob, cluster: Cluster, world: World) -> None:
    """Give the containers their grace; the caller ends what is left."""
    cluster.terminate()
    deadline = time.monotonic() + world.stop_grace.total_seconds()
    while not cluster.over() and not world.closing.is_set() and time.monotonic() < deadline:
        _wait_for(job.wake, deadline)


def _wait_for(wake: Event, deadline: float) -> None:
    wake.wait(max(0.0, deadline - time.monotonic()))
    wake.clear()


def _upload(job: TrainingJob, containers: list[Container], world: World) -> None:
    job.enter(Secondary.UPLOADING, "Uploading generated training model")
    try:
        uri = storage.upload_model(
            world.s3, [container.model_folder for container in containers], job.request
        )
        storage.upload_output(world.s3, [container.output_folder for container in containers], job.request)
    except (ClientError, BotoCoreError, storage.UploadFailed) as error:
        raise JobFailed(f"ClientError: Artifact upload failed:{error}") from error
    with job.lock:
        job.artifact_uri = uri


def _finish(job: TrainingJob, cause: _Cause) -> None:
    # Under the lock, a stop is either seen here or refused: the job is then over.
    with job.lock:
        if cause is _Cause.TIMED_OUT:
            job.enter(
                Secondary.MAX_RUNTIME_EXCEEDED,
                "Training job runtime exceeded MaxRuntimeInSeconds provided",
                status=Status.STOPPED,
            )
        elif cause is _Cause.WAITED_OUT:
            _wait_over(job)
        elif job.stop_requested.is_set():
            job.enter(Secondary.STOPPED, "Training job stopped", status=Status.STOPPED)
        else:
            job.enter(Secondary.COMPLETED, "Training job completed", status=Status.COMPLETED)


def _wait_over(job: TrainingJob) -> None:
    message = "Training job wait time exceeded MaxWaitTimeInSeconds provided"
    job.enter(Secondary.MAX_WAIT_TIME_EXCEEDED, message, status=Status.STOPPED)


def _fail(job: TrainingJob, reason: str) -> None:
    with job.lock:
        job.failure_reason = reason
        job.enter(Secondary.FAILED, "Training job failed", status=Status.FAILED)
