"""The example DAG in real Airflow: by ``dag.test()``, and by a scheduler that the REST API asked, as the UI's button does."""

from __future__ import annotations

import time

import httpx
import pytest

from playground import dataset
from playground.environment import BUCKET, MODEL
from playground.judge import judge
from tests.e2e.secrets import Secrets

QUICK = {"waves": [1, "100%"], "bake_time": 1, "min_healthy_time": 1, "healthy_deadline": 15}
CONF = {
    "data": f"s3://{BUCKET}/digits/data/full/",
    "hyperparameters": {"epochs": 20},
    "policy": QUICK,
}
TASKS = ["preflight", "train", "arrived", "sync", "deploy"]
RUN_SECONDS = 180


def served(place):
    """Per host: what it answers with, what its disk holds, its probe, and whether it recognises digits."""
    verdicts = [judge(host, MODEL, dataset.held_out()) for host in place.emulator.hosts]
    return [(verdict.release, verdict.on_disk, verdict.probe, verdict.accuracy > 0.8) for verdict in verdicts]


def serving(release_id, hosts=2):
    return [(release_id, release_id, 200, True)] * hosts


def test_dag_test_takes_the_model_from_training_to_every_host(place, run_dag):
    ran = run_dag("hybrid_retrain", CONF)

    assert ran.state == "success", ran.log
    assert ran.tasks == dict.fromkeys(TASKS, "success")
    assert ran.xcoms["deploy"]["state"] == "SUCCEEDED"
    assert {target["name"] for target in ran.xcoms["deploy"]["targets"]} == {"edge_01", "edge_02"}
    assert served(place) == serving(ran.xcoms["sync"]["release_id"])


def test_a_release_that_no_host_can_serve_leaves_every_host_on_the_one_before(place, run_dag):
    good = run_dag("hybrid_retrain", CONF | {"hyperparameters": {"epochs": 21}})
    bad = run_dag("hybrid_retrain", CONF | {"hyperparameters": {"epochs": 5, "ir_version": 99}})

    assert good.state == "success", good.log
    assert bad.tasks["deploy"] == "failed"
    assert bad.xcoms["sync"]["release_id"] != good.xcoms["sync"]["release_id"]
    assert served(place) == serving(good.xcoms["sync"]["release_id"])


@pytest.fixture
def api(airflow):
    """A client of the REST API with a token, as the UI has one."""
    token = httpx.get(f"{airflow.url}/auth/token", timeout=30).json()["access_token"]
    headers = {"Authorization": f"Bearer {token}"}
    with httpx.Client(base_url=f"{airflow.url}/api/v2", headers=headers, timeout=30) as client:
        yield client


def test_a_run_asked_for_through_the_rest_api_turns_green(place, airflow, api):
    deadline = time.monotonic() + RUN_SECONDS
    while api.get("/dags/hybrid_retrain").status_code != 200:
        airflow.check()
        if time.monotonic() > deadline:
            pytest.fail("the DAG processor did not find hybrid_retrain")
        time.sleep(0.5)
    api.patch("/dags/hybrid_retrain", json={"is_paused": False}).raise_for_status()
    asked = api.post(
        "/dags/hybrid_retrain/dagRuns",
        json={"logical_date": None, "conf": CONF | {"hyperparameters": {"epochs": 22}}},
    )
    run = asked.raise_for_status().json()["dag_run_id"]
    secrets = Secrets(place)
    seen: set[str] = set()

    while (state := api.get(f"/dags/hybrid_retrain/dagRuns/{run}").json()["state"]) in {"queued", "running"}:
        airflow.check()
        if time.monotonic() > deadline:
            pytest.fail(f"the run is still {state} after {RUN_SECONDS} s; logs in {airflow.logs}")
        seen.update(secrets.found_in_processes())
        time.sleep(0.2)
    tasks = {
        task["task_id"]: task["state"]
        for task in api.get(f"/dags/hybrid_retrain/dagRuns/{run}/taskInstances").json()["task_instances"]
    }
    assert (state, tasks) == ("success", dict.fromkeys(TASKS, "success"))
    release = api.get(
        f"/dags/hybrid_retrain/dagRuns/{run}/taskInstances/sync/xcomEntries/return_value"
    ).json()["value"]
    assert served(place) == serving(release["release_id"])
    # In no log, XCom, rendered field or asset event, on no host, and in no list of processes.
    assert seen.union(secrets.found_in_files()) == set()
    assert secrets.looked_at > 100
