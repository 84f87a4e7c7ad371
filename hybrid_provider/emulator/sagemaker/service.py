"""The operations of the training service, on values that :mod:`shapes` has read."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from hybrid_provider.emulator.sagemaker.describe import description
from hybrid_provider.emulator.sagemaker.errors import ResourceInUse, ValidationException
from hybrid_provider.emulator.sagemaker.job import Secondary, Status, TrainingJob
from hybrid_provider.emulator.sagemaker.ledger import Ledger
from hybrid_provider.emulator.sagemaker.life import live
from hybrid_provider.emulator.sagemaker.listing import page_of_jobs

if TYPE_CHECKING:
    from hybrid_provider.emulator.sagemaker.life import World

ACCOUNT: Final = "123456789012"


class TrainingService:
    """All jobs of one emulated account in one region.

    Each public method is the operation of its name: it takes the request and returns the reply, both as the
    service model has them, and raises :class:`ServiceError`.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self._jobs: dict[str, TrainingJob] = {}
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()
        self.ledger = Ledger(lambda: list(self._jobs.values()))

    def create_training_job(self, request: dict[str, Any]) -> dict[str, Any]:
        """CreateTrainingJob."""
        name = request["TrainingJobName"]
        now = datetime.now(UTC)
        arn = f"arn:aws:sagemaker:{self._world.aws['AWS_DEFAULT_REGION']}:{ACCOUNT}:training-job/{name}"
        job = TrainingJob(request=request, arn=arn, created=now, modified=now)
        job.tags = {tag["Key"]: tag["Value"] for tag in request.get("Tags", ())}
        job.enter(Secondary.STARTING, "Starting the training job")
        with self._lock:
            if name in self._jobs:
                raise ResourceInUse(
                    "Training job names must be unique within an AWS account and region, and a training job "
                    f"with this name already exists ({arn})"
                )
            self._jobs[name] = job
            thread = threading.Thread(target=live, args=(job, self._world), name=f"job {name}", daemon=True)
            self._threads.append(thread)
        thread.start()
        return {"TrainingJobArn": arn}

    def describe_training_job(self, request: dict[str, Any]) -> dict[str, Any]:
        """DescribeTrainingJob."""
        return description(self._job(request["TrainingJobName"]))

    def stop_training_job(self, request: dict[str, Any]) -> dict[str, Any]:
        """StopTrainingJob."""
        job = self._job(request["TrainingJobName"])
        with job.lock:
            if job.status.terminal:
                raise ValidationException(
                    f"The request was rejected because the training job is in status {job.status}."
                )
            if not job.stop_requested.is_set():
                job.enter(Secondary.STOPPING, "Stopping the training job", status=Status.STOPPING)
                job.stop_requested.set()
        return {}

    def list_training_jobs(self, request: dict[str, Any]) -> dict[str, Any]:
        """ListTrainingJobs."""
        return page_of_jobs(list(self._jobs.values()), request)

    def stop_all(self) -> None:
        """End all jobs, without grace, and wait for their threads."""
        for job in list(self._jobs.values()):
            with job.lock:
                job.stop_requested.set()
        for thread in self._threads:
            thread.join(10)

    def _job(self, name: str) -> TrainingJob:
        try:
            return self._jobs[name]
        except KeyError:
            raise ValidationException("Requested resource not found.") from None
