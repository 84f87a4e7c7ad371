"""Waits for a training job in the triggerer, by the same looks as a task that waits by itself."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk.execution_time.xcom import XCom
from airflow.sdk.log import amask_secret
from airflow.triggers.base import BaseTrigger, TriggerEvent

from hybrid_provider.exceptions import CloudUnavailable, HybridError, TrainingError
from hybrid_provider.training.backend import JobRef, LogCursor
from hybrid_provider.training.polls import Due
from hybrid_provider.training.watch import Watch
from hybrid_provider.triggers._shared_cloud import AwsArguments, shared_cloud

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from airflow.sdk.types import TaskInstanceKey

    from hybrid_provider.training.watch import Watched

CURSOR_KEY = "training_log_cursor"
"""The XCom that holds how far the job's log was shown: a trigger that starts again goes on there."""


@dataclass(frozen=True, kw_only=True)
class TrainingWait:
    """What passes between the operator and its trigger.

    Attributes:
        job: The job.
        deadline: The job is stopped then.
        timed_out: It was.
        leaving: It is being stopped, and another is started after it.
        cursor: How far the log was shown.
        error: Why the trigger ended before the job did.
        retryable: Whether another try may get over ``error``.
    """

    job: JobRef
    deadline: datetime | None = None
    timed_out: bool = False
    leaving: bool = False
    cursor: LogCursor | None = None
    error: str | None = None
    retryable: bool = True

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON, for Airflow's database."""
        return {
            "job": self.job.name,
            "job_id": self.job.id,
            "deadline": None if self.deadline is None else self.deadline.isoformat(),
            "timed_out": self.timed_out,
            "leaving": self.leaving,
            "cursor": self.cursor,
            "error": self.error,
            "retryable": self.retryable,
        }

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> TrainingWait:
        """What :meth:`to_dict` wrote."""
        deadline = fields["deadline"]
        return cls(
            job=JobRef(fields["job"], fields["job_id"]),
            deadline=None if deadline is None else datetime.fromisoformat(deadline),
            timed_out=fields["timed_out"],
            # Absent from a wait that an earlier version of this provider began.
            leaving=fields.get("leaving", False),
            cursor=fields["cursor"],
            error=fields["error"],
            retryable=fields["retryable"],
        )

    def raise_error(self) -> None:
        """Raise what ended the trigger, if anything did."""
        if self.error is not None:
            raise (CloudUnavailable if self.retryable else TrainingError)(self.error)


