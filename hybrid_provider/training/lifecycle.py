"""The life of one training job of one task: started exactly once, found again after any crash.

The job's name is chosen before it is submitted, from who asks (an Airflow task instance), what is asked
(the spec's fingerprint) and the generation. What was chosen is stored before the cloud is called, so a
process may die between any two steps:

    no record      store generation 1, submit
    record, no job submit
    job running    adopt it
    job good       hand it on; once more if a crash lost it, and a new generation if a user cleared the task
    job bad        store the next generation, submit; but where the same job would end the same way, hand on
                   its end, which a crash lost, and a new generation only if a user cleared the task

The cloud itself decides a race: a name can be taken only once.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol, Self

from hybrid_provider.exceptions import ConfigurationError, JobConflict, TrainingRefused
from hybrid_provider.training.backend import FailureClass, JobState, NameTaken, StopCause

if TYPE_CHECKING:
    from collections.abc import Callable

    from hybrid_provider.training.backend import FoundJob, JobRef, JobStatus, TrainingBackend
    from hybrid_provider.training.spec import TrainingSpec

STATE_KEY = "hybrid_training"
FINGERPRINT_TAG = "hybrid:fingerprint"
CLAIM_TAG = "hybrid:claim"

MAX_JOB_NAME_LENGTH = 63
CLOCK_SKEW = timedelta(minutes=5)
"""AWS refuses signed requests whose clock is further off, so a worker that trains is at most this wrong."""

_HASH_LENGTH = 16
_TAG_LENGTH = 256


class StateStore(Protocol):
    """What survives retries, crashes and clears of one task instance; Airflow's task state store."""

    def get(self, key: str) -> Any:  # noqa: ANN401 - whatever JSON was set
        """The value that was set, or None."""

    def set(self, key: str, value: Any) -> None:  # noqa: ANN401 - a JSON value
        """Keep a value until it is set again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Whose job it is: one task instance of one Airflow installation."""

    installation: str
    dag_id: str
    run_id: str
    task_id: str
    map_index: int = -1

    def job_name(self, model_name: str, generation: int, fingerprint: str) -> str:
        """The name of the job of one generation: ``digits-g1-3f0c…``, 63 characters at most."""
        digest = self._hash([generation, fingerprint])
        generation_part = f"-g{generation}-"
        room = MAX_JOB_NAME_LENGTH - len(generation_part) - len(digest)
        slug = re.sub(r"[^A-Za-z0-9]+", "-", model_name)[:room].strip("-")
        return f"{slug or 'model'}{generation_part}{digest}"

    def series(self, series: str, fingerprint: str) -> str:
        """A name that all generations of one training of this task instance share, for checkpoints."""
        return self._hash(["series", series, fingerprint])

    def tags(self) -> dict[str, str]:
        """The same for people: who to ask, and where the costs belong."""
        tags = {
            "hybrid:installation": self.installation,
            "hybrid:dag": self.dag_id,
            "hybrid:run": self.run_id,
            "hybrid:task": self.task_id if self.map_index < 0 else f"{self.task_id}/{self.map_index}",
        }
        # What tags may hold in every cloud.
        return {key: re.sub(r"[^\w .:/=+@-]", "_", value)[:_TAG_LENGTH] for key, value in tags.items()}

    def _hash(self, more: list[object]) -> str:
        who = [self.installation, self.dag_id, self.run_id, self.task_id, self.map_index]
        return hashlib.sha256(json.dumps([*who, *more]).encode()).hexdigest()[:_HASH_LENGTH]


class Outcome(StrEnum):
    """What became of a generation's job, as far as this task knows."""

    OPEN = "open"
    DELIVERED = "delivered"
    """Handed to Airflow, though a crash may have lost it on the way."""
    REJECTED = "rejected"
    """It ended, but nothing can be done with it: there is no artifact."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What is stored before each submit.

    Attributes:
        generation: Counts the jobs that this task instance paid for.
        name: The job's name.
        fingerprint: The spec's.
        claim: A random token that the job carries as a tag: this record started it, and no other did.
        first_seen: When the record was made, by this worker's clock.
        outcome: See :class:`Outcome`.
        max_tries: Airflow's, when the outcome was written; a clear raises it, a retry does not.
        series: The claim of the first generation of this training. Those that follow until one was handed on
            share its checkpoints.
    """

    generation: int
    name: str
    fingerprint: str
    claim: str
    first_seen: datetime
    outcome: Outcome = Outcome.OPEN
    max_tries: int = 0
    series: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return asdict(self) | {"first_seen": self.first_seen.isoformat(), "outcome": str(self.outcome)}

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> Self:
        """What :meth:`to_json` wrote."""
        try:
            dates = {"first_seen": datetime.fromisoformat(stored["first_seen"])}
            return cls(**stored | dates | {"outcome": Outcome(stored["outcome"])})
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigurationError(
                f"the task's state {STATE_KEY!r} holds {stored!r}, which this version did not write "
                f"({error}); stop the job it names if it runs, delete the state and clear the task"
            ) from error


