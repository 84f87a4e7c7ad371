"""A training cloud in memory with a clock of its own: what the lifecycle's tests run against."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from hybrid_provider.artifacts.artifact import Artifact
from hybrid_provider.exceptions import ArtifactNotFound
from hybrid_provider.training.backend import (
    FailureClass,
    FoundJob,
    JobRef,
    JobState,
    JobStatus,
    LogCursor,
    LogLine,
    NameTaken,
    StopCause,
)

if TYPE_CHECKING:
    from hybrid_provider.training.spec import TrainingSpec

BEGINNING = datetime(2026, 11, 23, 18, 0, tzinfo=UTC)


class Clock:
    """Time that passes when it is told to."""

    def __init__(self):
        self.now = BEGINNING

    def __call__(self):
        return self.now

    def advance(self, **span):
        self.now += timedelta(**span)


@dataclass
class Job:
    status: JobStatus
    tags: dict[str, str]
    spec: TrainingSpec
    lines: list[LogLine] = field(default_factory=list)
    has_artifact: bool = True


class Cloud:
    """A :class:`TrainingBackend`, and what a test does to it."""

    def __init__(self, clock):
        self.clock = clock
        self.jobs: dict[str, Job] = {}
        self.cancelled: list[str] = []
        self.failures: list[Exception] = []

    # What the lifecycle calls.

    def faults(self, spec, max_billable=None):
        return ()

    def submit(self, spec, name, tags):
        self._fail_if_told_to()
        if name in self.jobs:
            raise NameTaken(name)
        status = JobStatus(
            state=JobState.IN_PROGRESS,
            phase="Training",
            message="Training in progress",
            created=self.clock(),
            started=self.clock(),
        )
        self.jobs[name] = Job(status, dict(tags), spec)
        return JobRef(name, f"id-of-{name}")

    def find(self, name):
        self._fail_if_told_to()
        job = self.jobs.get(name)
        return None if job is None else FoundJob(JobRef(name, f"id-of-{name}"), job.status, job.tags)

    def status(self, ref):
        self._fail_if_told_to()
        return self.jobs[ref.name].status

    def cancel(self, ref):
        self._fail_if_told_to()
        self.cancelled.append(ref.name)
        job = self.jobs.get(ref.name)
        if job is not None and not job.status.state.terminal:
            job.status = replace(job.status, state=JobState.STOPPING, phase="Stopping")

    def logs(self, ref, cursor):
        lines = self.jobs[ref.name].lines
        read = cursor.get("all", [0])[0]
        return tuple(lines[read:]), LogCursor({"all": [len(lines)]})

    def last_lines(self, ref, count):
        return tuple(self.jobs[ref.name].lines[-count:])

    def artifact(self, ref):
        if not self.jobs[ref.name].has_artifact:
            raise ArtifactNotFound("nothing there")
        return Artifact(
            uri=f"s3://bucket/{ref.name}/output/model.tar.gz",
            size_bytes=1,
            etag=ref.name,
            version_id=None,
            last_modified=self.clock(),
        )

    def metrics(self, ref):
        return {"accuracy": 0.9}

    def _fail_if_told_to(self):
        if self.failures:
            raise self.failures.pop(0)

    # What a test does.

    @property
    def running(self):
        return [name for name, job in self.jobs.items() if not job.status.state.terminal]

    def end(self, name, state=JobState.COMPLETED, *, artifact=None, **changes):
        job = self.jobs[name]
        if state is JobState.FAILED:
            changes.setdefault("failure", FailureClass.SCRIPT)
            changes.setdefault("reason", "AlgorithmError: boom")
        if state is JobState.STOPPED:
            changes.setdefault("stop_cause", StopCause.ASKED)
        job.has_artifact = state is JobState.COMPLETED if artifact is None else artifact
        job.status = replace(
            job.status,
            state=state,
            phase=str(state),
            ended=self.clock(),
            billed=timedelta(seconds=60),
            **changes,
        )

    def say(self, name, *texts, host="algo-1"):
        self.jobs[name].lines += [LogLine(host, self.clock(), text) for text in texts]


class Store(dict):
    """A task's state store."""

    def set(self, key, value):
        self[key] = value
