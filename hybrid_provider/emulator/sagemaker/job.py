"""One training job: its request, its state and the record of how it came to it."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Final


def now() -> datetime:
    """This moment in whole milliseconds, as the service has it: what a client reads is what is compared."""
    moment = datetime.now(UTC)
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


class Status(StrEnum):
    """TrainingJobStatus."""

    IN_PROGRESS = "InProgress"
    COMPLETED = "Completed"
    FAILED = "Failed"
    STOPPING = "Stopping"
    STOPPED = "Stopped"

    @property
    def terminal(self) -> bool:
        """Nothing follows it."""
        return self in {Status.COMPLETED, Status.FAILED, Status.STOPPED}


class Secondary(StrEnum):
    """SecondaryStatus."""

    STARTING = "Starting"
    PENDING = "Pending"
    DOWNLOADING = "Downloading"
    TRAINING = "Training"
    UPLOADING = "Uploading"
    COMPLETED = "Completed"
    FAILED = "Failed"
    STOPPING = "Stopping"
    STOPPED = "Stopped"
    MAX_RUNTIME_EXCEEDED = "MaxRuntimeExceeded"
    MAX_WAIT_TIME_EXCEEDED = "MaxWaitTimeExceeded"
    INTERRUPTED = "Interrupted"


_WITHOUT_INSTANCES: Final = frozenset({Secondary.STARTING, Secondary.PENDING, Secondary.INTERRUPTED})


@dataclass(frozen=True, kw_only=True)
class Transition:
    """One entry of SecondaryStatusTransitions."""

    secondary: Secondary
    message: str
    started: datetime
    ended: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class Metric:
    """The last value that a metric's regular expression found in the log."""

    name: str
    value: float
    at: datetime


@dataclass(kw_only=True)
class TrainingJob:
    """A job as the service knows it. Change it under ``lock``; read it under ``lock`` as well.

    Attributes:
        request: The CreateTrainingJob request, with the emulator's defaults filled in.
        stop_requested: It is to be stopped.
        wake: Something has happened that the job's thread must look at.
        finished: It has reached a terminal status.
    """

    request: dict[str, Any]
    arn: str
    created: datetime
    status: Status = Status.IN_PROGRESS
    transitions: list[Transition] = field(default_factory=list)
    failure_reason: str | None = None
    started: datetime | None = None
    ended: datetime | None = None
    modified: datetime
    artifact_uri: str | None = None
    metrics: list[Metric] = field(default_factory=list)
    tags: dict[str, str] = field(default_factory=dict)
    stop_requested: threading.Event = field(default_factory=threading.Event)
    wake: threading.Event = field(default_factory=threading.Event)
    finished: threading.Event = field(default_factory=threading.Event)
    lock: threading.RLock = field(default_factory=threading.RLock)

    @property
    def name(self) -> str:
        """TrainingJobName."""
        return str(self.request["TrainingJobName"])

    @property
    def secondary(self) -> Secondary:
        """SecondaryStatus."""
        return self.transitions[-1].secondary

    @property
    def instance_type(self) -> str:
        """What is billed."""
        return str(self.request["ResourceConfig"]["InstanceType"])

    @property
    def instance_count(self) -> int:
        """How many instances are billed."""
        return int(self.request["ResourceConfig"]["InstanceCount"])

    @property
    def hosts(self) -> list[str]:
        """The instances' names."""
        return [f"algo-{number}" for number in range(1, self.instance_count + 1)]

    @property
    def max_runtime(self) -> timedelta:
        """MaxRuntimeInSeconds; SageMaker's default is a day."""
        return timedelta(seconds=self.request["StoppingCondition"].get("MaxRuntimeInSeconds", 86400))

    @property
    def spot(self) -> bool:
        """Whether its instances may be taken back."""
        return bool(self.request.get("EnableManagedSpotTraining"))

    @property
    def wait_ends(self) -> datetime:
        """With spot, when MaxWaitTimeInSeconds is over."""
        return self.created + timedelta(seconds=self.request["StoppingCondition"]["MaxWaitTimeInSeconds"])

    @property
    def training_time(self) -> timedelta | None:
        """From the start on the instances to the end of the upload, whole seconds, at least one.

        The time between the loss of spot instances and the next ones is left out.
        """
        if self.started is None or self.ended is None:
            return None
        without = [
            (transition.ended or self.ended) - transition.started
            for transition in self.transitions
            if transition.secondary in _WITHOUT_INSTANCES and transition.started >= self.started
        ]
        seconds = (self.ended - self.started - sum(without, timedelta())).total_seconds()
        return timedelta(seconds=max(1, round(seconds)))

    def request_stop(self) -> None:
        """Have the job's thread stop it."""
        with self.lock:
            if not self.status.terminal and not self.stop_requested.is_set():
                self.enter(Secondary.STOPPING, "Stopping the training job", status=Status.STOPPING)
                self.stop_requested.set()
        self.wake.set()

    def enter(self, secondary: Secondary, message: str, *, status: Status | None = None) -> None:
        """Move to a secondary status, and to a status if one is given."""
        with self.lock:
            moment = now()
            if self.transitions:
                last = self.transitions[-1]
                self.transitions[-1] = Transition(
                    secondary=last.secondary, message=last.message, started=last.started, ended=moment
                )
            final = status is not None and status.terminal
            self.transitions.append(
                Transition(
                    secondary=secondary, message=message, started=moment, ended=moment if final else None
                )
            )
            self.modified = moment
            if status is not None:
                self.status = status
            if final and self.started is not None and self.ended is None:
                self.ended = moment
        if final:
            self.finished.set()
