"""The gate as an operator: where it takes metrics from, and what becomes of the tasks behind it."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
from airflow.providers.common.compat.sdk import DownstreamTasksSkipped
from airflow.sdk import DAG
from airflow.sdk.bases.operator import BaseOperator
from airflow.sdk.exceptions import AirflowFailException

from hybrid_provider.artifacts.importing import import_release
from hybrid_provider.artifacts.store import ReleaseStore
from hybrid_provider.operators.gate import ModelGateOperator
from tests.fleets import ended, release_of, trained

A = release_of(2)
HIGHER = {"accuracy": "higher"}


class Events(list):
    """``inlet_events[asset]`` with what Airflow's accessor does of it."""

    def ascending(self, ascending):
        return self if ascending else Events(reversed(self))

    def limit(self, count):
        return Events(self[:count])


class Inlets(dict):
    def __missing__(self, asset):
        assert asset.uri == "hybrid://model/digits"
        return Events(SimpleNamespace(extra=extra) for extra in self["events"])


class Instance(SimpleNamespace):
    def xcom_push(self, key, value):
        self.xcoms[key] = value


@pytest.fixture
def run(tmp_path):
    """Runs a gate with a task and a teardown behind it; gives what it returned, or pushed and raised."""

    def run(events=(), **arguments):
        ti = Instance(
            dag_id="retrain", task_id="gate", run_id="manual", map_index=-1, stats_tags={}, xcoms={}
        )
        with DAG("retrain", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=UTC)):
            gate = ModelGateOperator(task_id="gate", model_name="digits", store_root=tmp_path, **arguments)
            sync, deploy, teardown = (BaseOperator(task_id=name) for name in ("sync", "deploy", "tidy"))
            gate >> sync >> deploy >> teardown.as_teardown()
        context = {"ti": ti, "inlet_events": Inlets(events=list(events))}
        try:
            return gate.execute(context), None
        except (DownstreamTasksSkipped, AirflowFailException) as end:
            return ti.xcoms["return_value"], end

    return run


@pytest.fixture
def release(tmp_path):
    """A release in the store with a file of metrics, made by a training with others."""
    folder = tmp_path / "trained"
    folder.mkdir()
    (folder / "metrics.json").write_text('{"accuracy": 0.97}')
    (folder / "model").write_text("weights")
    store = ReleaseStore(tmp_path)
    training = {"training": {"job": "digits-1", "metrics": {"accuracy": 0.91}}}
    return import_release(store, "digits", folder, provenance=training)


def training(accuracy):
    return {"job": "digits-2", "artifact": {"uri": "s3://b/k"}, "metrics": {"accuracy": accuracy}}


def test_a_training_that_beats_what_is_live_goes_on(run):
    live = ended(A, {}, training=trained("one", accuracy=0.9))
    verdict, end = run([live], candidate=training(0.92), compare=HIGHER)

    assert end is None
    assert (verdict["passed"], verdict["champion_release"], verdict["champion"]) == (
        True,
        A,
        {"accuracy": 0.9},
    )


def test_a_refused_candidate_skips_all_behind_the_gate_but_teardowns_and_hands_on_why(run):
    live = ended(A, {}, training=trained("one", accuracy=0.95))
    verdict, end = run([live], candidate=training(0.92), compare=HIGHER)

    assert isinstance(end, DownstreamTasksSkipped)
    assert sorted(end.tasks) == ["deploy", "sync"]
    assert not verdict["passed"]
    assert verdict["reason"] == f"accuracy is 0.92, and 0.95 for the champion {A} (higher is better)"


def test_a_refused_candidate_fails_the_task_where_that_is_asked_for(run):
    _, end = run(candidate=training(0.5), thresholds='{"accuracy": {"min": 0.9}}', on_refusal="fail")

    assert isinstance(end, AirflowFailException)
    assert "accuracy is 0.5, less than 0.9" in str(end)
    assert "It is kept" in str(end)


def test_the_metrics_may_be_those_of_the_training_behind_a_release_or_of_a_file_in_it(run, release):
    synced = {
        "model": "trained",
        "release_id": release.release_id,
        "digest": release.digest,
        "artifact": None,
    }
    by_training, _ = run(candidate=synced, thresholds={"accuracy": {"min": 0.1}})
    by_file, _ = run(candidate=synced, thresholds={"accuracy": {"min": 0.1}}, metrics_file="metrics.json")

    assert by_training["candidate"] == {"accuracy": 0.91}
    assert by_file["candidate"] == {"accuracy": 0.97}


def test_the_champion_may_be_a_release_of_the_store_and_none_in_its_channel_is_none(run, release):
    by_id, _ = run(candidate=training(0.92), compare=HIGHER, champion=release.release_id)
    no_champion, _ = run(candidate=training(0.92), compare=HIGHER, champion="champion")

    assert (by_id["champion_release"], by_id["passed"]) == (release.release_id, True)
    assert (no_champion["champion"], no_champion["passed"]) == (None, True)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"candidate": None, "thresholds": {"a": {"min": 1}}}, "candidate is None"),
        ({"candidate": {}, "thresholds": {}}, "no rule"),
        ({"candidate": {}, "thresholds": {"a": {"min": 1}}, "on_refusal": "ignore"}, "'skip' or 'fail'"),
    ],
)
def test_what_cannot_be_right_fails_the_task_in_words(run, arguments, told):
    with pytest.raises(AirflowFailException, match=told):
        ModelGateOperator(task_id="gate", model_name="digits", **arguments).execute({})


def test_the_model_s_asset_is_an_inlet_so_that_a_verdict_makes_no_event():
    gate = ModelGateOperator(task_id="gate", model_name="digits", candidate={}, thresholds={})

    assert [asset.uri for asset in gate.inlets] == ["hybrid://model/digits"]
    assert gate.outlets == []