class Decision(StrEnum):
    """What to do about the job of a generation."""

    ADOPT = "adopt"
    AWAIT_END = "await end"
    """It is being stopped; what comes next is decided when it has ended."""
    NEXT_GENERATION = "next generation"
    CONFLICT = "conflict"


def decide_own(
    record: Record, found: FoundJob, fingerprint: str, max_tries: int, accepted: frozenset[JobState]
) -> Decision:
    """What to do about a job that this task's record names.

    Args:
        record: What is stored.
        found: The job, as it is now.
        fingerprint: Of the spec that is asked for now.
        max_tries: Airflow's, now.
        accepted: The end states whose artifact is wanted.
    """
    state, cleared = found.status.state, max_tries > record.max_tries
    same = fingerprint == record.fingerprint
    if state is JobState.STOPPING:
        return Decision.AWAIT_END
    if not state.terminal:
        return Decision.ADOPT if same else Decision.CONFLICT
    if state not in accepted or record.outcome is Outcome.REJECTED:
        # Airflow retries no such end: who comes here uncleared was never told of it.
        untold = same and not cleared and _ends_the_same_again(found.status)
        return Decision.ADOPT if untold else Decision.NEXT_GENERATION
    if cleared and (record.outcome is Outcome.DELIVERED or not same):
        return Decision.NEXT_GENERATION
    return Decision.ADOPT if same else Decision.CONFLICT


def _ends_the_same_again(status: JobStatus) -> bool:
    """Whether another job of the same spec would only be paid for."""
    return (
        status.failure in {FailureClass.SCRIPT, FailureClass.REQUEST}
        or status.stop_cause is StopCause.MAX_RUNTIME
    )


def decide_taken(record: Record, found: FoundJob) -> Decision:
    """What to do about a job that had this record's name before it could submit."""
    if found.tags.get(FINGERPRINT_TAG) != record.fingerprint:
        return Decision.CONFLICT
    if found.tags.get(CLAIM_TAG) == record.claim:
        # Our own: the answer to an earlier submit was lost on the way.
        return Decision.ADOPT
    if found.status.state.terminal:
        # An earlier run of the same id left it and was deleted: its result is not this run's.
        return Decision.NEXT_GENERATION
    # Another worker of this very task instance submitted between our look and our submit.
    raced = found.status.created >= record.first_seen - CLOCK_SKEW
    return Decision.ADOPT if raced else Decision.CONFLICT


@dataclass(frozen=True, slots=True)
class Started:
    """A job to wait for.

    Attributes:
        ref: The job.
        record: What is stored of it.
        adopted: Another call submitted it.
        leaving: It is being stopped and is no answer: once it has ended, start again.
    """

    ref: JobRef
    record: Record
    adopted: bool
    leaving: bool = False


