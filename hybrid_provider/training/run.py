"""One try of a task at its training: started or adopted, waited for, delivered; never left billing.

A task that waits by itself calls :meth:`TrainingRun.start`, :meth:`~TrainingRun.wait` and
:meth:`~TrainingRun.deliver`. One that defers leaves the waiting to a trigger, which looks through the same
:class:`~hybrid_provider.training.watch.Watch`, and comes back by :meth:`~TrainingRun.resume`.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from hybrid_provider.exceptions import (
    ArtifactNotFound,
    CloudUnavailable,
    ConfigurationError,
    HybridError,
    JobConflict,
    TrainingError,
    TrainingStopped,
)
from hybrid_provider.training.backend import JobRef, LogCursor, StopCause
from hybrid_provider.training.lifecycle import Lifecycle, Outcome, Started
from hybrid_provider.training.result import accepted_states, bad_end, bill, training_dict
from hybrid_provider.training.watch import Watch, pauses, told

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import timedelta

    from hybrid_provider.training.backend import TrainingBackend
    from hybrid_provider.training.lifecycle import Identity, StateStore
    from hybrid_provider.training.result import OnStopped, TrainingDict
    from hybrid_provider.training.spec import TrainingSpec
    from hybrid_provider.training.watch import Watched

TAIL_LINES = 50


@dataclass(frozen=True, kw_only=True)
class Try:
    """Which try of which task this is, and how it waits.

    Attributes:
        identity: Whose job.
        max_tries: Airflow's, now.
        is_last: Nobody comes after it: a job that it leaves running is left for good.
        on_stopped: What a stopped job means.
        check_interval: The longest time between two looks.
        print_log: Whether to show the job's log.
    """

    identity: Identity
    max_tries: int
    is_last: bool
    on_stopped: OnStopped
    check_interval: timedelta
    print_log: bool = True


class TrainingRun:
    """See the module.

    Args:
        backend: The cloud.
        store: Survives this process.
        this: Which try this is.
        report: Gets each line for the task's log.
        pause: Waits; True means that the task was killed meanwhile.
        clock: The time now, timezone-aware.
    """

    def __init__(
        self,
        backend: TrainingBackend,
        store: StateStore,
        this: Try,
        *,
        report: Callable[[str], None],
        pause: Callable[[timedelta], bool],
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._backend = backend
        self._this = this
        self._report = report
        self._pause = pause
        self._accepted = accepted_states(this.on_stopped)
        self._lifecycle = Lifecycle(
            backend,
            store,
            this.identity,
            max_tries=this.max_tries,
            accepted=self._accepted,
            clock=clock,
        )
        self._clock = clock
        self._ended = False

    def start(self, spec: TrainingSpec) -> Started:
        """The job, submitted or adopted; errors as of :meth:`Lifecycle.start`."""
        started = self._lifecycle.start(spec)
        if started.leaving:
            self._report(f"Training job {started.ref.name} is being stopped; its end is waited for")
            return started
        how = "Adopted" if started.adopted else "Submitted"
        self._report(
            f"{how} training job {started.ref.name}, generation {started.record.generation}, "
            f"spec {started.record.fingerprint[:12]}"
        )
        return started

    def resume(self, job: JobRef, *, leaving: bool = False) -> Started:
        """The job that this try started before it was deferred; ``leaving`` as of :class:`Started`."""
        record = self._lifecycle.record()
        if record is None or record.name != job.name:
            raise JobConflict(
                f"training job {job.name}: the task's state names {record.name if record else 'no job'} by "
                "now; another try of this task has taken over"
            )
        return Started(job, record, adopted=True, leaving=leaving)

    def watch(
        self,
        ref: JobRef,
        *,
        cursor: LogCursor | None = None,
        deadline: datetime | None = None,
        timed_out: bool = False,
    ) -> Watch:
        """What looks at a job and reports into the task's log; arguments as of :class:`Watch`."""
        return Watch(
            self._backend,
            ref,
            self._report,
            cursor=cursor,
            deadline=deadline,
            timed_out=timed_out,
            print_log=self._this.print_log,
            clock=self._clock,
        )

    def wait(self, watch: Watch) -> Watched:
        """Look until the job has ended.

        Raises:
            TrainingStopped: The task was killed.
            CloudUnavailable: The cloud has not answered for long.
        """
        for pause in pauses(self._this.check_interval):
            watched = watch.look()
            if watched is not None:
                return watched
            if self._pause(pause):
                self.stop()
                # What this look reports shows whether the job is stopping.
                watch.look()
                break
        raise TrainingStopped("the task was killed, and its training job was told to stop")

    def starts_again(self, started: Started, watched: Watched) -> bool:
        """Whether the ended job is no answer, and this try must start again.

        It was being stopped when this try came, or the clear that began this try stopped it after the try had
        adopted it: Airflow stops what a cleared task left behind at its leisure, and the new try may be
        quicker.
        """
        if watched.timed_out:
            return False
        cleared = started.record.max_tries < self._this.max_tries
        stopped = watched.status.stop_cause is StopCause.ASKED
        return started.leaving or (started.adopted and stopped and cleared)

    def deliver(self, started: Started, watched: Watched) -> TrainingDict:
        """What the ended job hands on, with its outcome stored first.

        Raises:
            TrainingError: The end is none whose artifact is wanted; with the last lines of the log.
            ArtifactNotFound: There is no artifact; the next try trains again.
        """
        ref, status = started.ref, watched.status
        self._ended = True
        self._report(f"Training job {ref.name} is {status.phase}: {bill(status)}")
        error = bad_end(ref, watched, self._accepted)
        if error is not None:
            raise type(error)(f"{error}{self._tail(ref)}")
        try:
            artifact = self._backend.artifact(ref)
        except ArtifactNotFound as missing:
            self._lifecycle.settle(started.record, Outcome.REJECTED)
            raise ArtifactNotFound(
                f"training job {ref.name} is {status.state}, but left no artifact: {missing}"
            ) from None
        metrics = dict(self._backend.metrics(ref))
        self._lifecycle.settle(started.record, Outcome.DELIVERED)
        return training_dict(ref, status, started.record.fingerprint, artifact, metrics)

    def left_running(self) -> str:
        """A sentence on the job of an earlier try, where arguments that are wrong by now keep us from it."""
        record = self._lifecycle.record()
        if record is None or record.outcome is not Outcome.OPEN:
            return ""
        return (
            f"\nTraining job {record.name}, which an earlier try of this task started, may still run: "
            "correct the arguments and clear the task to go on with it, or stop it"
        )

    def leave(self, started: Started) -> TrainingDict:
        """Hand on a job that nobody waits for."""
        status = self._backend.status(started.ref)
        self._lifecycle.settle(started.record, Outcome.DELIVERED)
        self._ended = True
        return training_dict(started.ref, status, started.record.fingerprint)

    def stop(self) -> None:
        """Tell the job to stop, if there may be one; one call, fit for a signal handler."""
        name = self._lifecycle.job_name
        if name is None or self._ended:
            return
        self._report(f"Stopping training job {name}")
        try:
            self._backend.cancel(JobRef(name, ""))
        except (TrainingError, ConfigurationError) as error:
            self._report(f"Training job {name} may still run: {error}; stop it in the cloud's console")

    @contextmanager
    def never_left_billing(self) -> Iterator[None]:
        """Stop the job where an error means that no try will come back to it."""
        try:
            yield
        except (JobConflict, TrainingStopped):
            # That job is not this task's to stop; this one was told already.
            raise
        except HybridError as error:
            if self._this.is_last or not error.retryable:
                self.stop()
            raise
        except Exception:
            if self._this.is_last:
                self.stop()
            raise

    def _tail(self, ref: JobRef) -> str:
        try:
            lines = self._backend.last_lines(ref, TAIL_LINES)
        except (CloudUnavailable, TrainingError, ConfigurationError):
            return ""
        many = len({line.host for line in lines}) > 1
        return "\n".join(["", "The last lines of its log:", *told(lines, many=many)]) if lines else ""
