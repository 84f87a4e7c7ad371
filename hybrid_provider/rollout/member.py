"""One target's way through a rollout: its states, their deadlines, and the way back."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

from hybrid_provider.exceptions import TargetError, TargetFailed, TargetLocked, TargetUnreachable
from hybrid_provider.rollout.probe import Answer
from hybrid_provider.rollout.result import FAILURES, TargetResult, TargetState
from hybrid_provider.targets.target import Readiness, Staged

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from datetime import timedelta

    from hybrid_provider.rollout.policy import RolloutPolicy
    from hybrid_provider.rollout.probe import Probe
    from hybrid_provider.targets.target import Order, Target

# One lost probe in a bake is noise; as many in a row are not. As Kubernetes' failureThreshold.
_STRIKES: Final = 3


class Member:
    """One target during one rollout; its methods record a failure instead of raising it."""

    def __init__(
        self,
        target: Target,
        order: Order,
        probe: Probe,
        policy: RolloutPolicy,
        *,
        tell: Callable[[str, TargetState, str], None],
        stopped: Callable[[], bool],
    ) -> None:
        self.target = target
        self.state = TargetState.PENDING
        self.error: TargetError | None = None
        self.readiness = Readiness()
        self._order = order
        self._probe = probe
        self._policy = policy
        self._tell = tell
        self._stopped = stopped
        self._staged = Staged()
        self._seconds = 0.0
        self._last_reason = ""

    @property
    def name(self) -> str:
        """The target's name."""
        return self.target.name

    @property
    def failed(self) -> bool:
        """Whether it counts against the failure budget."""
        return self.state in FAILURES

    def result(self) -> TargetResult:
        """How the target came out."""
        return TargetResult(
            name=self.name,
            state=self.state,
            from_release=self.readiness.current,
            to_release=self._order.brought.release_id,
            seconds=self._seconds,
            bytes_sent=self._staged.bytes_sent,
            bytes_linked=self._staged.bytes_linked,
            error=self.error.reason if self.error else None,
        )

    async def prepare(self) -> None:
        """PREFLIGHT, to READY or ALREADY_CURRENT."""
        self._enter(TargetState.PREFLIGHT)
        try:
            async with self._timed(self._policy.progress_deadline):
                self.readiness = await self.target.preflight(self._order)
                serves = self.readiness.committed and (await self._asked(self._release_id)).healthy
        except TargetError as error:
            self._fail_unchanged(error)
            return
        undone = (
            f"undid the interrupted activation of {self.readiness.undone}" if self.readiness.undone else ""
        )
        self._enter(TargetState.ALREADY_CURRENT if serves else TargetState.READY, undone)

    async def stage(self) -> None:
        """STAGING, to VERIFIED; the deadline is for a stream that stands still, not for a long one."""
        self._enter(TargetState.STAGING)
        limit = self._policy.progress_deadline
        try:
            async with self._timed(limit) as watch:

                def progress(_bytes: int) -> None:
                    if not watch.expired():
                        watch.reschedule(asyncio.get_running_loop().time() + limit.total_seconds())

                self._staged = await self.target.stage(self._order, progress)
        except TargetError as error:
            self._fail_unchanged(error)
            return
        self._enter(
            TargetState.VERIFIED,
            f"{self._staged.bytes_sent:,} bytes sent, {self._staged.bytes_linked:,} linked",
        )

    async def switch(self) -> None:
        """Activate, prove and commit the release, to SUCCEEDED; or back, to REVERTED."""
        await self._switch_to(self._release_id, TargetState.SUCCEEDED)

    async def go_back(self, reason: str) -> None:
        """Take a switched target back to the release that was live before, to REVERTED."""
        self.error = TargetFailed(self.name, reason)
        if self.readiness.current in {None, self._release_id}:
            self._fail(TargetState.REVERT_FAILED, f"{reason}; there is no earlier release to go back to")
            return
        await self._switch_to(str(self.readiness.current), TargetState.REVERTED)

    async def watch(self, duration: timedelta) -> str | None:
        """Probe a switched target for a while; the reason when it stopped to serve the release."""
        end = asyncio.get_running_loop().time() + duration.total_seconds()
        strikes = 0
        while asyncio.get_running_loop().time() < end and not self._stopped():
            answer = await self._asked(self._release_id)
            strikes = 0 if answer.healthy else strikes + 1
            if strikes >= _STRIKES:
                return f"it stopped to serve the release while it was watched: {answer.fault}"
            await asyncio.sleep(self._policy.probe_interval.total_seconds())
        return None

    async def finish(self) -> None:
        """Give the lease back, remove old releases, and let go of the connection."""
        try:
            async with self._timed(self._policy.progress_deadline):
                await self.target.finish(self._order)
        except TargetError as error:
            # The lease ends by itself, and the next rollout prunes.
            self._tell(self.name, self.state, f"could not clean up: {error.reason}")
        await self.target.close()

    @property
    def _release_id(self) -> str:
        return self._order.brought.release_id

    async def _switch_to(self, release_id: str, proven: TargetState) -> None:
        self._enter(TargetState.ACTIVATING, release_id)
        self._last_reason = ""
        try:
            async with self._timed(self._policy.healthy_deadline):
                await self.target.activate(self._order, release_id)
                await self._until_healthy(release_id)
            async with self._timed(self._policy.progress_deadline):
                await self.target.commit(self._order)
        except TargetError as error:
            await self._undo(error, proven)
        else:
            self._enter(proven, self.error.reason if self.error else "")

    async def _undo(self, cause: TargetError, proven: TargetState) -> None:
        """Undo what was activated. Where that was the way back already, it stays undone: REVERT_FAILED."""
        self._enter(TargetState.REVERTING, cause.reason)
        reason = cause.reason
        try:
            async with self._timed(self._policy.progress_deadline):
                undone = await self.target.revert(self._order)
        except TargetError as error:
            self._fail(TargetState.REVERT_FAILED, f"{reason}; going back: {error.reason}")
            return
        if not undone:
            self._enter(proven, f"{reason}; but it was committed")
            return
        if proven is TargetState.REVERTED:
            first = f"{self.error.reason}; " if self.error else ""
            self._fail(TargetState.REVERT_FAILED, f"{first}the release before is no better: {reason}")
            return
        self._fail(TargetState.REVERTED, reason)

    async def _until_healthy(self, release_id: str) -> None:
        """PROBING and SOAKING, until the release answered for min_healthy_time without a gap."""
        self._enter(TargetState.PROBING)
        since: float | None = None
        while True:
            if self._stopped():
                raise TargetFailed(self.name, "the rollout was stopped")
            answer = await self._asked(release_id)
            now = asyncio.get_running_loop().time()
            if not answer.healthy:
                if answer.fault != self._last_reason or since is not None:
                    self._enter(TargetState.PROBING, answer.fault)
                self._last_reason, since = answer.fault, None
            elif since is None:
                since = now
                self._enter(TargetState.SOAKING)
            if since is not None and now - since >= self._policy.min_healthy_time.total_seconds():
                return
            await asyncio.sleep(self._policy.probe_interval.total_seconds())

    async def _asked(self, release_id: str) -> Answer:
        limit = self._policy.probe_timeout.total_seconds()
        try:
            async with asyncio.timeout(limit):
                return await self._probe.check(self.target, release_id)
        except TimeoutError:
            return Answer(f"the probe had no answer within {limit:g} s")

    @asynccontextmanager
    async def _timed(self, limit: timedelta) -> AsyncIterator[asyncio.Timeout]:
        """Count the time, and turn a deadline that passes into this target's failure."""
        loop = asyncio.get_running_loop()
        started = loop.time()
        try:
            async with asyncio.timeout(limit.total_seconds()) as watch:
                yield watch
        except TimeoutError:
            last = f"; last probe: {self._last_reason}" if self._last_reason else ""
            raise TargetFailed(
                self.name, f"{self.state.lower()} did not end within {limit.total_seconds():g} s{last}"
            ) from None
        finally:
            self._seconds += loop.time() - started

    def _fail_unchanged(self, error: TargetError) -> None:
        states = {TargetUnreachable: TargetState.UNREACHABLE, TargetLocked: TargetState.LOCKED}
        self.error = error
        self._enter(states.get(type(error), TargetState.FAILED_NO_CHANGE), error.reason)

    def _fail(self, state: TargetState, reason: str) -> None:
        self.error = TargetFailed(self.name, reason)
        self._enter(state, reason)

    def _enter(self, state: TargetState, detail: str = "") -> None:
        self.state = state
        self._tell(self.name, state, detail)
