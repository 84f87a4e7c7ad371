"""The operations of the training service, on values that :mod:`shapes` has read."""

from __future__ import annotations

import copy
import threading
from collections import Counter
from typing import TYPE_CHECKING, Any

from hybrid_provider.emulator.sagemaker.describe import description
from hybrid_provider.emulator.sagemaker.errors import ResourceInUse, ServiceError, ValidationException
from hybrid_provider.emulator.sagemaker.job import Secondary, TrainingJob, now
from hybrid_provider.emulator.sagemaker.ledger import Ledger
from hybrid_provider.emulator.sagemaker.life import live
from hybrid_provider.emulator.sagemaker.listing import page_of_jobs
from hybrid_provider.emulator.sagemaker.refusals import (
    MAX_TAGS,
    refuse_bad_request,
    refuse_bad_tags,
    refuse_over_quota,
    refuse_without_means,
)
from hybrid_provider.emulator.sagemaker.trouble import Trouble

if TYPE_CHECKING:
    from hybrid_provider.emulator.sagemaker.life import World


class TrainingService:
    """All jobs of one emulated account in one region.

    Each public method with a request is the operation of its name: it takes the request and returns the
    reply, both as the service model has them, and raises a ``ServiceError``.

    Args:
        world: What the jobs share.
        instance_quota: How many instances of one type may run at once.
    """

    def __init__(self, world: World, *, instance_quota: int) -> None:
        self._world = world
        self._quota = instance_quota
        self._jobs: dict[str, TrainingJob] = {}
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()
        self._calls: Counter[str] = Counter()
        self.ledger = Ledger(self._all, self._calls)
        self.trouble = Trouble(self._wake_all)

    def count_call(self, operation: str) -> None:
        """Write a call into the ledger."""
        with self._lock:
            self._calls[operation] += 1

    def create_training_job(self, request: dict[str, Any]) -> dict[str, Any]:
        """CreateTrainingJob: refuse it, or start it."""
        refuse_bad_request(request)
        self._refuse_taken(request["TrainingJobName"])
        refuse_without_means(request, self._world)
        job = self._new_job(request)
        thread = threading.Thread(
            target=live, args=(job, self._world, self.trouble), name=f"job {job.name}", daemon=True
        )
        with self._lock:
            if self._world.closing.is_set():
                # Nobody would stop it, and whoever ends the emulator would wait for it.
                raise ServiceError("the emulator is ending")
            # Two requests at once may both have come so far; one of them wins.
            self._refuse_taken(job.name)
            refuse_over_quota(request, self._jobs.values(), self._quota)
            self._jobs[job.name] = job
            self._threads.append(thread)
            thread.start()
        return {"TrainingJobArn": job.arn}

    def describe_training_job(self, request: dict[str, Any]) -> dict[str, Any]:
        """DescribeTrainingJob."""
        return description(self._job(request["TrainingJobName"]))

    def stop_training_job(self, request: dict[str, Any]) -> dict[str, Any]:
        """StopTrainingJob; a second one of a job that is stopping is accepted."""
        job = self._job(request["TrainingJobName"])
        with job.lock:
            if job.status.terminal:
                raise ValidationException(
                    f"The request was rejected because the training job is in status {job.status}."
                )
            job.request_stop()
        return {}

    def list_training_jobs(self, request: dict[str, Any]) -> dict[str, Any]:
        """ListTrainingJobs."""
        return page_of_jobs(self._all(), request)

    def list_tags(self, request: dict[str, Any]) -> dict[str, Any]:
        """ListTags; all on one page, as a job has at most 50."""
        job = self._tagged(request["ResourceArn"])
        with job.lock:
            return {"Tags": [{"Key": key, "Value": value} for key, value in job.tags.items()]}

    def add_tags(self, request: dict[str, Any]) -> dict[str, Any]:
        """AddTags; a key that is there gets the new value."""
        job = self._tagged(request["ResourceArn"])
        refuse_bad_tags(request["Tags"])
        with job.lock:
            tags = {**job.tags, **{tag["Key"]: tag["Value"] for tag in request["Tags"]}}
            if len(tags) > MAX_TAGS:
                raise ValidationException(
                    f"{job.arn} would have {len(tags)} tags; a resource can have at most {MAX_TAGS}"
                )
            job.tags = tags
        return {"Tags": request["Tags"]}

    def delete_tags(self, request: dict[str, Any]) -> dict[str, Any]:
        """DeleteTags; keys that are not there are ignored."""
        job = self._tagged(request["ResourceArn"])
        with job.lock:
            job.tags = {key: value for key, value in job.tags.items() if key not in request["TagKeys"]}
        return {}

    def close(self) -> None:
        """End all jobs, giving them no time, and wait for their threads."""
        with self._lock:
            self._world.closing.set()
        for job in self._all():
            job.request_stop()
        for thread in self._threads:
            thread.join()

    def _new_job(self, request: dict[str, Any]) -> TrainingJob:
        created = now()
        region = self._world.aws["AWS_DEFAULT_REGION"]
        job = TrainingJob(
            request=_with_defaults(request),
            arn=f"arn:aws:sagemaker:{region}:{self._world.account}:training-job/{request['TrainingJobName']}",
            created=created,
            modified=created,
            tags={tag["Key"]: tag["Value"] for tag in request.get("Tags", ())},
        )
        job.enter(Secondary.STARTING, "Starting the training job")
        return job

    def _refuse_taken(self, name: str) -> None:
        if name in self._jobs:
            raise ResourceInUse(
                "Training job names must be unique within an AWS account and region, and a training job "
                f"with this name already exists ({self._jobs[name].arn})"
            )

    def _wake_all(self) -> None:
        for job in self._all():
            job.wake.set()

    def _all(self) -> list[TrainingJob]:
        with self._lock:
            return list(self._jobs.values())

    def _job(self, name: str) -> TrainingJob:
        try:
            return self._jobs[name]
        except KeyError:
            raise ValidationException("Requested resource not found.") from None

    def _tagged(self, arn: str) -> TrainingJob:
        for job in self._all():
            if job.arn == arn:
                return job
        raise ValidationException(f"Requested resource not found: {arn}")


def _with_defaults(request: dict[str, Any]) -> dict[str, Any]:
    """The request as Describe shows it: with the service's defaults."""
    full = copy.deepcopy(request)
    full["StoppingCondition"].setdefault("MaxRuntimeInSeconds", 86400)
    full["OutputDataConfig"].setdefault("KmsKeyId", "")
    full["OutputDataConfig"].setdefault("CompressionType", "GZIP")
    for channel in full.get("InputDataConfig", ()):
        channel.setdefault("CompressionType", "None")
        channel.setdefault("RecordWrapperType", "None")
        channel["DataSource"]["S3DataSource"].setdefault("S3DataDistributionType", "FullyReplicated")
    return full