class Lifecycle:
    """Starts, finds and settles the one job of one task instance.

    Args:
        backend: The cloud.
        store: Survives this process.
        identity: Whose job.
        max_tries: Airflow's, now.
        accepted: The end states whose artifact is wanted.
        clock: The time now, timezone-aware.
    """

    def __init__(
        self,
        backend: TrainingBackend,
        store: StateStore,
        identity: Identity,
        *,
        max_tries: int,
        accepted: frozenset[JobState],
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._backend = backend
        self._store = store
        self._identity = identity
        self._max_tries = max_tries
        self._accepted = accepted
        self._clock = clock
        self._job_name: str | None = None

    @property
    def job_name(self) -> str | None:
        """The name of the job that may be running now; set before the cloud can know it."""
        return self._job_name

    def record(self) -> Record | None:
        """What is stored."""
        stored = self._store.get(STATE_KEY)
        if stored is None:
            return None
        record = Record.from_json(stored)
        self._job_name = record.name
        return record

    def start(self, spec: TrainingSpec) -> Started:
        """The job of this task instance, submitted if there is none to adopt.

        One that is being stopped is given back as ``leaving``; what comes next is decided when it has ended.

        Raises:
            JobConflict: The name belongs to a job that is not this task's, or the task's job runs with
                another spec.
            TrainingRefused: The cloud refuses the request.
            CloudUnavailable: It may take it later.
        """
        fingerprint = spec.fingerprint
        record = self.record()
        if record is None:
            return self._submit(spec, self._next(spec, 1))
        found = self._backend.find(record.name)
        if found is not None:
            # Before the first submit got its answer, somebody else's job may stand under the name.
            decision = self._decide(record, found, fingerprint)
            if decision is Decision.CONFLICT:
                raise _conflict(record, found, fingerprint)
            if decision is Decision.NEXT_GENERATION:
                return self._submit(spec, self._next(spec, record.generation + 1, record))
            return Started(found.ref, record, adopted=True, leaving=decision is Decision.AWAIT_END)
        if record.outcome is Outcome.OPEN and record.fingerprint == fingerprint:
            return self._submit(spec, record)
        # Nothing of this record was ever started, or it is long over and was deleted in the cloud.
        over = record.outcome is not Outcome.OPEN
        return self._submit(spec, self._next(spec, record.generation + over, record))

    def settle(self, record: Record, outcome: Outcome) -> None:
        """Store what became of the job, before Airflow is told."""
        self._keep(replace(record, outcome=outcome, max_tries=self._max_tries))

    def _decide(self, record: Record, found: FoundJob, fingerprint: str) -> Decision:
        if found.tags.get(CLAIM_TAG) != record.claim:
            decision = decide_taken(record, found)
            if decision is not Decision.ADOPT:
                return decision
        return decide_own(record, found, fingerprint, self._max_tries, self._accepted)

    def _submit(self, spec: TrainingSpec, record: Record) -> Started:
        while True:
            self._keep(record)
            tags = self._identity.tags() | {FINGERPRINT_TAG: record.fingerprint, CLAIM_TAG: record.claim}
            try:
                ref = self._backend.submit(self._with_checkpoints(spec, record), record.name, tags)
                return Started(ref, record, adopted=False)
            except NameTaken:
                found = self._backend.find(record.name)
            except (TrainingRefused, ConfigurationError):
                # There is nothing to stop.
                self._job_name = None
                raise
            if found is None:
                raise JobConflict(
                    f"training job {record.name}: the name is taken, but there is no such job; "
                    "clear the task again"
                )
            decision = decide_taken(record, found)
            if decision is Decision.CONFLICT:
                raise _conflict(record, found, record.fingerprint)
            if decision is Decision.ADOPT:
                claim = found.tags.get(CLAIM_TAG, record.claim)
                series = claim if record.series == record.claim else record.series
                adopted = replace(record, claim=claim, series=series)
                self._keep(adopted)
                return Started(found.ref, adopted, adopted=True)
            record = self._next(spec, record.generation + 1, record)

    def _next(self, spec: TrainingSpec, generation: int, before: Record | None = None) -> Record:
        fingerprint, claim = spec.fingerprint, secrets.token_hex(8)
        return Record(
            generation=generation,
            name=self._identity.job_name(spec.model_name, generation, fingerprint),
            fingerprint=fingerprint,
            claim=claim,
            first_seen=self._clock(),
            max_tries=self._max_tries,
            # What was handed on is finished: a training after it resumes none of its checkpoints.
            series=claim if before is None or before.outcome is Outcome.DELIVERED else before.series,
        )

    def _with_checkpoints(self, spec: TrainingSpec, record: Record) -> TrainingSpec:
        """A spot job without a place for checkpoints gets one that all generations of a series share."""
        if not spec.spot or spec.checkpoint_uri is not None or spec.output_path is None:
            return spec
        series = self._identity.series(record.series, record.fingerprint)
        place = f"{spec.output_path.rstrip('/')}/checkpoints/{spec.model_name}-{series}/"
        return replace(spec, checkpoint_uri=place)

    def _keep(self, record: Record) -> None:
        self._store.set(STATE_KEY, record.to_json())
        self._job_name = record.name


def _conflict(record: Record, found: FoundJob, fingerprint: str) -> JobConflict:
    theirs = found.tags.get(FINGERPRINT_TAG, "none")
    return JobConflict(
        f"training job {found.ref.name} ({found.ref.id}), created {found.status.created:%Y-%m-%d %H:%M:%S %Z}"
        f", is {found.status.state} with spec {theirs[:12]}, but this task, since "
        f"{record.first_seen:%Y-%m-%d %H:%M:%S %Z}, asks for spec {fingerprint[:12]}; stop that job, or "
        "wait for its end, and clear the task. If nobody changed the task, one of its arguments differs at "
        "each try, such as a date of now"
    )
