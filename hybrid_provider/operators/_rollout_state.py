"""What a task remembers of its rollout across tries, deferrals and clears."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from hybrid_provider._task_state import TaskState

if TYPE_CHECKING:
    from airflow.sdk import Context

_KEY: Final = "hybrid_rollout"


@dataclass(frozen=True, slots=True)
class RolloutMemory:
    """One rollout of one task instance.

    Attributes:
        context: Of the task.
        rollout: The rollout's id: the same for all tries, so that a retry takes over what its predecessor
            held. A task that is cleared after it had ended well begins another one.
        began: When the first try began.
        first: Whether this is that try.
        generation: How many rollouts of this task instance ended well before.
    """

    context: Context
    rollout: str
    began: datetime
    first: bool
    generation: int

    @classmethod
    def begin(cls, context: Context) -> RolloutMemory:
        """For a new try."""
        kept: dict[str, Any] = TaskState(context).get(_KEY) or {}
        generation = int(kept.get("generation", 0))
        first, now = "began" not in kept, datetime.now(UTC)
        # Where this clock was put back since, a bake would seem never to have begun.
        began = now if first else min(now, datetime.fromisoformat(kept["began"]))
        if began == now:
            TaskState(context).set(_KEY, {"generation": generation, "began": began.isoformat()})
        return cls._of(context, generation, began, first=first)

    # After a deferral the same is known as after a lost worker.
    resume = begin

    @classmethod
    def _of(cls, context: Context, generation: int, began: datetime, *, first: bool) -> RolloutMemory:
        return cls(context, rollout_id_of(context, generation), began, first, generation)

    @property
    def age(self) -> timedelta:
        """How long ago the first try began; none in that try itself."""
        if self.first:
            return timedelta(0)
        return max(datetime.now(UTC) - self.began, timedelta(seconds=1))

    def end(self) -> None:
        """It has ended well: what comes after a clear is another rollout."""
        TaskState(self.context).set(_KEY, {"generation": self.generation + 1})


def rollout_id_of(context: Context, generation: int = 0) -> str:
    """A readable id, unique to the task instance and to how often it has ended well."""
    ti = context["ti"]
    parts = (ti.dag_id, str(ti.run_id), ti.task_id, str(getattr(ti, "map_index", -1)), str(generation))
    readable = re.sub(r"[^A-Za-z0-9_-]+", "-", f"{ti.dag_id}-{ti.task_id}").strip("-_")[:40]
    return f"{readable or 'deploy'}-{hashlib.sha256(chr(0).join(parts).encode()).hexdigest()[:12]}"
