"""The life of one training job, from Starting to its end, in a thread of its own."""

from __future__ import annotations

import logging
import re
import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from hybrid_provider.emulator.sagemaker import storage
from hybrid_provider.emulator.sagemaker.container import Container
from hybrid_provider.emulator.sagemaker.job import Metric, Secondary, Status
from hybrid_provider.emulator.sagemaker.logs import LogStream, follow

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import timedelta
    from pathlib import Path

    from hybrid_provider.emulator.sagemaker.container import Running
    from hybrid_provider.emulator.sagemaker.job import TrainingJob

_log = logging.getLogger(__name__)
_POLL_SECONDS: Final = 0.05


@dataclass(frozen=True, kw_only=True)
class World:
    """What all jobs share.

    Attributes:
        folder: Holds one folder for each job.
        aws: Credentials, region and endpoints for AWS clients in a container.
        s3: A boto3 client.
        logs: A boto3 client.
        runner: Gives the runner for an image.
        stop_grace: From SIGTERM to SIGKILL when a job is stopped; SageMaker's is 120 seconds.
    """

    folder: Path
    aws: Mapping[str, str]
    s3: Any
    logs: Any
    runner: Callable[[str], Callable[[Container], Running]]
    stop_grace: timedelta


def live(job: TrainingJob, world: World) -> None:
    """Run the job to its end; whatever goes wrong becomes its FailureReason."""
    try:
        _train(job, world)
    except Exception as error:  # noqa: BLE001 - nobody is above a thread; a job must end all the same
        _log.exception("training job %s", job.name)
        _fail(job, f"InternalServerError: {error}")


def _train(job: TrainingJob, world: World) -> None:
    container = Container(job.request, job.arn, world.folder / job.name / "opt" / "ml", world.aws)
    job.enter(Secondary.PENDING, "Preparing the instances for training")
    if _stopped_early(job):
        return
    job.started = datetime.now(UTC)
    job.enter(Secondary.DOWNLOADING, "Downloading input data")
    container.prepare()
    for channel in job.request.get("InputDataConfig", ()):
        source = channel["DataSource"].get("S3DataSource")
        if source:
            storage.download_channel(
                world.s3, source["S3Uri"], container.channel_folder(channel["ChannelName"])
            )
    job.enter(Secondary.DOWNLOADING, "Downloading the training image")
    if _stopped_early(job):
        return
    job.enter(Secondary.TRAINING, "Training image download completed. Training in progress.")
    end = _run(job, container, world)
    _finish(job, container, world, end)


@dataclass(frozen=True)
class _End:
    """How the container ended."""

    status: int
    timed_out: bool


def _run(job: TrainingJob, container: Container, world: World) -> _End:
    image = job.request["AlgorithmSpecification"].get("TrainingImage", "")
    running = world.runner(image)(container)
    stream = LogStream(world.logs, f"{job.name}/algo-1-{int(time.time())}")
    metrics = _MetricReader(job.request["AlgorithmSpecification"].get("MetricDefinitions", ()))
    follower = threading.Thread(target=follow, args=(running.stdout, stream, metrics.read), daemon=True)
    follower.start()
    seconds = job.request.get("StoppingCondition", {}).get("MaxRuntimeInSeconds", 86400)
    deadline = time.monotonic() + seconds
    timed_out = False
    status = running.wait(_POLL_SECONDS)
    while status is None:
        timed_out = time.monotonic() > deadline
        if timed_out or job.stop_requested.is_set():
            running.terminate()
            status = running.wait(world.stop_grace.total_seconds())
            if status is None:
                status = running.end()
        else:
            status = running.wait(_POLL_SECONDS)
    follower.join()
    running.end()
    with job.lock:
        job.metrics = metrics.found()
    return _End(status, timed_out)


def _finish(job: TrainingJob, container: Container, world: World, end: _End) -> None:
    stopped = job.stop_requested.is_set() or end.timed_out
    if end.status != 0 and not stopped:
        _fail(job, container.failure_reason(end.status))
        return
    job.enter(Secondary.UPLOADING, "Uploading generated training model")
    uri = storage.upload_model(world.s3, container.model_folder, job.request)
    with job.lock:
        job.artifact_uri = uri
    if end.timed_out:
        job.enter(
            Secondary.MAX_RUNTIME_EXCEEDED,
            "Training job runtime exceeded MaxRuntimeInSeconds provided",
            status=Status.STOPPED,
        )
    elif stopped:
        job.enter(Secondary.STOPPED, "Training job stopped", status=Status.STOPPED)
    else:
        job.enter(Secondary.COMPLETED, "Training job completed", status=Status.COMPLETED)


def _stopped_early(job: TrainingJob) -> bool:
    """A job that is stopped before its container runs has no artifact."""
    if not job.stop_requested.is_set():
        return False
    job.enter(Secondary.STOPPED, "Training job stopped", status=Status.STOPPED)
    return True


def _fail(job: TrainingJob, reason: str) -> None:
    with job.lock:
        job.failure_reason = reason
        job.enter(Secondary.FAILED, "Training job failed", status=Status.FAILED)


class _MetricReader:
    """Finds the values of MetricDefinitions in the log; the last one of each counts."""

    def __init__(self, definitions: list[dict[str, str]]) -> None:
        self._patterns = {definition["Name"]: re.compile(definition["Regex"]) for definition in definitions}
        self._found: dict[str, Metric] = {}

    def read(self, line: str) -> None:
        for name, pattern in self._patterns.items():
            match = pattern.search(line)
            if match:
                text = match.group(1) if pattern.groups else match.group(0)
                try:
                    value = float(text)
                except ValueError:
                    continue
                self._found[name] = Metric(name=name, value=value, at=datetime.now(UTC))

    def found(self) -> list[Metric]:
        return list(self._found.values())
