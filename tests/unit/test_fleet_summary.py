"""What the page works out from a fleet's state and events."""

from __future__ import annotations

from hybrid_provider.fleet.summary import (
    ENDED,
    census,
    change_of,
    host_of,
    is_running,
    metric_series,
    summary_of,
)
from hybrid_provider.rollout.result import RolloutState
from tests.fleets import ended, host, release_of, trained

A, B, C = release_of(2), release_of(9), release_of(16)


def hosts(*releases):
    return [host_of(f"host/h{number}", host(release)) for number, release in enumerate(releases)]


def changes(*extras):
    return [change_of(number, f"2026-11-{number + 1:02}", extra, {}) for number, extra in enumerate(extras)][
        ::-1
    ]


def test_a_host_of_which_nothing_is_known_has_a_row_all_the_same():
    row = host_of("host/edge-01", {})

    assert row["target"] == "edge-01"
    assert row["healthy"] is None
    assert summary_of([row])["releases"] == [{"release": None, "hosts": 1}]


def test_the_states_that_end_a_rollout_are_the_engine_s():
    running = {"PENDING", "PREFLIGHT", "STAGING", "CANARY", "BAKING", "WAVE", "ROLLING_BACK"}

    assert {state.value for state in RolloutState} - running == set(ENDED)
    assert is_running({"state": "BAKING"})
    assert not is_running(None)


def test_an_event_of_another_writer_is_no_change():
    assert change_of(1, "2026-11-01", {"payload": {}}, {}) is None


def test_a_training_s_event_names_its_job_and_the_run_it_came_from():
    extra = {
        "artifact": {},
        "job": "digits-1",
        "arn": "arn:1",
        "metrics": {"accuracy": 0.9},
        "status": "Completed",
    }
    change = change_of(7, "2026-11-01", extra, {"dag_id": "retrain", "run_id": "r1", "task_id": "train"})

    assert (change["kind"], change["state"], change["training"]["job"]) == (
        "training",
        "Completed",
        "digits-1",
    )
    assert (change["dag_id"], change["run_id"]) == ("retrain", "r1")


def test_a_metric_has_one_point_for_each_release_however_often_it_was_deployed():
    again = ended(A, {}, training=trained("digits-1", accuracy=0.9))
    series = metric_series(
        changes(again, ended(B, {}, training=trained("digits-2", accuracy=0.95)), again, ended(C, {}))
    )

    assert [(point["release"], point["value"]) for point in series["accuracy"]] == [(A, 0.9), (B, 0.95)]


def test_the_hosts_that_a_paused_rollout_did_not_reach_stay_on_the_release_before():
    steps = census(changes(ended(A, {"SUCCEEDED": 10}), ended(B, {"SUCCEEDED": 3, "PENDING": 7})), [])

    assert [step["releases"] for step in steps] == [{A: 10}, {A: 7, B: 3}]


def test_a_larger_fleet_that_all_moved_has_nothing_left_on_the_release_before():
    steps = census(changes(ended(A, {"SUCCEEDED": 2}), ended(B, {"SUCCEEDED": 5})), [])

    assert steps[-1]["releases"] == {B: 5}


def test_the_last_census_is_the_fleet_as_it_is():
    steps = census(changes(ended(A, {"SUCCEEDED": 3}), ended(B, {"SUCCEEDED": 3})), hosts(A, B, B))

    assert [step["releases"] for step in steps] == [{A: 3}, {A: 1, B: 2}]


def test_audits_and_trainings_move_no_host():
    audit = ended(A, {"SUCCEEDED": 3}, kind="audit")

    assert len(census(changes(ended(A, {"SUCCEEDED": 3}), audit), hosts(A, A, A))) == 1
