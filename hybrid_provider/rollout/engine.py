"""The rollout of one release to one fleet: stage everywhere, then switch wave by wave, then stop or go back.

The engine knows targets and probes by their protocols and time by the event loop's clock alone, so that a
test drives it through years under a loop whose clock it owns.

What a run knows it learns from the targets. To continue, whatever ended the run before (a pause, an abort, a
bake that is waited for outside, a dead worker), run a rollout with the same id once more, and its ``age``.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

from hybrid_provider.rollout.member import Member
from hybrid_provider.rollout.operation import Operation, Request
from hybrid_provider.rollout.plan import checked_fleet, count_of, lease_of, plan_waves
from hybrid_provider.rollout.policy import OnBreach, Verify
from hybrid_provider.rollout.probe import programs_of
from hybrid_provider.rollout.result import Kind
from hybrid_provider.rollout.states import SERVING, RolloutState, TargetState
from hybrid_provider.targets.target import Order

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from hybrid_provider.artifacts.release import Release
    from hybrid_provider.rollout.policy import RolloutPolicy
    from hybrid_provider.rollout.probe import Probe
    from hybrid_provider.rollout.result import JournalEntry, RolloutResult
    from hybrid_provider.targets.target import Target

_NONE = timedelta(0)


class Rollout(Operation):
    """One rollout; it may run again after each end that is not the last one.

    Args:
        release: What the fleet moves to.
        targets: The fleet, in the order of its waves.
        probe: What proves that a target serves a release.
        policy: How the fleet moves.
        rollout_id: The same for all tries of one rollout, in the grammar of names.
        journal: Told of each transition.
        skip: Names of targets that are left alone.
        stop_after_canary: End as PAUSED, and ``planned``, once the canary is switched and baked.
        bake_outside: Do not sit out the bake: end in BAKING, holding no lease, with ``bake_left`` in the
            result. Whoever waits for that long runs it again, with its ``age``. To do so earlier does
            no harm: it looks after the canary, and ends in BAKING again.
        age: How long ago the first run of this rollout began; zero for the first run. In a later one a canary
            that has the release and does not answer is not switched again but has failed its bake; and a
            newer release that went live on a target since ends it: SUPERSEDED.

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
        skip: Collection[str] = (),
        stop_after_canary: bool = False,
        bake_outside: bool = False,
        age: timedelta = _NONE,
    ) -> None:
        names = checked_fleet([target.name for target in targets], skip)
        waves = plan_waves(names, policy.waves)
        order = Order(
            model=release.model,
            release=release,
            rollout=rollout_id,
            healthy_deadline=policy.healthy_deadline,
            lease=lease_of(policy, waves, count_of(policy.max_unavailable, len(names))),
            keep_releases=policy.keep_releases,
            drain=policy.drain,
            verify_all=policy.verify is Verify.ALL,
            programs=programs_of(probe),
        )
        super().__init__(targets, policy, order, kind=Kind.DEPLOY, waves=waves, skip=skip, journal=journal)
        self._release = release
        self._probe = probe
        self._stop_after_canary = stop_after_canary
        self._bake_outside = bake_outside
        self._age = age
        self._first: float | None = None
        self._planned = False
        self._left = _NONE

    def roll_back(self) -> None:
        """Begin nothing more, and take back what was switched, of this run and of those it continues."""
        self._ask(Request.ROLL_BACK)

    async def run(self) -> RolloutResult:
        """Move the fleet; a target's failure is in the result and never raised."""
        now = asyncio.get_running_loop().time()
        if self._first is not None:
            self._age += timedelta(seconds=max(now - self._first, 1))
        self._first, self._planned, self._left = now, False, _NONE
        return await super().run()

    def result(self) -> RolloutResult:
        """Where it is, or how it came out."""
        return replace(super().result(), planned=self._planned, bake_left=self._left)

    def _member(self, target: Target, gate: asyncio.Semaphore) -> Member:
        member = Member(target, self._order, self._probe, self._policy, tell=self._tell, gate=gate)
        member.baking = bool(self._age) and target.name in self._waves[0]
        return member

    async def _move(self) -> None:
        await self._prepare()
        if newer := await self._newer():
            self._enter(RolloutState.SUPERSEDED, newer)
            return
        if self._going():
            self._enter(RolloutState.STAGING)
            await self._each(self._in_state(TargetState.READY), self._stage)
        if not self._going():
            await self._end_early(switched=False)
            return
        for number, wave in enumerate(self._waves):
            await self._switch(number, [self._members[name] for name in wave])
            if self._left or self._planned:
                return
            if not self._going() or any(self._members[name].state is TargetState.VERIFIED for name in wave):
                await self._end_early(switched=True)
                return
        self._enter(RolloutState.SUCCEEDED if self._served else RolloutState.FAILED)

    async def _newer(self) -> str | None:
        """Why this rollout, which was begun before, is out of date; ids of releases sort by their time."""
        for member in self._members.values() if self._age else ():
            found = member.readiness
            if found.current is None or found.current <= self._release.release_id or found.live > self._age:
                continue
            # What this rollout itself went back to is newly live as well.
            if await member.owner() != self._order.rollout:
                return f"{found.current}, which is newer, went live on {member.name} since this began"
        return None

    async def _stage(self, member: Member) -> None:
        if self._going():
            await member.stage()

    async def _switch(self, number: int, wave: Sequence[Member]) -> None:
        waiting = [member for member in wave if member.state is TargetState.VERIFIED]
        if waiting:
            state = RolloutState.WAVE if number else RolloutState.CANARY
            names = ", ".join(member.name for member in waiting)
            self._enter(state, f"{number + 1} of {len(self._waves)}: {names}")
            await self._in_lanes(waiting, lambda member: member.switch(), self._going)
        if number == 0 and self._going():
            await self._bake(wave)

    async def _bake(self, canary: Sequence[Member]) -> None:
        """Watch the canary; a later run watches one that an earlier run switched for what is left of it."""
        others = bool(self._in_state(TargetState.VERIFIED))
        sick = {member: member.sick for member in canary if member.sick}
        baking = {member: await self._bake_left(member) for member in canary if others and not member.sick}
        baking = {member: left for member, left in baking.items() if left}
        if baking or sick:
            await self._watch(baking, sick)
        if others and self._stop_after_canary and self._going() and not self._left:
            self._planned = True
            self._enter(RolloutState.PAUSED, "the canary is switched and baked; run again to go on")

    async def _watch(self, baking: dict[Member, timedelta], sick: dict[Member, str]) -> None:
        left = max(baking.values(), default=_NONE)
        outside = self._bake_outside and not sick
        self._enter(RolloutState.BAKING, f"{left.total_seconds():g} s{' outside' if outside else ''}")
        if outside:
            self._left = left
            return
        reasons = await asyncio.gather(*(member.watch(left, self._going) for member, left in baking.items()))
        sick |= {member: why for member, why in zip(baking, reasons, strict=True) if why is not None}
        await self._in_lanes(list(sick), lambda member: member.go_back(sick[member]), lambda: True)

    async def _bake_left(self, member: Member) -> timedelta:
        if member.state is TargetState.SUCCEEDED:
            return self._policy.bake_time
        if member.state is TargetState.ALREADY_CURRENT:
            return max(self._policy.bake_time - await self._baked(member), _NONE)
        return _NONE

    async def _baked(self, member: Member) -> timedelta:
        """For how long a canary has served, by its own clock; but no longer than the rollout that did it.

        A clock may be put forward in a bake, as that of a host is which has just started.
        """
        live = member.readiness.live
        if not _NONE < self._age < min(live, self._policy.bake_time):
            return live
        return self._age if await member.owner() == self._order.rollout else live

    async def _end_early(self, *, switched: bool) -> None:
        """The end that was asked for, or that failures call for."""
        if self._outrun:
            self._enter(RolloutState.SUPERSEDED, self._outrun)
            return
        match self._request:
            case Request.ROLL_BACK:
                self._request = None
                await self._roll_back("as asked")
            case Request.ABORT:
                self._enter(RolloutState.ABORTED, "" if switched else "nothing was switched")
            case Request.SUPERSEDE:
                self._enter(RolloutState.SUPERSEDED, "as asked")
            case Request.PAUSE:
                self._enter(RolloutState.PAUSED, "as asked")
            case None:
                await self._breach(switched=switched)

    async def _breach(self, *, switched: bool) -> None:
        blocked = [member.name for member in self._in_state(TargetState.VERIFIED)]
        detail = f"{self._failures} failed, {self._policy.max_failures} may"
        if self._failures <= self._policy.max_failures:
            detail = f"no more may be down: left as they are {', '.join(blocked)}"
        if not switched:
            self._enter(RolloutState.FAILED, self._refused or "nothing was switched")
        elif self._policy.on_breach is OnBreach.PAUSE:
            self._enter(RolloutState.PAUSED, detail)
        else:
            await self._roll_back(detail)

    async def _roll_back(self, detail: str) -> None:
        """Take back what was switched; a target without an earlier release keeps the one it proved."""
        self._enter(RolloutState.ROLLING_BACK, detail)
        taken = SERVING if self._age else {TargetState.SUCCEEDED}
        switched = [member for member in self._in_state(*taken) if member.origin is not None]

        lost = self._counts[TargetState.REVERT_FAILED]

        def well() -> bool:
            return self._request is None and self._counts[TargetState.REVERT_FAILED] == lost

        await self._in_lanes(switched, lambda member: member.go_back("the fleet was rolled back"), well)
        if self._outrun:
            self._enter(RolloutState.SUPERSEDED, self._outrun)
            return
        left = dict.fromkeys([*switched, *self._in_state(TargetState.REVERT_FAILED)])
        names = [member.name for member in left if member.state is not TargetState.REVERTED]
        if names:
            self._enter(RolloutState.ROLLBACK_PAUSED, f"not back: {', '.join(names)}")
        else:
            self._enter(RolloutState.ROLLED_BACK)

    def _going(self) -> bool:
        if self._outrun or self._refused:
            return False
        return self._request is None and self._failures <= self._policy.max_failures
