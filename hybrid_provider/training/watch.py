"""Looking at a running job: the same look for a task that waits and for a trigger that waits in its stead."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from hybrid_provider.exceptions import CloudUnavailable, ConfigurationError, TrainingRefused
from hybrid_provider.training.backend import LogCursor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from hybrid_provider.training.backend import JobRef, JobStatus, LogLine, TrainingBackend

PATIENCE = timedelta(hours=1)
"""How long the cloud may fail to answer before the wait gives up; the job itself runs on meanwhile."""


@dataclass(frozen=True, slots=True)
class Watched:
    """A job that has ended, and what was seen of it.

    Attributes:
        status: Its last status.
        timed_out: It was stopped because the wait's deadline had come.
    """

    status: JobStatus
    timed_out: bool = False


class Watch:
    """Looks at one job and reports what is new.

    Args:
        backend: The cloud.
        ref: The job.
        report: Gets each new line of the log and each new phase, once.
        cursor: How far the log was reported already.
        deadline: The job is stopped then; None leaves it to the job's own ``max_runtime``.
        timed_out: It was stopped for its deadline already.
        print_log: Whether to read the job's log at all.
        clock: The time now, timezone-aware.
    """

    def __init__(
        self,
        backend: TrainingBackend,
        ref: JobRef,
        report: Callable[[str], None],
        *,
        cursor: LogCursor | None = None,
        deadline: datetime | None = None,
        timed_out: bool = False,
        print_log: bool = True,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.cursor = cursor if cursor is not None else LogCursor({})
        self.timed_out = timed_out
        self._backend = backend
        self._ref = ref
        self._report = report
        self._deadline = deadline
        self._print_log = print_log
        self._clock = clock
        self._phase = ""
        self._many_hosts = False
        self._silent_since: datetime | None = None

    def look(self, *, tail: bool = True) -> Watched | None:
        """Look once; None while the job runs, or while the cloud does not answer.

        Args:
            tail: Whether to read on in the log; of a job that has ended, the rest is read in any case.

        Raises:
            CloudUnavailable: The cloud has not answered for ``PATIENCE``.
        """
        try:
            status = self._backend.status(self._ref)
        except CloudUnavailable as error:
            self._bear(error)
            return None
        self._silent_since = None
        self._report_phase(status)
        self._many_hosts = status.instance_count > 1
        if tail or status.state.terminal:
            self.tail()
        if status.state.terminal:
            return Watched(status, self.timed_out)
        self._keep_deadline()
        return None

    def tail(self) -> None:
        """Report what is new in the log, without a look at the job."""
        if self._print_log:
            self._report_log()

    def _bear(self, error: CloudUnavailable) -> None:
        now = self._clock()
        if self._silent_since is None:
            self._silent_since = now
            self._report(f"Training job {self._ref.name}: {error}; still trying")
        elif now - self._silent_since > PATIENCE:
            raise CloudUnavailable(
                f"{error}; no answer for {now - self._silent_since}. Training job {self._ref.name} may still "
                "run; a retry of this task adopts it"
            ) from error

    def _keep_deadline(self) -> None:
        if self.timed_out or self._deadline is None or self._clock() < self._deadline:
            return
        self._report(f"Training job {self._ref.name}: the task's time is over, stopping it")
        try:
            self._backend.cancel(self._ref)
        except CloudUnavailable as error:
            self._bear(error)
        else:
            self.timed_out = True

    def _report_phase(self, status: JobStatus) -> None:
        if status.phase != self._phase:
            self._phase = status.phase
            said = f": {status.message}" if status.message else ""
            self._report(f"Training job {self._ref.name} is {status.phase}{said}")

    def _report_log(self) -> None:
        try:
            lines, self.cursor = self._backend.logs(self._ref, self.cursor)
        except CloudUnavailable:
            # The next look reads the same lines; a job does not fail for its log.
            return
        except (TrainingRefused, ConfigurationError) as error:
            self._print_log = False
            self._report(f"The job's log is not shown: {error}")
            return
        for text in told(lines, many=self._many_hosts):
            self._report(text)


def told(lines: tuple[LogLine, ...], *, many: bool) -> Iterator[str]:
    """The lines as they are shown: of ``many`` hosts, each says whose it is."""
    for line in lines:
        yield f"{line.host} | {line.text}" if many else line.text


def pauses(longest: timedelta) -> Iterator[timedelta]:
    """How long to wait between looks: a second at first, twice as long each time, then ``longest``."""
    pause = min(timedelta(seconds=1), longest)
    while True:
        yield pause
        pause = min(pause * 2, longest)
