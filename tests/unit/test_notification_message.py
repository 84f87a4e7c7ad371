"""What is said about a rollout, in each of the forms that it is sent in."""

from __future__ import annotations

import json

from hybrid_provider.notifications.message import of_rollout, of_task
from tests.fleets import release_of, rollout

NEW = release_of(16)
LINKS = {
    "Run": "https://airflow.example/dags/d/runs/r",
    "Fleet": "https://airflow.example/plugin/model-fleet?model=digits",
}


def test_a_rollout_that_succeeded_is_told_in_one_line():
    row = rollout(NEW, [["a", "b"]], {"a": "SUCCEEDED", "b": "ALREADY_CURRENT"}, state="SUCCEEDED")
    message = of_rollout(row, "", LINKS)

    assert message.title == f"digits: deploy of {NEW} succeeded, 2 of 2 hosts done"
    assert message.good
    assert message.slack_blocks()[0]["text"]["text"].startswith(":white_check_mark:")
    assert len(message.slack_blocks()) == 2


def test_one_that_did_not_names_the_hosts_and_the_reason():
    targets = {"a": "SUCCEEDED", "b": "REVERTED", "c": "PENDING"}
    message = of_rollout(rollout(NEW, [], targets, state="PAUSED"), "b: the probe answered 500", LINKS)

    assert message.title == f"digits: deploy of {NEW} ended as PAUSED, 1 of 3 hosts done"
    assert not message.good
    for form in (message.text(), message.html(), json.dumps(message.slack_blocks())):
        assert "b: REVERTED" in form
        assert "the probe answered 500" in form
        assert LINKS["Fleet"] in form


def test_a_large_fleet_s_failures_are_counted_after_the_first_ten():
    targets = {f"host-{number:03}": "UNREACHABLE" for number in range(400)}
    text = of_rollout(rollout(NEW, [], targets, state="FAILED"), "", {}).text()

    assert "host-009: UNREACHABLE" in text
    assert "host-010" not in text
    assert "and 390 more" in text


def test_what_a_host_said_cannot_become_markup():
    targets = {"a": "REVERTED"}
    message = of_rollout(rollout(NEW, [], targets, state="FAILED"), "<script>&x", LINKS)

    assert "<script>" not in message.html()
    assert "&lt;script&gt;&amp;x" in json.dumps(message.slack_blocks())


def test_a_program_gets_every_fact():
    row = rollout(NEW, [], {"a": "SUCCEEDED", "b": "LOCKED"}, state="PAUSED")
    payload = of_rollout(row, "locked", LINKS).payload()

    assert payload["targets"] == {"SUCCEEDED": 1, "LOCKED": 1}
    assert payload["failed"] == {"b": "LOCKED"}
    assert (payload["model"], payload["release"], payload["state"]) == ("digits", NEW, "PAUSED")
    assert (payload["dag_id"], payload["task_id"]) == ("hybrid_deploy", "deploy")


def test_a_task_that_failed_before_its_rollout_began_is_told_as_well():
    message = of_task(
        {"model": "digits", "dag_id": "d", "task_id": "deploy"}, "failed", "no such connection", {}
    )

    assert message.text() == "digits: deploy failed\nno such connection"