class TrainingTrigger(BaseTrigger):
    """Look at a job until it has ended; the one event is a :class:`TrainingWait` as a dict.

    boto3 runs in threads; all triggers of a process that use the same connection share its clients, and from
    some on one listing of the running jobs. Nothing is lost if the triggerer dies: another one starts from
    the same arguments, and from the log's cursor, which is kept as an XCom.

    Args:
        wait: A :class:`TrainingWait` as a dict.
        check_interval: The longest time between two looks, in seconds.
        print_log: Whether to show the job's log.
        aws_conn_id: As in the amazon provider.
        region_name: As in the amazon provider.
        verify: As in the amazon provider.
        botocore_config: As in the amazon provider.
        secrets: What the job's log must not show; Airflow's database holds it encrypted.
    """

    def __init__(
        self,
        *,
        wait: dict[str, Any],
        check_interval: float,
        print_log: bool,
        aws_conn_id: str | None,
        region_name: str | None,
        verify: bool | str | None,
        botocore_config: dict[str, Any] | None,
        # Absent from a wait that an earlier version of this provider began.
        secrets: list[str] | None = None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call] # of BaseTrigger, which has no annotations
        self.wait = wait
        self.check_interval = check_interval
        self.print_log = print_log
        self.aws_conn_id = aws_conn_id
        self.region_name = region_name
        self.verify = verify
        self.botocore_config = botocore_config
        self.secrets = secrets

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """The class and its arguments."""
        return f"{type(self).__module__}.{type(self).__qualname__}", {
            "wait": self.wait,
            "check_interval": self.check_interval,
            "print_log": self.print_log,
            "aws_conn_id": self.aws_conn_id,
            "region_name": self.region_name,
            "verify": self.verify,
            "botocore_config": self.botocore_config,
            "secrets": self.secrets,
        }

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Yield the one event."""
        for secret in self.secrets or ():
            await amask_secret(secret)
        wait = TrainingWait.from_dict(self.wait)
        try:
            wait = await self._until_ended(wait)
        except HybridError as error:
            wait = _broken(wait, str(error), retryable=error.retryable)
        except Exception as error:
            # Raised, it would fail the task without its code having run, and the job would be left billing.
            self.log.exception("Watching training job %s", wait.job.name)
            wait = _broken(wait, f"watching training job {wait.job.name} failed: {error!r}", retryable=True)
        yield TriggerEvent(wait.to_dict())

    async def on_kill(self) -> None:
        """Stop the job if a user killed the task; Airflow also calls this when a trigger merely moves."""
        job = TrainingWait.from_dict(self.wait).job
        if await asyncio.to_thread(self._task_is_deferred):
            self.log.info("Training job %s goes on: its task still waits for it", job.name)
            return
        self.log.info("Stopping training job %s", job.name)
        backend = await asyncio.to_thread(self._arguments().open)
        await asyncio.to_thread(backend.cancel, job)

    async def _until_ended(self, wait: TrainingWait) -> TrainingWait:
        cursor = await self._kept_cursor(wait)
        interval = timedelta(seconds=self.check_interval)
        async with shared_cloud(self._arguments()) as cloud:
            watch = Watch(
                cloud.backend,
                wait.job,
                lambda text: self.log.info("%s", text),
                cursor=cursor,
                deadline=wait.deadline,
                timed_out=wait.timed_out,
                print_log=self.print_log,
            )
            with cloud.polls.joined(wait.job.name, interval) as turn:
                ended = None
                while ended is None:
                    due = await turn.next(_left(watch, wait.deadline, interval))
                    ended = await asyncio.to_thread(_do, watch, due)
                    if watch.cursor != cursor:
                        cursor = watch.cursor
                        await self._keep_cursor(cursor)
        return replace(wait, timed_out=watch.timed_out, cursor=watch.cursor)

    def _arguments(self) -> AwsArguments:
        return AwsArguments(
            aws_conn_id=self.aws_conn_id,
            region_name=self.region_name,
            verify=self.verify,
            botocore_config=self.botocore_config,
        )

    def _task(self) -> TaskInstanceKey | None:
        """Which task instance this trigger belongs to; none where a test runs it alone."""
        return self.task_instance

    async def _kept_cursor(self, wait: TrainingWait) -> LogCursor | None:
        task = self._task()
        if task is None:
            return wait.cursor
        kept = await asyncio.to_thread(XCom.get_value, ti_key=task, key=CURSOR_KEY)
        # A cursor of an earlier job of this task says nothing about this one.
        return LogCursor(kept["cursor"]) if kept and kept["job"] == wait.job.name else wait.cursor

    async def _keep_cursor(self, cursor: LogCursor) -> None:
        task = self._task()
        if task is None:
            return
        await asyncio.to_thread(
            XCom.set,
            CURSOR_KEY,
            {"job": self.wait["job"], "cursor": cursor},
            dag_id=task.dag_id,
            task_id=task.task_id,
            run_id=task.run_id,
            map_index=task.map_index,
        )

    def _task_is_deferred(self) -> bool:
        """Whether the task still waits; one that was deleted does not."""
        from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

        task = self._task()
        if task is None:
            return False
        states = RuntimeTaskInstance.get_task_states(
            dag_id=task.dag_id, task_ids=[task.task_id], run_ids=[task.run_id], map_index=task.map_index
        )
        return "deferred" in {str(state) for of_run in states.values() for state in of_run.values()}


def _do(watch: Watch, due: Due) -> Watched | None:
    if Due.LOOK in due:
        return watch.look(tail=Due.LOG in due)
    watch.tail()
    return None


def _left(watch: Watch, deadline: datetime | None, interval: timedelta) -> timedelta | None:
    """How long to wait at most: until the deadline, and after it an interval, until the job is stopping."""
    if deadline is None or watch.timed_out:
        return None
    left = deadline - datetime.now(UTC)
    return left if left > timedelta(0) else interval


def _broken(wait: TrainingWait, error: str, *, retryable: bool) -> TrainingWait:
    return replace(wait, error=error, retryable=retryable)
