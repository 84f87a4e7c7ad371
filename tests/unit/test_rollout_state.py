"""What a task remembers of its rollout, without Airflow's database."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

from hybrid_provider.operators._rollout_state import RolloutMemory
from tests.integration.airflow_task import StateStore

KEY = "hybrid_rollout"


def context():
    ti = SimpleNamespace(dag_id="retrain", run_id="r", task_id="deploy", map_index=-1)
    return {"ti": ti, "task_state_store": StateStore()}


def test_a_retry_goes_on_with_the_rollout_of_the_first_try_and_a_clear_after_its_end_begins_another():
    task = context()
    first, retry = RolloutMemory.begin(task), RolloutMemory.begin(task)
    assert (first.first, first.age, retry.first) == (True, timedelta(0), False)
    assert (retry.rollout, retry.began) == (first.rollout, first.began)
    assert retry.age > timedelta(0)
    retry.end()
    cleared = RolloutMemory.begin(task)
    assert cleared.first
    assert cleared.rollout != first.rollout


def test_a_rollout_grows_older_also_on_a_worker_whose_clock_was_put_back():
    """Else a canary of it would have served for no time, and bake for as long as the clock had been ahead."""
    task = context()
    RolloutMemory.begin(task)
    ahead = datetime.now(UTC) + timedelta(days=365)
    task["task_state_store"].set(KEY, {"generation": 0, "began": ahead.isoformat()})
    resumed = RolloutMemory.resume(task)
    assert resumed.began <= datetime.now(UTC)
    assert RolloutMemory.resume(task).began == resumed.began
