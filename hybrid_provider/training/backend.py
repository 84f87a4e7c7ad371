"""What a cloud must be able to do for :mod:`hybrid_provider.training.lifecycle`, and the words for it.

A backend holds no state of its own: everything it is asked is answered by the cloud, freshly.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, NewType, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime, timedelta

    from hybrid_provider.artifacts.artifact import Artifact
    from hybrid_provider.training.spec import TrainingSpec

LogCursor = NewType("LogCursor", dict[str, list[int]])
"""How far a job's log was read, as JSON; a backend makes it and reads it, everyone else keeps it."""


class NameTaken(Exception):
    """A job of this name exists already."""


class JobState(StrEnum):
    """Where a job stands."""

    IN_PROGRESS = "InProgress"
    STOPPING = "Stopping"
    COMPLETED = "Completed"
    FAILED = "Failed"
    STOPPED = "Stopped"

    @property
    def terminal(self) -> bool:
        """Nothing follows, and nothing is billed any more."""
        return self in {JobState.COMPLETED, JobState.FAILED, JobState.STOPPED}


class FailureClass(StrEnum):
    """Whose turn it is after a job failed."""

    SCRIPT = "script"
    """The training script or its data; the same job fails again."""
    REQUEST = "request"
    """What was asked for: permissions, the image, the inputs; the same job fails again."""
    CAPACITY = "capacity"
    """No instances of this type now."""
    CLOUD = "cloud"
    """The cloud's own fault."""


class StopCause(StrEnum):
    """Why a job was stopped."""

    ASKED = "asked"
    """Somebody stopped it."""
    MAX_RUNTIME = "max_runtime"
    MAX_WAIT = "max_wait"
    INTERRUPTED = "interrupted"
    """The spot market took the instances back."""


@dataclass(frozen=True, slots=True)
class JobRef:
    """One job: its name, and what the cloud calls it (SageMaker's ARN)."""

    name: str
    id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class JobStatus:
    """One fresh look at a job.

    Attributes:
        state: Where it stands.
        phase: The cloud's finer word for it (``Downloading``, ``Training``).
        message: The cloud's sentence about the phase.
        created: When the cloud took the request; timezone-aware, by the cloud's clock.
        started: When instances began to be billed.
        ended: When everything, the upload included, was over.
        failure: Set if the job failed.
        stop_cause: Set if the job was stopped.
        reason: The cloud's reason for a failure.
        instance_count: How many instances are billed at once.
        billed: Per instance; None until the cloud knows it.
        trained: Wall-clock time on the instances; with spot more than ``billed``.
        spot: Whether it runs on spare capacity.
        inputs: The URIs of the data that it was given.
    """

    state: JobState
    phase: str
    message: str
    created: datetime
    started: datetime | None = None
    ended: datetime | None = None
    failure: FailureClass | None = None
    stop_cause: StopCause | None = None
    reason: str | None = None
    instance_count: int = 1
    billed: timedelta | None = None
    trained: timedelta | None = None
    spot: bool = False
    inputs: tuple[str, ...] = ()

    @property
    def billable_seconds(self) -> int:
        """Seconds billed over all instances; 0 until the cloud knows it."""
        return 0 if self.billed is None else int(self.billed.total_seconds()) * self.instance_count

    @property
    def saved_seconds(self) -> int:
        """Seconds over all instances that spot spared; 0 without it, and until the cloud knows."""
        if not self.spot or self.billed is None or self.trained is None:
            return 0
        return int((self.trained - self.billed).total_seconds()) * self.instance_count


@dataclass(frozen=True, slots=True)
class FoundJob:
    """A job that exists under a name, whoever started it."""

    ref: JobRef
    status: JobStatus
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line of one host of a job."""

    host: str
    at: datetime
    text: str


class TrainingBackend(Protocol):
    """Training jobs of one account in one region.

    Every method may raise ``CloudUnavailable`` (try again), ``TrainingRefused`` (as it stands, never) and
    ``ConfigurationError`` (credentials).
    """

    def faults(self, spec: TrainingSpec, max_billable: timedelta | None = None) -> tuple[str, ...]:
        """What the cloud would refuse in ``spec``, each as ``argument: what is wrong``; calls nothing.

        Args:
            spec: What is to be trained.
            max_billable: More instance time than this is a fault as well.
        """

    def submit(self, spec: TrainingSpec, name: str, tags: Mapping[str, str]) -> JobRef:
        """Start a job; raises NameTaken."""

    def find(self, name: str) -> FoundJob | None:
        """The job of this name, if there is one."""

    def status(self, ref: JobRef) -> JobStatus:
        """A fresh look."""

    def cancel(self, ref: JobRef) -> None:
        """Ask the job to stop; nothing happens if it has ended, is stopping or does not exist."""

    def logs(self, ref: JobRef, cursor: LogCursor) -> tuple[tuple[LogLine, ...], LogCursor]:
        """The lines of all hosts after ``cursor``, and the cursor after them."""

    def last_lines(self, ref: JobRef, count: int) -> tuple[LogLine, ...]:
        """The last lines of all hosts together, for an error's message."""

    def artifact(self, ref: JobRef) -> Artifact:
        """What an ended job left, proved to be there; raises ArtifactNotFound."""

    def metrics(self, ref: JobRef) -> Mapping[str, float]:
        """The final value of each metric."""
