"""What a rollout and a rollback have in common: members, leases, the journal, and requests from outside."""

from __future__ import annotations

import asyncio
import random
from abc import ABC, abstractmethod
from collections import Counter
from enum import Enum, auto
from typing import TYPE_CHECKING

from hybrid_provider.rollout.lanes import in_lanes
from hybrid_provider.rollout.plan import count_of, one_place, same_places
from hybrid_provider.rollout.result import JournalEntry, RolloutResult
from hybrid_provider.rollout.states import (
    FAILURES,
    SERVING,
    ImpossibleStep,
    RolloutState,
    TargetState,
    checked_rollout_step,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence

    from hybrid_provider.rollout.member import Member
    from hybrid_provider.rollout.policy import RolloutPolicy
    from hybrid_provider.rollout.result import Kind
    from hybrid_provider.targets.target import Order, Target

# What of a target holds its lease, and is given back while another rollout is waited for.
_HELD = frozenset({TargetState.READY, TargetState.ALREADY_CURRENT, TargetState.PINNED})


class Request(Enum):
    """What somebody outside wants of a run."""

    PAUSE = auto()
    ABORT = auto()
    SUPERSEDE = auto()
    ROLL_BACK = auto()


class Operation(ABC):
    """A fleet on its way from one release to another; see the two ways, Rollout and Rollback.

    A run begins anew from what the targets say, so that running once more is how everything continues.
    ``pause``, ``abort`` and ``supersede`` may be called from another task or thread, or a signal handler.
    Cancelling the task that runs is an abort that is waited for.
    """

    def __init__(
        self,
        targets: Sequence[Target],
        policy: RolloutPolicy,
        order: Order,
        *,
        kind: Kind,
        waves: tuple[tuple[str, ...], ...],
        skip: Collection[str],
        journal: Callable[[JournalEntry], None] | None,
    ) -> None:
        self._targets = tuple(targets)
        self._policy = policy
        self._order = order
        self._kind = kind
        self._waves = waves
        self._skip = frozenset(skip)
        self._journal = journal
        self._lanes = count_of(policy.max_unavailable, sum(map(len, waves)))
        self._state = RolloutState.PENDING
        self._detail = ""
        self._began = 0.0
        self._ended: float | None = None
        self._running = False
        self._request: Request | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._woken = asyncio.Event()
        self._counts: Counter[TargetState] = Counter()
        self._outrun = ""
        self._refused = ""
        self._members: dict[str, Member] = {}

    @property
    def state(self) -> RolloutState:
        """Where it is."""
        return self._state

    @property
    def waves(self) -> tuple[tuple[str, ...], ...]:
        """The names of the targets, wave by wave."""
        return self._waves

    def pause(self) -> None:
        """Begin nothing more and let what is being switched come to its end; a run ends as PAUSED."""
        if self._request is None:
            self._ask(Request.PAUSE)

    def resume(self) -> None:
        """Take back a :meth:`pause` before it has taken effect; afterwards, :meth:`run` continues."""
        if self._request is Request.PAUSE:
            self._request = None
            self._woken.clear()

    def abort(self) -> None:
        """Begin nothing more; what is under way is cut short, and what is being switched goes back."""
        self._ask(Request.ABORT)

    def supersede(self) -> None:
        """Leave the fleet to a newer rollout, as :meth:`abort` does; this one cannot be continued."""
        self._ask(Request.SUPERSEDE)

    async def run(self) -> RolloutResult:
        """Move the fleet; a target's failure is in the result and never raised.

        Raises:
            ImpossibleStep: It runs, or has come to an end that nothing can follow.
        """
        if self._running:
            raise ImpossibleStep(f"rollout {self._order.rollout} runs already")
        checked_rollout_step(self._state, RolloutState.PREFLIGHT)
        self._loop, self._running = asyncio.get_running_loop(), True
        self._began, self._ended, self._outrun, self._refused = self._loop.time(), None, "", ""
        self._woken = asyncio.Event()
        self._counts = Counter({TargetState.PENDING: len(self._targets)})
        gate = asyncio.Semaphore(self._policy.connects)
        self._members = {target.name: self._member(target, gate) for target in self._targets}
        running = asyncio.create_task(self._whole())
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            self.abort()
            await running
            raise

    def result(self) -> RolloutResult:
        """Where it is, or how it came out."""
        now = self._ended if self._ended is not None else self._loop.time() if self._loop else self._began
        members = self._members.values()
        errors = [member.error for member in members if member.error is not None]
        unchanged = self._state is RolloutState.FAILED
        release = self._order.release
        return RolloutResult(
            kind=self._kind,
            rollout=self._order.rollout,
            model=self._order.model,
            release_id=release.release_id if release else None,
            digest=release.digest if release else None,
            state=self._state,
            targets=tuple(member.result() for member in members),
            waves=self._waves,
            seconds=now - self._began,
            retryable=unchanged and bool(errors) and all(error.retryable for error in errors),
            detail=self._detail,
        )

    @abstractmethod
    def _member(self, target: Target, gate: asyncio.Semaphore) -> Member:
        """One target's part in a run."""

    @abstractmethod
    async def _move(self) -> None:
        """From PENDING, or the end of an earlier run, to an end."""

    async def _whole(self) -> RolloutResult:
        try:
            await self._move()
        finally:
            await self._each(self._members.values(), lambda member: member.finish())
            self._ended = asyncio.get_running_loop().time()
            self._request, self._running = None, False
        return self.result()

    def _ask(self, request: Request) -> None:
        self._request = request
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._heed)

    def _heed(self) -> None:
        """Wake whatever sleeps; unless it was only asked to pause, cut short what is under way."""
        self._woken.set()
        if self._stopped:
            for member in self._members.values():
                member.stop()

    async def _prepare(self) -> None:
        """PREFLIGHT of all; a fleet that has one place twice is refused, whatever its policy."""
        self._enter(RolloutState.PREFLIGHT)
        for name in self._skip:
            self._members[name].skip()
        await self._reserve()
        for names in same_places({member.name: member.readiness for member in self._in_state(*_HELD)}):
            self._refused = one_place(names)
            for name in names:
                self._members[name].refuse(self._refused)

    async def _reserve(self) -> None:
        """Whoever meets another rollout's lock lets go of all it holds, and waits.

        Two that each held a part of the fleet would else wait for each other until both gave up.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._policy.lock_wait.total_seconds()
        # Two that poll in step would meet for ever.
        jitter = random.Random(self._order.rollout)  # noqa: S311 - no secret
        waiting = self._in_state(TargetState.PENDING)
        while True:
            await self._each(waiting, lambda member: member.prepare())
            locked = self._in_state(TargetState.LOCKED)
            pause = self._policy.lock_poll.total_seconds() * jitter.uniform(0.8, 1.2)
            if not locked or not self._may_wait(len(locked)) or loop.time() + pause > deadline:
                break
            await self._let_go(locked)
            await self._sleep(pause)
            # Those that were locked come first: only when they are free is the rest worth asking.
            await self._each(locked, lambda member: member.prepare())
            waiting = [] if self._counts[TargetState.LOCKED] else self._in_state(TargetState.PENDING)
        # Who was let go of and not asked again has no part in the lock: the rest may go on with it.
        if self._request is None:
            await self._each(self._in_state(TargetState.PENDING), lambda member: member.prepare())

    async def _let_go(self, locked: Sequence[Member]) -> None:
        reason = f"let go of while {locked[0].name} and {len(locked) - 1} others are locked"
        await self._each(self._in_state(*_HELD), lambda member: member.let_go(reason))

    def _may_wait(self, locked: int) -> bool:
        return self._request is None and self._failures - locked <= self._policy.max_failures

    async def _sleep(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._woken.wait()
        except TimeoutError:
            return

    async def _in_lanes(
        self, members: Sequence[Member], move: Callable[[Member], Awaitable[None]], go_on: Callable[[], bool]
    ) -> None:
        down = [member for member in self._members.values() if member.down]
        await in_lanes(members, move, lanes=self._lanes, down=down, go_on=go_on)

    async def _each(self, members: Iterable[Member], step: Callable[[Member], Awaitable[None]]) -> None:
        await asyncio.gather(*map(step, list(members)))

    @property
    def _failures(self) -> int:
        return sum(self._counts[state] for state in FAILURES)

    @property
    def _served(self) -> int:
        return sum(self._counts[state] for state in SERVING)

    @property
    def _stopped(self) -> bool:
        return bool(self._outrun) or self._request not in {None, Request.PAUSE}

    def _in_state(self, *states: TargetState) -> list[Member]:
        return [member for member in self._members.values() if member.state in states]

    def _enter(self, state: RolloutState, detail: str = "") -> None:
        self._state = checked_rollout_step(self._state, state)
        self._detail = detail
        self._write(None, state, detail)

    def _tell(self, member: Member, before: TargetState, detail: str) -> None:
        self._counts[before] -= 1
        self._counts[member.state] += 1
        if member.outrun and not self._outrun:
            self._outrun = f"{member.name}: {detail}"
            self._heed()
        self._write(member.name, member.state, detail)

    def _write(self, target: str | None, state: RolloutState | TargetState, detail: str) -> None:
        if self._journal is not None:
            seconds = asyncio.get_running_loop().time() - self._began
            self._journal(JournalEntry(seconds=seconds, target=target, state=state, detail=detail))
