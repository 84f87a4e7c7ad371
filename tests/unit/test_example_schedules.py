"""Unpausing an example DAG starts nothing, whatever the hour: a training costs money."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from airflow.dag_processing.dagbag import DagBag
from airflow.serialization.decoders import decode_timetable
from airflow.serialization.encoders import encode_timetable
from airflow.timetables import trigger
from airflow.timetables.base import TimeRestriction

DAGS = Path(__file__).parents[2] / "dags"
A_SUNDAY = datetime(2026, 11, 29, tzinfo=UTC)


def timetable_of(path):
    """The timetable of an example, as the scheduler reads it from the database."""
    (dag,) = DagBag(path, load_op_links=False).dags.values()
    return decode_timetable(encode_timetable(dag.timetable))


@pytest.mark.parametrize("path", sorted(DAGS.glob("*.py")), ids=lambda path: path.stem)
def test_the_first_run_is_still_to_come_when_a_dag_is_unpaused(path, monkeypatch):
    timetable = timetable_of(path)
    for hours in range(7 * 24):
        now = A_SUNDAY + timedelta(hours=hours, seconds=1)
        monkeypatch.setattr(trigger, "utcnow", lambda: now)  # noqa: B023 (called in the same round)
        first = timetable.next_dagrun_info(
            last_automated_data_interval=None, restriction=TimeRestriction(None, None, catchup=False)
        )
        assert first is None or first.run_after > now
