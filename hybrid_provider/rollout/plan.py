"""Which targets switch when; plain functions over names and numbers."""

from __future__ import annotations

import math
from collections import Counter
from itertools import chain, repeat
from typing import TYPE_CHECKING

from hybrid_provider.exceptions import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from datetime import timedelta

    from hybrid_provider.rollout.policy import RolloutPolicy, Share
    from hybrid_provider.targets.target import Readiness


def count_of(share: Share, fleet_size: int) -> int:
    """How many targets a share of the fleet is: rounded down, at least one."""
    if isinstance(share, int):
        return share
    return max(1, fleet_size * int(share.removesuffix("%")) // 100)


def checked_fleet(names: Sequence[str], skip: Collection[str] = ()) -> tuple[str, ...]:
    """The targets that take part, in the order of the fleet.

    Raises:
        ConfigurationError: There is none, one is there twice, or one that is to be skipped is not there; all
            of it in one message.
    """
    faults = []
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        faults.append(f"targets are in the fleet twice: {', '.join(twice)}; name each once")
    if unknown := sorted(set(skip) - set(names)):
        faults.append(f"to be skipped, but not in the fleet: {', '.join(unknown)}")
    chosen = tuple(name for name in names if name not in skip)
    if not chosen:
        faults.append("the fleet has no targets; give at least one that is not skipped")
    if faults:
        raise ConfigurationError("; ".join(faults))
    return chosen


def same_places(found: Mapping[str, Readiness]) -> tuple[tuple[str, ...], ...]:
    """The targets that are one place under several names: each took over the lease of the one before it.

    An address tells nothing of this, as a host has many, and no more does a host's own identity, as two may
    share a folder. The lease lies in the place itself.
    """
    leases = {readiness.lease for readiness in found.values() if readiness.lease}
    after = {readiness.overtaken: name for name, readiness in found.items() if readiness.overtaken}
    places = []
    for name, readiness in found.items():
        names = [name]
        while readiness.overtaken not in leases and found[names[-1]].lease in after:
            names.append(after[found[names[-1]].lease])
        if len(names) > 1:
            places.append(tuple(sorted(names)))
    return tuple(places)


def one_place(names: Sequence[str]) -> str:
    """What is told of targets that are one place under several names."""
    return f"{' and '.join(names)} are one place under several names; name it once"


def plan_waves(names: Sequence[str], waves: Sequence[Share]) -> tuple[tuple[str, ...], ...]:
    """Split the fleet, in its order, into waves; the last size repeats until all targets have one."""
    planned = []
    start = 0
    for share in chain(waves, repeat(waves[-1])):
        if start >= len(names):
            break
        size = count_of(share, len(names))
        planned.append(tuple(names[start : start + size]))
        start += size
    return tuple(planned)


def lease_of(policy: RolloutPolicy, waves: Sequence[Sequence[str]], lanes: int) -> timedelta:
    """How long a target stays reserved for a rollout of which nothing more is heard.

    Long enough for one in which each target needs its healthy deadline; a retry of it takes over its own
    leases at once, and only another rollout waits for them.
    """
    rounds = sum(math.ceil(len(wave) / lanes) for wave in waves)
    switch = policy.drain + policy.healthy_deadline
    return policy.progress_deadline + policy.bake_time + rounds * switch
