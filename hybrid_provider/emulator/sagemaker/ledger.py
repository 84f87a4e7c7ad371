"""What the account would be billed for: the one thing that a client cannot talk itself out of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from hybrid_provider.emulator.sagemaker.describe import billable_seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from hybrid_provider.emulator.sagemaker.job import TrainingJob


@dataclass(frozen=True)
class LedgerEntry:
    """One job that was started, whatever became of it.

    Attributes:
        name: TrainingJobName.
        status: TrainingJobStatus now.
        secondary_status: SecondaryStatus now.
        billed_seconds: BillableTimeInSeconds x InstanceCount; 0 while it runs.
        running: It has not reached a terminal status.
        tags: What it carries now.
    """

    name: str
    status: str
    secondary_status: str
    billed_seconds: int
    running: bool
    tags: Mapping[str, str]


class Ledger:
    """All jobs since the emulator's start, in the order of their creation, and the calls that were made."""

    def __init__(self, jobs: Callable[[], Iterable[TrainingJob]], calls: Mapping[str, int]) -> None:
        self._jobs = jobs
        self._calls = calls

    @property
    def calls(self) -> dict[str, int]:
        """How often each operation was called, whatever was answered."""
        return dict(self._calls)

    @property
    def entries(self) -> tuple[LedgerEntry, ...]:
        """One entry for each job."""
        return tuple(_entry(job) for job in self._jobs())

    @property
    def started(self) -> tuple[str, ...]:
        """The names of all jobs that were started."""
        return tuple(entry.name for entry in self.entries)

    @property
    def running(self) -> tuple[str, ...]:
        """The names of the jobs that are still running, and so cost."""
        return tuple(entry.name for entry in self.entries if entry.running)

    @property
    def billed_seconds(self) -> int:
        """The sum over all jobs that ended."""
        return sum(entry.billed_seconds for entry in self.entries)


def _entry(job: TrainingJob) -> LedgerEntry:
    with job.lock:
        return LedgerEntry(
            name=job.name,
            status=str(job.status),
            secondary_status=str(job.secondary),
            billed_seconds=(billable_seconds(job) or 0) * job.instance_count,
            running=not job.status.terminal,
            tags=dict(job.tags),
        )
