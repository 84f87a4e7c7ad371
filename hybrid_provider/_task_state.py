"""Airflow's task state store as the core asks for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk.execution_time.context import NEVER_EXPIRE

if TYPE_CHECKING:
    from airflow.sdk import Context


class TaskState:
    """Survives retries, crashes and clears of one task instance, for as long as the DAG run exists."""

    def __init__(self, context: Context) -> None:
        self._store = context["task_state_store"]

    def get(self, key: str) -> Any:  # noqa: ANN401 - whatever JSON was set
        """The value that was set, or None."""
        return self._store.get(key)

    def set(self, key: str, value: Any) -> None:  # noqa: ANN401 - a JSON value
        """Keep a value; Airflow's default would forget it after some days, and a job may be cleared later."""
        self._store.set(key, value, retention=NEVER_EXPIRE)
