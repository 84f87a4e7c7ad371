"""One listing of the running jobs for many waits: a thousand cost a few calls a minute, not thousands.

A few waits each look for themselves, which needs no permission to list. From a crowd on, rounds list the
running jobs, and wake a wait only where there is something to see: a job that is not among the running ones,
or whose status changed. Between two rounds, glances list only what changed lately, which is one call however
many wait, so that an end is seen soon. What they say is never taken for the truth, only for where to look.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections import deque
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from enum import Flag, auto
from itertools import islice
from typing import TYPE_CHECKING, Final, Protocol

from hybrid_provider.exceptions import CloudUnavailable, HybridError
from hybrid_provider.training.watch import pauses

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

_log = logging.getLogger(__name__)

FEW: Final = 10
"""Up to so many waits, looks cost less than rounds would save."""
LOGS_A_ROUND: Final = 20
"""Log readings in one round: at 30 seconds two calls a second, an eighth of what CloudWatch Logs allows."""
NEWS_A_ROUND: Final = 20
"""Looks in one round at jobs that merely reached another phase; the others are looked at in the next."""
LOOKS_WHEN_THROTTLED: Final = 100
"""Looks in a round that could not list: more would be throttled as well."""
ROUNDS_WITHOUT_LISTING: Final = 120
"""After listing was refused: an hour at 30 seconds, then it is tried again."""
GLANCES: Final = 5
"""Between two rounds: at 30 seconds ten calls a minute, and an end is seen within five seconds."""
SHORTEST_PART: Final = timedelta(seconds=2)
"""Between two glances; rounds that come quickly need none."""
LOOK_BACK: Final = timedelta(seconds=10)
"""How far a glance goes back beyond the one before, for clocks that differ and for listings that lag.

