"""What Airflow's metrics say of rollouts; ``docs/fleet.md`` lists them."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from airflow.sdk.observability import stats

if TYPE_CHECKING:
    from hybrid_provider.rollout.result import RolloutDict

DURATION: Final = "hybrid.rollout.duration"
ENDED: Final = "hybrid.rollout.ended"
TARGETS: Final = "hybrid.target.state"
BYTES: Final = "hybrid.rollout.bytes_sent"


def count_rollout(kind: str, result: RolloutDict) -> None:
    """Count one rollout that ended, however it did: its duration, its bytes, and its targets by state."""
    model = result["model"]
    tags = {"model": model, "kind": kind, "state": result["state"]}
    stats.incr(ENDED, tags=tags)
    stats.timing(DURATION, timedelta(seconds=result["seconds"]), tags=tags)
    stats.incr(
        BYTES, sum(target["bytes_sent"] for target in result["targets"]), tags={"model": model, "kind": kind}
    )
    for state, targets in Counter(target["state"] for target in result["targets"]).items():
        stats.gauge(TARGETS, targets, tags={"model": model, "state": state})
