"""The way back of a fleet: each target to the last release proved healthy on it; no version is typed."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from hybrid_provider.exceptions import TargetFailed, TargetNotReady
from hybrid_provider.rollout.member import Member
from hybrid_provider.rollout.operation import Operation, Request
from hybrid_provider.rollout.plan import checked_fleet, count_of, lease_of
from hybrid_provider.rollout.probe import programs_of
from hybrid_provider.rollout.result import Kind
from hybrid_provider.rollout.states import RolloutState, TargetState
from hybrid_provider.targets.target import Order

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Collection, Sequence

    from hybrid_provider.rollout.policy import RolloutPolicy
    from hybrid_provider.rollout.probe import Probe
    from hybrid_provider.rollout.result import JournalEntry
    from hybrid_provider.targets.target import Target


class Rollback(Operation):
    """One rollback: no canary, but never more than ``max_unavailable`` down, and never two of one group.

    What cannot be prepared does not keep the others from going back. What fails in its switch does, beyond
    ``max_failures``: the rest stays as it is, ROLLBACK_PAUSED, and nothing is ever rolled forward. Running it
    once more goes on with the rest; a target that this rollback has taken back is left alone.

    Args:
        model: The model's name.
        targets: The fleet.
        probe: What proves that a target serves its earlier release.
        policy: How the fleet moves; its waves and its bake are not used.
        rollout_id: The same for all tries of one rollback and of nothing else, in the grammar of names.
        only_from: Take back only targets on which this release is live, such as the canary of a rollout that
            was stopped; the others are SKIPPED.
        skip: Names of targets that are left alone.
        journal: Told of each transition.

    Raises:
        ConfigurationError: There is no target, or one is there twice.
        InvalidName: A name is outside the grammar.
    """

    def __init__(
        self,
        model: str,
        targets: Sequence[Target],
        probe: Probe,
        policy: RolloutPolicy,
        *,
        rollout_id: str,
        only_from: str | None = None,
        skip: Collection[str] = (),
        journal: Callable[[JournalEntry], None] | None = None,
    ) -> None:
        names = checked_fleet([target.name for target in targets], skip)
        order = Order(
            model=model,
            release=None,
            rollout=rollout_id,
            healthy_deadline=policy.healthy_deadline,
            lease=lease_of(policy, [names], count_of(policy.max_unavailable, len(names))),
            keep_releases=policy.keep_releases,
            drain=policy.drain,
            programs=programs_of(probe),
        )
        super().__init__(
            targets, policy, order, kind=Kind.ROLLBACK, waves=(names,), skip=skip, journal=journal
        )
        self._probe = probe
        self._only_from = only_from

    def _member(self, target: Target, gate: asyncio.Semaphore) -> Member:
        member = _Returning(target, self._order, self._probe, self._policy, tell=self._tell, gate=gate)
        member.only_from = self._only_from
        return member

    async def _move(self) -> None:
        await self._prepare()
        ready = self._in_state(TargetState.READY)
        if ready and self._going():
            names = ", ".join(member.name for member in ready)
            self._enter(RolloutState.ROLLING_BACK, names)
            await self._in_lanes(ready, lambda member: member.switch(), self._going)
        self._end()

    def _end(self) -> None:
        if self._outrun or self._request is Request.SUPERSEDE:
            self._enter(RolloutState.SUPERSEDED, self._outrun or "as asked")
        elif self._request is Request.ABORT:
            self._enter(RolloutState.ABORTED)
        elif self._refused:
            self._enter(RolloutState.FAILED, self._refused)
        elif self._request is not None or self._in_state(TargetState.READY):
            self._enter(RolloutState.ROLLBACK_PAUSED, self._reason())
        elif not self._served:
            self._enter(RolloutState.FAILED, "no target went back")
        elif self._failures > self._policy.max_failures:
            self._enter(RolloutState.ROLLBACK_PAUSED, self._reason())
        else:
            if self._state is RolloutState.PREFLIGHT:
                self._enter(RolloutState.ROLLING_BACK, "all had gone back before")
            self._enter(RolloutState.ROLLED_BACK)

    def _reason(self) -> str:
        return f"{self._failures} failed, {self._policy.max_failures} may"

    def _going(self) -> bool:
        fallen = self._counts[TargetState.REVERTED] + self._counts[TargetState.REVERT_FAILED]
        if self._outrun or self._refused:
            return False
        return self._request is None and fallen <= self._policy.max_failures


class _Returning(Member):
    """A target on its way to the release that was proved on it before the live one."""

    only_from: str | None = None

    async def _found(self) -> tuple[TargetState, str]:
        found = self.readiness
        if (await self.target.inspect(self._order.model)).rollout == self._order.rollout:
            # An earlier run of this very rollback has proved what is live; to go back twice would be forward.
            self.goal = found.current
            if reason := await self.watch(timedelta(0)):
                raise TargetFailed(self.name, f"it had gone back to {found.current}, but {reason}")
            return TargetState.ALREADY_CURRENT, ""
        if self.only_from not in {None, found.current}:
            return TargetState.SKIPPED, f"{found.current or 'nothing'} is live, not {self.only_from}"
        self.goal = found.previous
        if found.pinned not in {None, self.goal}:
            return TargetState.PINNED, f"pinned to {found.pinned}"
        if self.goal is None:
            raise TargetNotReady(
                self.name,
                f"no release was proved here before {found.current or 'now'}; deploy one that is to be live",
            )
        return TargetState.READY, ""
