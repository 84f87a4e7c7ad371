"""Keeps targets on a release whatever rollouts come, or lets them go; switches nothing."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypedDict

from hybrid_provider.exceptions import TargetError, TargetNotReady

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from hybrid_provider.rollout.policy import RolloutPolicy
    from hybrid_provider.targets.target import Inspection, Target


class PinnedDict(TypedDict):
    """A :class:`Pinned` as an XCom; ``pinned`` is the release that it is kept on."""

    name: str
    pinned: str | None
    error: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pinned:
    """What became of one target.

    Attributes:
        release_id: What it is pinned to now; None if it is not, or if that could not be done.
        error: Why it is as it was; None if it is as it was asked to be.
    """

    name: str
    release_id: str | None
    error: str | None

    def to_dict(self) -> PinnedDict:
        """The same as plain values."""
        return {"name": self.name, "pinned": self.release_id, "error": self.error}


def to_live(name: str, found: Inspection) -> str:
    """The release that a target serves.

    Raises:
        TargetNotReady: It serves none.
    """
    if found.release is None:
        raise TargetNotReady(name, "nothing is live here that it could be kept on; deploy a release first")
    return found.release


async def pin_targets(
    targets: Sequence[Target],
    model: str,
    release_of: str | Callable[[str, Inspection], str] | None,
    policy: RolloutPolicy,
) -> tuple[Pinned, ...]:
    """Pin each target, and let go of its connection.

    Args:
        targets: The fleet.
        model: The model.
        release_of: The release to pin to, None to unpin, or what tells it from what the target serves.
        policy: How many are asked at one time, and how long one may take.
    """
    gate = asyncio.Semaphore(policy.connects)
    seconds = policy.progress_deadline.total_seconds()

    async def one(target: Target) -> Pinned:
        async with gate:
            try:
                async with asyncio.timeout(seconds):
                    wanted = await _wanted(target, model, release_of)
                    await target.pin(model, wanted)
            except TargetError as failure:
                return Pinned(name=target.name, release_id=None, error=failure.reason)
            except TimeoutError:
                told = f"it did not answer within {seconds:g} s (progress_deadline)"
                return Pinned(name=target.name, release_id=None, error=told)
            finally:
                await _let_go(target)
            return Pinned(name=target.name, release_id=wanted, error=None)

    return tuple(await asyncio.gather(*map(one, targets)))


async def _wanted(
    target: Target, model: str, release_of: str | Callable[[str, Inspection], str] | None
) -> str | None:
    return release_of(target.name, await target.inspect(model)) if callable(release_of) else release_of


async def _let_go(target: Target) -> None:
    try:
        await target.close()
    except TargetError:
        # It was told what it had to be told.
        return
