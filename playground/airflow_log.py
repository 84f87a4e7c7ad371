"""Reads what `airflow dags test` prints, and keeps what a person wants to see of it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

# Behind the logger stand keys and values alone: what is said may hold brackets too, as "[Error] : 1" does.
_LINE = re.compile(
    r"\S+Z \[(?P<level>\w+) *\] (?P<event>.*?) *\[(?P<logger>[\w.]+)\](?: \w+=|\s*$)", re.DOTALL
)
_BEGINS = re.compile(r"\d{4}-\S+Z \[\w+ *\] ")
_ENDS = re.compile(r"\[[\w.]+\] loc=\S+$")
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


Event = TaskBegins | Says | TaskFails


def _entries(lines: Iterable[str]) -> Iterator[str]:
    """Lines, but what was logged with line breaks as one: the logger's name stands behind its last line."""
    begun = ""
    for line in lines:
        if begun and _BEGINS.match(line):
            yield begun
            begun = ""
        if begun or (_BEGINS.match(line) and not _LINE.match(line)):
            begun += line
            if not _ENDS.search(line.rstrip()):
                continue
        yield begun or line
        begun = ""
    if begun:
        yield begun


def events(lines: Iterable[str]) -> Iterator[Event]:
    """The events in the order of the log; everything else of Airflow's own is left out."""
    failing: str | None = None
    speaking = False
    for line in _entries(lines):
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
            yield from (Says(found["level"], text.rstrip()) for text in found["event"].splitlines())
    if failing is not None:
        yield TaskFails(failing)


_SCRIPT_BEGINS = "Invoking script with the following command:"
_CONTAINER_BEGINS = re.compile(r"Requirement already satisfied|Training Env:")
_TOOLKIT = re.compile(r".* sagemaker[-_]training[\w.-]* (INFO|WARNING) ")


def without_container_chatter(told: Iterable[Event]) -> Iterator[Event]:
    """Leaves out what the container says of itself before the user's script begins, and blank lines."""
    chatting = False
    for event in told:
        text = event.text if isinstance(event, Says) else None
        if text is None or text == _SCRIPT_BEGINS:
            chatting = False
        elif _CONTAINER_BEGINS.match(text):
            chatting = True
        if text is None or not (
            chatting or text == _SCRIPT_BEGINS or _TOOLKIT.match(text) or not text.strip()
        ):
            yield event
