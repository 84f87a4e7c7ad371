"""Reads what `airflow dags test` prints, and keeps what a person wants to see of it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_LINE = re.compile(r"\S+Z \[(?P<level>\w+) *\] (?P<event>.*?) *\[(?P<logger>[\w.]+)\](?: |$)")
_TASK_BEGINS = re.compile(r"\[DAG TEST\] starting task_id=(?P<task>\S+)")
_TASK_FAILS = "Task failed with exception"
_OURS = "hybrid_provider."


@dataclass(frozen=True)
class TaskBegins:
    """A task starts."""

    task: str


@dataclass(frozen=True)
class Says:
    """A line that one of this provider's operators logged."""

    level: str
    text: str


@dataclass(frozen=True)
class TaskFails:
    """A task fails, with the last line of its error."""

    reason: str


def events(lines: Iterable[str]) -> Iterator[TaskBegins | Says | TaskFails]:
    """The events in the order of the log; everything else of Airflow's own is left out."""
    failing: str | None = None
    speaking = False
    for line in lines:
        found = _LINE.match(line)
        if failing is not None:
            if not found:
                failing = line.strip() or failing
                continue
            yield TaskFails(failing)
            failing = None
        if not found:
            if speaking:
                yield Says("info", line.rstrip())
            continue
        speaking = _OURS in found["logger"]
        begins = _TASK_BEGINS.match(found["event"])
        if begins:
            yield TaskBegins(begins["task"])
        elif found["event"] == _TASK_FAILS:
            failing = ""
        elif speaking:
            yield Says(found["level"], found["event"])
    if failing is not None:
        yield TaskFails(failing)


_SCRIPT_BEGINS = "Invoking script with the following command:"
_CHATTER_BEGINS = re.compile(r"Requirement already satisfied|.*sagemaker-training-toolkit|Training Env:")


def without_container_chatter(
    told: Iterable[TaskBegins | Says | TaskFails],
) -> Iterator[TaskBegins | Says | TaskFails]:
    """Leaves out what the container says of itself before the user's script begins, and blank lines."""
    chatting = False
    for event in told:
        if isinstance(event, Says):
            if _CHATTER_BEGINS.match(event.text):
                chatting = "Reporting" not in event.text
                continue
            if event.text == _SCRIPT_BEGINS:
                chatting = False
                continue
            if chatting or not event.text.strip():
                continue
        else:
            chatting = False
        yield event
