"""Who works on a model on an engine.

A lease is a small volume. Whoever takes a target over makes its own and removes the one before; so a worker
that was thought dead finds its lease gone before each thing that it does.
"""

from __future__ import annotations

import math
import secrets
from typing import TYPE_CHECKING

from hybrid_provider.exceptions import TargetFailed, TargetLocked
from hybrid_provider.targets.docker.holdings import Lease, Role, labels_of, name_of
from hybrid_provider.targets.docker.survey import holdings_of
from hybrid_provider.targets.docker.volume import make_volume

if TYPE_CHECKING:
    from hybrid_provider.targets.docker.engine import Engine
    from hybrid_provider.targets.docker.holdings import Holdings
    from hybrid_provider.targets.target import Order


async def take(engine: Engine, order: Order, holdings: Holdings) -> Lease:
    """Take the lease, from an earlier try of the same rollout or from one whose time is over.

    Raises:
        TargetLocked: Another rollout has it.
    """
    holdings = await _seen(engine, order, holdings)
    _refuse_another(engine, order, holdings)
    epoch = holdings.next_epoch
    lease = Lease(
        volume=name_of(order.model, Role.LEASE, epoch),
        rollout=order.rollout,
        epoch=epoch,
        nonce=secrets.token_hex(8),
        taken=holdings.clock,
        expires=holdings.clock + order.lease.total_seconds(),
    )
    made = await make_volume(engine, lease.volume, _labels(order.model, Role.LEASE, lease))
    if made.get("hybrid.nonce") != lease.nonce:
        raise TargetLocked(engine.name, "another worker took this target in the same second; try again")
    try:
        # Two that began together see each other now, and both step back.
        _refuse_another(engine, order, await holdings_of(engine, order.model))
    except TargetLocked:
        await engine.remove(f"/volumes/{lease.volume}")
        raise
    for overtaken in holdings.leases:
        await engine.remove(f"/volumes/{overtaken.volume}")
    return lease


def overtaken(holdings: Holdings, order: Order) -> str:
    """The nonce of the lease of the same rollout that was there before; empty where there was none."""
    same = [each for each in holdings.leases if each.rollout == order.rollout]
    return max(same, key=lambda each: each.epoch).nonce if same else ""


async def check(engine: Engine, model: str, lease: Lease) -> None:
    """Return if the lease is still ours.

    Raises:
        TargetFailed: It is not.
    """
    there = await engine.there(f"/volumes/{lease.volume}")
    if there is None or (there.get("Labels") or {}).get("hybrid.nonce") != lease.nonce:
        holders = (await holdings_of(engine, model)).leases
        by = f"rollout {holders[0].rollout} (epoch {holders[0].epoch})" if holders else "somebody"
        raise TargetFailed(
            engine.name,
            f"superseded: {by} has taken this target over from {lease.rollout} (epoch {lease.epoch})",
        )


async def give_back(engine: Engine, holdings: Holdings, lease: Lease) -> None:
    """Give the lease back, and with it what was seen of it."""
    await engine.remove(f"/volumes/{lease.volume}")
    for each in holdings.seen:
        await engine.remove(f"/volumes/{each.volume}")


async def _seen(engine: Engine, order: Order, holdings: Holdings) -> Holdings:
    """The holdings, once a lease that was taken in what is now the future has an end that comes in its time.

    Where the clock was put back since, a dead worker's would hold for as long as it had been ahead. Its
    labels cannot be changed, and a living worker must find it; so its end is a fact of its own.
    """
    ahead = [each for each in holdings.leases if each.taken > holdings.clock]
    for each in ahead:
        name = name_of(order.model, Role.SEEN, each.nonce, math.floor(holdings.clock))
        await make_volume(engine, name, _labels(order.model, Role.SEEN, each.seen_at(holdings.clock)))
    return await holdings_of(engine, order.model) if ahead else holdings


def _labels(model: str, role: Role, lease: Lease) -> dict[str, str]:
    named: dict[str, str | float] = {
        "rollout": lease.rollout,
        "epoch": lease.epoch,
        "nonce": lease.nonce,
        "taken": lease.taken,
        "expires": lease.expires,
    }
    return labels_of(model, role, **named)


def _refuse_another(engine: Engine, order: Order, holdings: Holdings) -> None:
    if (other := holdings.held_by_another(order.rollout)) is not None:
        seconds = math.ceil(other.expires - holdings.clock)
        raise TargetLocked(
            engine.name,
            f"rollout {other.rollout} works on this target for at most {seconds} s; wait for its end, "
            "or stop it",
        )
