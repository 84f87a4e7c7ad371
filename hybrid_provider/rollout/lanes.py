"""Who may be down at once: never more than max_unavailable, and never two of one group."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Sequence

    from hybrid_provider.rollout.member import Member


async def in_lanes(
    members: Sequence[Member],
    move: Callable[[Member], Awaitable[None]],
    *,
    lanes: int,
    down: Collection[Member],
    go_on: Callable[[], bool],
) -> None:
    """Move members in their order; ends when all were moved, or none may be.

    Args:
        members: Who is to be moved.
        move: Moves one; it is down meanwhile, and afterwards if it says so.
        lanes: How many may be down at once.
        down: Who is down already, and stays so.
        go_on: Asked before each one; False begins no other.
    """
    blocked = {member.group for member in down}
    queues: dict[str | int, deque[Member]] = {}
    for number, member in enumerate(members):
        if member.group is None or member.group not in blocked:
            # A target without a group is a group of its own.
            queues.setdefault(number if member.group is None else member.group, deque()).append(member)
    free = deque(queues)

    async def lane() -> None:
        # A lane that finds no free group may end: each busy one comes back to the lane that has it.
        while free and go_on():
            group = free.popleft()
            member = queues[group].popleft()
            await move(member)
            if member.down:
                return
            if queues[group]:
                free.append(group)

    await asyncio.gather(*(lane() for _ in range(min(lanes - len(down), len(queues)))))