Longer, and a thousand jobs that began together would for long fill the few pages that a glance reads.
"""


class Due(Flag):
    """What a wait shall do now."""

    LOOK = auto()
    """Look at the job."""
    LOG = auto()
    """Read on in its log."""


EVERYTHING: Final = Due.LOOK | Due.LOG


class RunningJobs(Protocol):
    """What rounds need of a training backend."""

    def running(self, names: Collection[str]) -> Mapping[str, str]:
        """Those of the named jobs that surely run, each with a mark that changes with its status.

        A job may be missing though it runs; it is then looked at. Raises as a training backend does.
        """

    def ended(self, names: Collection[str], since: datetime) -> Mapping[str, str]:
        """Those of the named jobs that ceased to run after ``since``, each with its mark; some may lack.

        Raises as a training backend does.
        """


class Turn:
    """The place of one wait among all; made by :meth:`SharedPolls.joined`."""

    def __init__(self, polls: SharedPolls, name: str, interval: timedelta) -> None:
        self.name = name
        self.interval = interval
        self.mark: str | None = None
        self.parked = False
        self._polls = polls
        self._pauses = pauses(interval)
        self._due = EVERYTHING if polls.few else Due(0)
        self._woken = asyncio.Event()

    async def next(self, left: timedelta | None = None) -> Due:
        """Return when there is something to do, and what; after ``left`` it is a look in any case."""
        if not self._due:
            await self._sleep(left)
        due, self._due = self._due or Due.LOOK, Due(0)
        self._woken.clear()
        return due

    def wake(self, due: Due) -> None:
        """Have the wait do something."""
        self._due |= due
        self._woken.set()

    async def _sleep(self, left: timedelta | None) -> None:
        pause = next(self._pauses) if self._polls.few else None
        limits = [limit.total_seconds() for limit in (pause, left) if limit is not None]
        self.parked = pause is None
        try:
            await asyncio.wait_for(self._woken.wait(), max(0.0, min(limits)) if limits else None)
        except TimeoutError:
            # It is this wait's own time: as a few do it, with the log, or because its deadline has come.
            self._due |= EVERYTHING if pause is not None else Due.LOOK
        finally:
            self.parked = False


class SharedPolls:
    """The rounds for all waits on one account and region, in one event loop.

    Args:
        jobs: Lists the running jobs; called in a thread.
    """

    def __init__(self, jobs: RunningJobs) -> None:
        self._jobs = jobs
        self._turns: deque[Turn] = deque()
        self._rounds: asyncio.Task[None] | None = None
        self._silent_rounds = 0
        self._glanced_at: datetime | None = None

    @property
    def few(self) -> bool:
        """Whether each wait looks for itself."""
        return len(self._turns) <= FEW

    @contextmanager
    def joined(self, name: str, interval: timedelta) -> Iterator[Turn]:
        """Wait for the job ``name``, hearing of it at least each ``interval``."""
        turn = Turn(self, name, interval)
        self._turns.append(turn)
        if self._rounds is None:
            # A context of its own: what rounds log belongs to no single task.
            self._rounds = asyncio.get_running_loop().create_task(
                self._go_round(), context=contextvars.Context()
            )
        try:
            yield turn
        finally:
            self._turns.remove(turn)
            if not self._turns:
                self._rounds.cancel()
                self._rounds = None

    async def round(self) -> None:
        """Wake every wait that has something to do."""
        turns = tuple(self._turns)
        if self.few:
            # The crowd has gone: those that relied on rounds look for themselves again.
            _wake((turn for turn in turns if turn.parked), EVERYTHING)
            return
        if self._silent_rounds > 0:
            self._silent_rounds -= 1
            _wake(turns, Due.LOOK)
        else:
            await self._list(turns)
        _wake(self._next_in_line(LOGS_A_ROUND), Due.LOG)

    async def glance(self) -> None:
        """Wake every wait whose job ended lately; whatever is missed here, the next round finds."""
        turns = tuple(self._turns)
        if self.few or self._silent_rounds > 0:
            return
        began = datetime.now(UTC)
        since = (self._glanced_at or began - min(turn.interval for turn in turns)) - LOOK_BACK
        try:
            ended = await asyncio.to_thread(self._jobs.ended, {turn.name for turn in turns}, since)
        except HybridError as error:
            _log.debug("Training jobs that ended lately cannot be listed: %s", error)
            return
        self._glanced_at = began
        for turn in turns:
            mark = ended.get(turn.name)
            # Once for each mark: a job may be stopping for minutes.
            if mark is not None and mark != turn.mark:
                turn.mark = mark
                turn.wake(Due.LOOK)

    async def _go_round(self) -> None:
        for pause in pauses(min(turn.interval for turn in self._turns)):
            interval = min(turn.interval for turn in self._turns)
            try:
                await self._glance_during(min(pause, interval))
                await self.round()
            except Exception:  # noqa: BLE001 - see below
                # Nobody is above this task, and a thousand jobs must not be forgotten for it.
                _log.exception("A round over %s training jobs failed", len(self._turns))
                _wake(self._next_in_line(LOOKS_WHEN_THROTTLED), Due.LOOK)

    async def _glance_during(self, pause: timedelta) -> None:
        parts = parts_of(pause)
        for part in parts:
            await asyncio.sleep(part.total_seconds())
            if part is not parts[-1]:
                await self.glance()

    async def _list(self, turns: Collection[Turn]) -> None:
        try:
            running = await asyncio.to_thread(self._jobs.running, {turn.name for turn in turns})
        except CloudUnavailable as error:
            _log.warning("Training jobs cannot be listed now: %s", error)
            _wake(self._next_in_line(LOOKS_WHEN_THROTTLED), Due.LOOK)
        except HybridError as error:
            _log.warning("%s training jobs are looked at one by one: %s", len(turns), error)
            self._silent_rounds = ROUNDS_WITHOUT_LISTING
            _wake(turns, Due.LOOK)
        else:
            _wake_where_something_changed(turns, running)

    def _next_in_line(self, count: int) -> list[Turn]:
        """So many waits, other ones each time, until all have had their turn."""
        chosen = list(islice(self._turns, count))
        self._turns.rotate(-len(chosen))
        return chosen


def parts_of(pause: timedelta) -> list[timedelta]:
    """The time between two rounds, with a glance after each part but the last."""
    count = max(1, min(GLANCES + 1, pause // SHORTEST_PART))
    return [pause / count for _ in range(count)]


def _wake_where_something_changed(turns: Collection[Turn], running: Mapping[str, str]) -> None:
    news = 0
    for turn in turns:
        mark = running.get(turn.name)
        if mark is None:
            # It ended, is stopping, or is too new to be listed.
            turn.wake(Due.LOOK)
        elif turn.mark is None:
            turn.mark = mark
        elif turn.mark != mark and news < NEWS_A_ROUND:
            news += 1
            turn.mark = mark
            turn.wake(Due.LOOK)


def _wake(turns: Collection[Turn] | Iterator[Turn], due: Due) -> None:
    for turn in turns:
        turn.wake(due)
