"""The rollout of one release to one fleet: stage everywhere, then switch wave by wave, then stop or go back.

The engine knows targets and probes by their protocols and time by the event loop's clock alone, so that a
test drives it through years under a loop whose clock it owns.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Final

from hybrid_provider.rollout.member import Member
from hybrid_provider.rollout.plan import count_of, plan_waves
from hybrid_provider.rollout.policy import OnBreach
from hybrid_provider.rollout.result import JournalEntry, RolloutResult, RolloutState, TargetState
from hybrid_provider.targets.target import Order

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence
    from datetime import timedelta

    from hybrid_provider.artifacts.release import Release
    from hybrid_provider.rollout.policy import RolloutPolicy
    from hybrid_provider.rollout.probe import Probe
    from hybrid_provider.targets.target import Target

# Targets that are prepared or staged at once: more share one disk and one network card for no gain.
_AT_ONCE: Final = 30


class Rollout:
    """One rollout; it runs once.

    Args:
        release: What the fleet moves to.
        targets: The fleet, in the order of its waves.
        probe: What proves that a target serves a release.
        policy: How the fleet moves.
        rollout_id: The same for all tries of one rollout, in the grammar of names.
        journal: Told of each transition.

    Raises:
        ConfigurationError: There is no target, or one is there twice.
        InvalidName: A name is outside the grammar.
    """

    def __init__(
        self,
        release: Release,
        targets: Sequence[Target],
        probe: Probe,
        policy: RolloutPolicy,
        *,
        rollout_id: str,
        journal: Callable[[JournalEntry], None] | None = None,
    ) -> None:
        self._release = release
        self._policy = policy
        self._journal = journal
        self._aborted = False
        self._began = 0.0
        self._state = RolloutState.PENDING
        self._waves = plan_waves([target.name for target in targets], policy.waves)
        order = Order(
            model=release.model,
            release=release,
            rollout=rollout_id,
            healthy_deadline=policy.healthy_deadline,
            lease=_lease(policy, len(self._waves)),
            keep_releases=policy.keep_releases,
        )
        self._members = {
            target.name: Member(target, order, probe, policy, tell=self._tell, stopped=lambda: self._aborted)
            for target in targets
        }
        self._lanes = count_of(policy.max_unavailable, len(targets))

    @property
    def waves(self) -> tuple[tuple[str, ...], ...]:
        """The names of the targets, wave by wave."""
        return self._waves

    def abort(self) -> None:
        """Begin nothing more; what is being switched goes back. May be called from a signal handler."""
        self._aborted = True

    async def run(self) -> RolloutResult:
        """Move the fleet; a target's failure is in the result and never raised."""
        self._began = asyncio.get_running_loop().time()
        try:
            await self._move()
        finally:
            await self._each(self._members.values(), Member.finish)
        return self._result()

    async def _move(self) -> None:
        self._enter(RolloutState.PREFLIGHT)
        await self._each(self._members.values(), Member.prepare)
        if self._going():
            self._enter(RolloutState.STAGING)
            await self._each(self._in_state(TargetState.READY), Member.stage)
        if not self._going():
            self._enter(
                RolloutState.ABORTED if self._aborted else RolloutState.FAILED, "nothing was switched"
            )
            return
        for number, wave in enumerate(self._waves):
            await self._switch(number, [self._members[name] for name in wave])
            if not self._going() or any(self._in_state(TargetState.VERIFIED, wave)):
                await self._breach()
                return
        served = [*self._in_state(TargetState.SUCCEEDED), *self._in_state(TargetState.ALREADY_CURRENT)]
        self._enter(RolloutState.SUCCEEDED if served else RolloutState.FAILED)

    async def _switch(self, number: int, wave: Sequence[Member]) -> None:
        waiting = [member for member in wave if member.state is TargetState.VERIFIED]
        if waiting:
            state = RolloutState.WAVE if number else RolloutState.CANARY
            self._enter(state, f"{number + 1} of {len(self._waves)}: {', '.join(m.name for m in waiting)}")
            await self._in_lanes(waiting, Member.switch, go_on=self._going)
        if number == 0 and self._going() and any(self._in_state(TargetState.VERIFIED)):
            await self._bake(wave)

    async def _bake(self, canary: Sequence[Member]) -> None:
        """Watch the canary; a retry watches one that an earlier try switched for what is left of the bake."""
        baking = {member: self._bake_left(member) for member in canary}
        baking = {member: left for member, left in baking.items() if left.total_seconds() > 0}
        if not baking:
            return
        self._enter(RolloutState.BAKING, f"{max(baking.values()).total_seconds():g} s")
        reasons = await asyncio.gather(*(member.watch(left) for member, left in baking.items()))
        for member, reason in zip(baking, reasons, strict=True):
            if reason is not None:
                await member.go_back(reason)

    def _bake_left(self, member: Member) -> timedelta:
        bake_time = self._policy.bake_time
        if member.state is TargetState.SUCCEEDED:
            return bake_time
        if member.state is TargetState.ALREADY_CURRENT:
            return max(bake_time - member.readiness.live, bake_time * 0)
        return bake_time * 0

    async def _breach(self) -> None:
        if self._aborted:
            self._enter(RolloutState.ABORTED)
            return
        failures = sum(member.failed for member in self._members.values())
        detail = f"{failures} failed, {self._policy.max_failures} may"
        if self._policy.on_breach is OnBreach.PAUSE:
            self._enter(RolloutState.PAUSED, detail)
            return
        self._enter(RolloutState.ROLLING_BACK, detail)
        await self._roll_back()

    async def _roll_back(self) -> None:
        """Take back what was switched; a target without an earlier release keeps the one it proved."""
        switched = [m for m in self._in_state(TargetState.SUCCEEDED) if m.readiness.current is not None]

        async def back(member: Member) -> None:
            await member.go_back("the fleet was rolled back")

        def well() -> bool:
            return not self._aborted and not any(m.state is TargetState.REVERT_FAILED for m in switched)

        await self._in_lanes(switched, back, go_on=well)
        done = all(member.state is TargetState.REVERTED for member in switched)
        self._enter(RolloutState.ROLLED_BACK if done else RolloutState.ROLLBACK_PAUSED)

    async def _in_lanes(
        self, members: Sequence[Member], move: Callable[[Member], Awaitable[None]], go_on: Callable[[], bool]
    ) -> None:
        """Move members, as many at once as may be down; one that could not go back keeps its lane."""
        waiting = deque(members)
        down = len(list(self._in_state(TargetState.REVERT_FAILED)))

        async def lane() -> None:
            while waiting and go_on():
                member = waiting.popleft()
                await move(member)
                if member.state is TargetState.REVERT_FAILED:
                    return

        await asyncio.gather(*(lane() for _ in range(min(self._lanes - down, len(members)))))

    async def _each(self, members: Iterable[Member], step: Callable[[Member], Awaitable[None]]) -> None:
        gate = asyncio.Semaphore(_AT_ONCE)

        async def one(member: Member) -> None:
            async with gate:
                await step(member)

        await asyncio.gather(*map(one, list(members)))

    def _going(self) -> bool:
        failures = sum(member.failed for member in self._members.values())
        return not self._aborted and failures <= self._policy.max_failures

    def _in_state(self, state: TargetState, names: Iterable[str] | None = None) -> Iterable[Member]:
        chosen = self._members if names is None else names
        return [self._members[name] for name in chosen if self._members[name].state is state]

    def _result(self) -> RolloutResult:
        unchanged = self._state is RolloutState.FAILED
        errors = [member.error for member in self._members.values() if member.error is not None]
        return RolloutResult(
            model=self._release.model,
            release_id=self._release.release_id,
            digest=self._release.digest,
            state=self._state,
            targets=tuple(member.result() for member in self._members.values()),
            waves=self._waves,
            seconds=asyncio.get_running_loop().time() - self._began,
            retryable=unchanged and bool(errors) and all(error.retryable for error in errors),
        )

    def _enter(self, state: RolloutState, detail: str = "") -> None:
        self._state = state
        self._write(None, state, detail)

    def _tell(self, target: str, state: TargetState, detail: str) -> None:
        self._write(target, state, detail)

    def _write(self, target: str | None, state: RolloutState | TargetState, detail: str) -> None:
        if self._journal is not None:
            seconds = asyncio.get_running_loop().time() - self._began
            self._journal(JournalEntry(seconds=seconds, target=target, state=state, detail=detail))


def _lease(policy: RolloutPolicy, waves: int) -> timedelta:
    """Long enough for a rollout in which each wave needs its healthy deadline once."""
    return policy.progress_deadline + policy.bake_time + waves * policy.healthy_deadline
