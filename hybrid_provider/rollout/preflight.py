"""Whether a fleet could take a release, asked before there is one and before money is spent on it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from hybrid_provider.rollout.member import Member
from hybrid_provider.rollout.plan import checked_fleet, one_place, same_places
from hybrid_provider.rollout.probe import programs_of
from hybrid_provider.rollout.states import TargetState
from hybrid_provider.targets.target import Order

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from hybrid_provider.rollout.policy import RolloutPolicy
    from hybrid_provider.rollout.probe import Probe
    from hybrid_provider.rollout.result import TargetResult
    from hybrid_provider.targets.target import Target

_READY: Final = (TargetState.READY, TargetState.PINNED)
# Who only asks removes no release, however many there are.
_KEEP_ALL: Final = 10**6


class Preflight:
    """The first step of a rollout, of no release: each target is asked for all that it lacks, and let go of.

    Args:
        targets: The fleet.
        model: The model.
        probe: What would prove a release; there is none, so that nothing is asked but for its programs.
        policy: How many are asked at one time, and how long one may take.
        rollout_id: In the grammar of names; who meets a lease of it reads it.
        tell: Told of each target that is as it will stay: its name, its state, and why.
        skip: Names of targets that are left alone.

    Raises:
        ConfigurationError: There is no target, or one is there twice.
        InvalidName: A name is outside the grammar.
    """

    def __init__(
        self,
        targets: Sequence[Target],
        model: str,
        probe: Probe,
        policy: RolloutPolicy,
        *,
        rollout_id: str,
        tell: Callable[[str, TargetState, str], None],
        skip: Collection[str] = (),
    ) -> None:
        names = checked_fleet([target.name for target in targets], skip)
        self._order = Order(
            model=model,
            release=None,
            rollout=rollout_id,
            healthy_deadline=policy.healthy_deadline,
            lease=policy.progress_deadline,
            keep_releases=_KEEP_ALL,
            programs=programs_of(probe),
        )
        self._targets = [target for target in targets if target.name in names]
        self._probe, self._policy, self._tell = probe, policy, tell
        self._members: list[Member] = []
        self._loop: asyncio.AbstractEventLoop | None = None

    def abort(self) -> None:
        """Cut short what is under way, from any thread; every lease is given back."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._stop)

    async def run(self) -> tuple[TargetResult, ...]:
        """Ask all of them; a target's failure is in the result and never raised."""
        self._loop, gate = asyncio.get_running_loop(), asyncio.Semaphore(self._policy.connects)
        self._members = [
            Member(target, self._order, self._probe, self._policy, tell=self._told, gate=gate)
            for target in self._targets
        ]
        try:
            await asyncio.gather(*(member.prepare() for member in self._members))
            self._refuse_places()
        finally:
            await asyncio.gather(*(member.finish() for member in self._members))
        return tuple(member.result() for member in self._members)

    def _refuse_places(self) -> None:
        ready = {member.name: member for member in self._members if member.state in _READY}
        for names in same_places({name: member.readiness for name, member in ready.items()}):
            for name in names:
                ready[name].refuse(one_place(names))

    def _told(self, member: Member, _before: TargetState, detail: str) -> None:
        if member.state is not TargetState.PREFLIGHT:
            self._tell(member.name, member.state, detail)

    def _stop(self) -> None:
        for member in self._members:
            member.stop()
