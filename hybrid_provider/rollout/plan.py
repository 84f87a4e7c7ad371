"""Which targets switch when; plain functions over names and numbers."""

from __future__ import annotations

from collections import Counter
from itertools import chain, repeat
from typing import TYPE_CHECKING

from hybrid_provider.exceptions import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hybrid_provider.rollout.policy import Share


def count_of(share: Share, fleet_size: int) -> int:
    """How many targets a share of the fleet is: rounded down, at least one."""
    if isinstance(share, int):
        return share
    return max(1, fleet_size * int(share.removesuffix("%")) // 100)


def plan_waves(names: Sequence[str], waves: Sequence[Share]) -> tuple[tuple[str, ...], ...]:
    """Split the fleet, in its order, into waves; the last size repeats until all targets have one.

    Raises:
        ConfigurationError: There is no target, or one is there twice.
    """
    if not names:
        raise ConfigurationError("the fleet has no targets; give at least one")
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise ConfigurationError(f"targets are in the fleet twice: {', '.join(twice)}; name each once")
    planned = []
    start = 0
    for share in chain(waves, repeat(waves[-1])):
        if start >= len(names):
            break
        size = count_of(share, len(names))
        planned.append(tuple(names[start : start + size]))
        start += size
    return tuple(planned)
