"""One target's way through a rollout: its states, their deadlines, and the way back."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from hybrid_provider.exceptions import (
    TargetError,
    TargetFailed,
    TargetLocked,
    TargetNotReady,
    TargetUnreachable,
)
from hybrid_provider.rollout.policy import OnUnreachable
from hybrid_provider.rollout.probe import asked
from hybrid_provider.rollout.result import TargetResult
from hybrid_provider.rollout.states import DEADLINES, TargetState, checked_target_step
from hybrid_provider.targets.target import Readiness, Staged

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from hybrid_provider.rollout.policy import RolloutPolicy
    from hybrid_provider.rollout.probe import Answer, Probe
    from hybrid_provider.targets.target import Order, Target

# One lost probe in a bake is noise; as many in a row are not. As Kubernetes' failureThreshold.
_STRIKES: Final = 3
# Between two tries of a transfer whose connection was lost; doubled each time, up to the second.
_FIRST_PAUSE: Final = 1.0
_LONGEST_PAUSE: Final = 30.0


class Member:
    """One target during one run of a rollout; its methods record a failure instead of raising it.

    Args:
        target: The target.
        order: What is asked of it.
        probe: What proves that it serves a release.
        policy: How the fleet moves.
        tell: Told of each transition: who, the state before, and why.
        gate: Bounds how many targets are prepared, staged or left at once.

    Attributes:
        state: Where it is.
        error: Why it failed.
        readiness: What it was found to be.
        goal: The release that it goes to; None while that is not known, and where there is none.
        baking: Whether an earlier run may have switched it as a canary: then one that has the release and
            does not answer is not switched again, which could only hide why, but is :attr:`sick`.
        sick: Why a canary of an earlier run has not passed its bake.
        outrun: Whether another rollout took the target over while this one worked.
    """

    def __init__(
        self,
        target: Target,
        order: Order,
        probe: Probe,
        policy: RolloutPolicy,
        *,
        tell: Callable[[Member, TargetState, str], None],
        gate: asyncio.Semaphore,
    ) -> None:
        self.target = target
        self.name, self.group = target.name, target.group
        self.state = TargetState.PENDING
        self.error: TargetError | None = None
        self.readiness = Readiness()
        self.goal = order.release.release_id if order.release else None
        self.baking = False
        self.sick: str | None = None
        self.outrun = False
        self._order, self._probe, self._policy = order, probe, policy
        self._tell, self._gate = tell, gate
        self._staged = Staged()
        self._seconds = 0.0
        self._answer: Answer | None = None
        self._live: str | None = None
        self._lost: TargetUnreachable | None = None
        self._stop = asyncio.Event()
        self._returning = False
        self._reserved = False
        self._watch: asyncio.Timeout | None = None

    @property
    def down(self) -> bool:
        """Whether it could neither be brought to a release nor back, and so is taken to serve nothing."""
        return self.state is TargetState.REVERT_FAILED

    @property
    def origin(self) -> str | None:
        """The release that a switched target goes back to, None if there is none."""
        before = self.readiness.current
        return self.readiness.previous if before == self.goal else before

    def result(self) -> TargetResult:
        """How the target came out."""
        return TargetResult(
            name=self.name,
            state=self.state,
            from_release=self.readiness.current,
            to_release=self.goal,
            seconds=self._seconds,
            bytes_sent=self._staged.bytes_sent,
            bytes_linked=self._staged.bytes_linked,
            error=self.error.reason if self.error else None,
            live=self._live,
            previous=self.readiness.previous,
            pinned=self.readiness.pinned,
            group=self.group,
            probe=self._answer,
        )

    def stop(self) -> None:
        """Cut short what is under way; what was activated goes back, and that is never cut short."""
        if self._returning:
            return
        self._stop.set()
        if self._watch is not None and not self._watch.expired():
            self._watch.reschedule(asyncio.get_running_loop().time())

    def skip(self) -> None:
        """Leave the target alone, to SKIPPED."""
        self._enter(TargetState.SKIPPED, "as asked")

    async def prepare(self) -> None:
        """PREFLIGHT, to READY, ALREADY_CURRENT or PINNED."""
        async with self._gate:
            self._enter(TargetState.PREFLIGHT)
            self.error, self._reserved = None, True
            try:
                async with self._timed():
                    self.readiness = await self.target.preflight(self._order)
                    self._live = self.readiness.current
                    state, detail = await self._found()
            except TargetError as error:
                self._fail_unchanged(error)
                return
        self._enter(state, detail)

    def refuse(self, reason: str) -> None:
        """Leave a target that is ready as it is, to FAILED_NO_CHANGE."""
        self._fail_unchanged(TargetNotReady(self.name, reason))

    async def let_go(self, reason: str) -> None:
        """Give the lease back and wait for another :meth:`prepare`, to PENDING."""
        async with self._gate:
            await self._finish()
        self._reserved = False
        self._enter(TargetState.PENDING, reason)

    async def owner(self) -> str | None:
        """The rollout that proved what is live; None where nobody says."""
        with suppress(TargetError):
            async with self._timed("progress_deadline"):
                return (await self.target.inspect(self._order.model)).rollout
        return None

    async def stage(self) -> None:
        """STAGING, to VERIFIED; a lost connection is tried again, and what arrived need not come twice."""
        pause = _FIRST_PAUSE
        self._enter(TargetState.STAGING)
        for attempt in range(1, self._policy.transfer_retries + 2):
            try:
                await self._stage_once()
            except TargetError as error:
                lost = isinstance(error, TargetUnreachable) and not self._stop.is_set()
                if not lost or attempt > self._policy.transfer_retries:
                    self._fail_unchanged(error)
                    return
                self._enter(TargetState.STAGING, f"{error.reason}; tried again in {pause:g} s")
                await self._sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
            else:
                break
        sent, linked = self._staged.bytes_sent, self._staged.bytes_linked
        self._enter(TargetState.VERIFIED, f"{sent:,} bytes sent, {linked:,} linked")

    async def switch(self) -> None:
        """Activate, prove and commit the release, to SUCCEEDED; or back, to REVERTED."""
        await self._switch_to(str(self.goal), TargetState.SUCCEEDED)

    async def go_back(self, reason: str) -> None:
        """Take a switched target back to the release that was live before, to REVERTED."""
        self.error = TargetFailed(self.name, reason)
        self._returning = True
        self._stop.clear()
        if self.origin is None:
            self._fail(TargetState.REVERT_FAILED, f"{reason}; there is no earlier release to go back to")
            return
        await self._switch_to(self.origin, TargetState.REVERTED)

    async def watch(self, duration: timedelta, go_on: Callable[[], bool] = lambda: True) -> str | None:
        """Probe a switched target for a while; the reason when it stopped to serve the release.

        It ends on a healthy answer: a target that does not answer has not passed because the time was short.
        """
        loop = asyncio.get_running_loop()
        end = loop.time() + duration.total_seconds()
        strikes = 0
        while go_on() and not self._stop.is_set():
            answer = await self._asked(str(self.goal))
            strikes = 0 if answer.healthy else strikes + 1
            if strikes >= _STRIKES:
                return f"it stopped to serve the release while it was watched: {answer.fault}"
            if not strikes and loop.time() >= end:
                return None
            await self._sleep(self._policy.probe_interval.total_seconds())
        return None

    async def finish(self) -> None:
        """Give the lease back, remove old releases, and let go of the connection."""
        if self._reserved:
            async with self._gate:
                await self._finish()
        await self.target.close()

    async def _finish(self) -> None:
        try:
            limit = self._policy.progress_deadline.total_seconds()
            async with asyncio.timeout(limit):
                await self.target.finish(self._order)
        except TimeoutError:
            self._tell(self, self.state, f"could not clean up within {limit:g} s (progress_deadline)")
        except TargetError as error:
            # The lease ends by itself, and the next rollout prunes.
            self._tell(self, self.state, f"could not clean up: {error.reason}")

    async def _found(self) -> tuple[TargetState, str]:
        """What the preflight's answer makes of the target."""
        if self.readiness.pinned not in {None, self.goal}:
            return TargetState.PINNED, f"pinned to {self.readiness.pinned}"
        if self.readiness.committed:
            reason = await self.watch(timedelta(0))
            self.sick = reason if self.baking else None
            if reason is None or self.sick:
                return TargetState.ALREADY_CURRENT, reason or ""
            return TargetState.READY, f"it has the release, but {reason}"
        undone = self.readiness.undone
        return TargetState.READY, f"undid the interrupted activation of {undone}" if undone else ""

    async def _stage_once(self) -> None:
        limit = self._policy.deadline_of(TargetState.STAGING).total_seconds()
        async with self._gate, self._timed() as watch:

            def progress(_bytes: int) -> None:
                # The deadline is for a stream that stands still, not for a long one.
                if not self._stop.is_set() and not watch.expired():
                    watch.reschedule(asyncio.get_running_loop().time() + limit)

            self._staged = await self.target.stage(self._order, progress)

    async def _switch_to(self, release_id: str, proven: TargetState) -> None:
        self._answer = None
        activated = False
        try:
            if self._policy.drain:
                self._enter(TargetState.DRAINING)
                async with self._timed():
                    await self._reached(lambda: self.target.drain(self._order))
            self._enter(TargetState.ACTIVATING, release_id)
            activated = True
            async with self._timed():
                await self._reached(lambda: self._activate(release_id))
                await self._until_healthy(release_id)
            async with self._timed("progress_deadline"):
                await self.target.commit(self._order)
        except TargetError as error:
            await self._undo(error, release_id, proven, activated=activated)
            return
        self._live = release_id
        self._enter(proven, self.error.reason if self.error else "")

    async def _activate(self, release_id: str) -> None:
        if self._lost:
            # What was lost may have begun, and a target takes no second activation beside it.
            await self.target.revert(self._order)
        await self.target.activate(self._order, release_id)

    async def _reached(self, step: Callable[[], Awaitable[None]]) -> None:
        """On its way back a target that cannot be reached is waited for: it may be starting anew."""
        while True:
            try:
                await step()
            except TargetUnreachable as lost:
                if not self._returning:
                    raise
                self._lost = lost
                await asyncio.sleep(self._policy.probe_interval.total_seconds())
            else:
                self._lost = None
                return

    async def _undo(
        self, cause: TargetError, release_id: str, proven: TargetState, *, activated: bool
    ) -> None:
        """Undo what was activated. Where that was the way back already, it stays undone: REVERT_FAILED."""
        self._enter(TargetState.REVERTING, cause.reason)
        reason = cause.reason
        self._returning = True
        self._stop.clear()
        try:
            if isinstance(cause, TargetLocked) or cause is self._lost:
                raise cause
            async with self._timed():
                undone = await self.target.revert(self._order)
        except TargetLocked as error:
            # Whoever took the target over has undone what was not committed.
            self.outrun, self._live = True, None
            self._fail(TargetState.LOCKED, error.reason)
            return
        except TargetError as error:
            self._live = None
            self._fail(TargetState.REVERT_FAILED, f"{reason}; going back: {error.reason}")
            return
        # Without an activation, what the target knows of is an earlier one's commit.
        if activated and not undone:
            self._live = release_id
            self._enter(proven, f"{reason}; but it was committed")
        elif proven is TargetState.SUCCEEDED and release_id == self.readiness.current:
            # It was live and sick before, so undoing its activation has not helped.
            await self.go_back(reason)
        elif proven is TargetState.REVERTED:
            first = f"{self.error.reason}; " if self.error else ""
            self._fail(TargetState.REVERT_FAILED, f"{first}the release before is no better: {reason}")
        else:
            self._fail(TargetState.REVERTED, reason)

    async def _until_healthy(self, release_id: str) -> None:
        """PROBING and SOAKING, until the release answered for min_healthy_time without a gap."""
        self._enter(TargetState.PROBING)
        since: float | None = None
        while True:
            before, answer = self._answer, await self._asked(release_id)
            now = asyncio.get_running_loop().time()
            if not answer.healthy:
                if since is not None or before is None or answer.fault != before.fault:
                    self._enter(TargetState.PROBING, answer.fault)
                since = None
            elif since is None:
                since = now
                self._enter(TargetState.SOAKING)
            if since is not None and now - since >= self._policy.min_healthy_time.total_seconds():
                return
            await asyncio.sleep(self._policy.probe_interval.total_seconds())

    async def _asked(self, release_id: str) -> Answer:
        self._answer = await asked(self._probe, self.target, release_id, self._policy.probe_timeout)
        return self._answer

    async def _sleep(self, seconds: float) -> None:
        """Sleep, but not past a stop."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stop.wait()

    @asynccontextmanager
    async def _timed(self, *settings: str) -> AsyncIterator[asyncio.Timeout]:
        """Count the time, and turn a deadline that passes, by default the state's, into a failure."""
        loop = asyncio.get_running_loop()
        started = loop.time()
        names = settings or DEADLINES[self.state]
        limit = sum(getattr(self._policy, name).total_seconds() for name in names)
        try:
            async with asyncio.timeout(0 if self._stop.is_set() else limit) as self._watch:
                yield self._watch
        except TimeoutError:
            raise self._lost or TargetFailed(self.name, self._overdue(limit, names)) from None
        finally:
            self._watch = None
            self._seconds += loop.time() - started

    def _overdue(self, limit: float, names: tuple[str, ...]) -> str:
        if self._stop.is_set():
            return "the rollout was stopped"
        last = f"; last probe: {self._answer.fault}" if self._answer and self._answer.fault else ""
        return f"{self.state.lower()} did not end within {limit:g} s ({' + '.join(names)}){last}"

    def _fail_unchanged(self, error: TargetError) -> None:
        self.error, state = error, TargetState.FAILED_NO_CHANGE
        if isinstance(error, TargetLocked):
            self.outrun, state = self.state is not TargetState.PREFLIGHT, TargetState.LOCKED
        elif isinstance(error, TargetUnreachable):
            skips = self._policy.unreachable is OnUnreachable.SKIP
            state = TargetState.SKIPPED if skips else TargetState.UNREACHABLE
        self._enter(state, error.reason)

    def _fail(self, state: TargetState, reason: str) -> None:
        self.error = TargetFailed(self.name, reason)
        self._enter(state, reason)

    def _enter(self, state: TargetState, detail: str = "") -> None:
        before, self.state = self.state, checked_target_step(self.state, state)
        self._tell(self, before, detail)
