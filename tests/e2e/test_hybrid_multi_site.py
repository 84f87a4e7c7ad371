"""The example DAG of many sites, with two real edge workers: a pilot, a bake, and then the others."""

from __future__ import annotations

import shutil
import time
from datetime import datetime, timedelta
from pathlib import Path

import httpx
import pytest

from hybrid_provider.artifacts.store import ReleaseStore
from playground.airflow_services import airflow_services
from playground.environment import BUCKET, MODEL, playground
from tests.e2e.edge_workers import edge_settings, edge_workers
from tests.servers import free_port

DAG = "hybrid_multi_site"
PILOT, OTHERS = "munich", ("lyon", "porto")
CONF = {
    "data": f"s3://{BUCKET}/digits/data/small/",
    "policy": {"waves": ["100%"], "bake_time": 0, "min_healthy_time": 0, "healthy_deadline": 15},
    "bake_minutes": 0,
}
RUN_SECONDS = 360
pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def sites(tmp_path_factory):
    """An Airflow with the workers of the pilot and of the others, and three hosts: (place, airflow, workers)."""
    folder = tmp_path_factory.mktemp("sites")
    dags = folder / "dags"
    shutil.copytree(Path(__file__).parents[2] / "dags", dags)
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with playground(folder, hosts=3) as place:
        place.environment["AIRFLOW__CORE__DAGS_FOLDER"] = str(dags)
        with (
            airflow_services(place, port, edge_settings(url)) as airflow,
            edge_workers(place, url, {PILOT: (PILOT,), "others": OTHERS}) as workers,
        ):
            airflow.wait_until_healthy()
            yield place, airflow, workers


@pytest.fixture
def api(sites):
    _, airflow, _ = sites
    token = httpx.get(f"{airflow.url}/auth/token", timeout=30).json()["access_token"]
    headers = {"Authorization": f"Bearer {token}"}
    with httpx.Client(base_url=f"{airflow.url}/api/v2/dags", headers=headers, timeout=30) as client:
        yield client


@pytest.fixture
def broken(sites):
    """Makes a host of a site unable to take a release, until the test ends."""
    place, _, _ = sites
    undo = []

    def break_host(connection):
        models = Path(place.hosts[connection].root) / "models"
        aside = models.with_name("models-aside")
        models.rename(aside)
        models.write_text("a file, and no folder")
        undo.append((models, aside))

    yield break_host
    for models, aside in undo:
        models.unlink()
        aside.rename(models)


def run(sites, api, **conf):
    """Run the DAG to its end: its state, and each task's by its id."""
    _, airflow, workers = sites
    deadline = time.monotonic() + RUN_SECONDS
    while api.get(f"/{DAG}").status_code != 200:
        airflow.check()
        if time.monotonic() > deadline:
            pytest.fail(f"the DAG processor did not find {DAG}")
        time.sleep(0.5)
    api.patch(f"/{DAG}", json={"is_paused": False}).raise_for_status()
    asked = api.post(f"/{DAG}/dagRuns", json={"logical_date": None, "conf": CONF | conf})
    path = f"/{DAG}/dagRuns/{asked.raise_for_status().json()['dag_run_id']}"
    while (state := api.get(path).json()["state"]) in {"queued", "running"}:
        airflow.check()
        if time.monotonic() > deadline:
            logs = "\n".join(worker.log[-3000:] for worker in workers)
            pytest.fail(f"the run is still {state} after {RUN_SECONDS} s: {tasks_of(api, path)}\n{logs}")
        time.sleep(1)
    return state, tasks_of(api, path)


def tasks_of(api, path):
    return {each["task_id"]: each for each in api.get(f"{path}/taskInstances").json()["task_instances"]}


def time_of(text):
    return datetime.fromisoformat(text)


def states(tasks):
    return {name: task["state"] for name, task in tasks.items()}


def test_each_site_is_served_by_its_own_worker_the_pilot_first_and_the_others_after_its_bake(sites, api):
    place, _, (pilot, others) = sites

    state, tasks = run(sites, api, hyperparameters={"epochs": 5}, bake_minutes=1)

    assert state == "success", states(tasks)
    assert set(states(tasks).values()) == {"success"}
    assert {tasks[f"{site}.{step}"]["hostname"] for site in OTHERS for step in ("sync", "deploy")} == {
        "others"
    }
    assert {tasks[f"{PILOT}.{step}"]["hostname"] for step in ("sync", "deploy")} == {PILOT}
    baked = time_of(tasks[f"{PILOT}.deploy"]["end_date"]) + timedelta(minutes=1)
    assert all(time_of(tasks[f"{site}.deploy"]["start_date"]) > baked for site in OTHERS)
    assert all(tasks[f"{site}.sync"]["end_date"] < tasks["bake"]["end_date"] for site in OTHERS)
    held = {
        release.digest for worker in (pilot, others) for release in ReleaseStore(worker.store).releases(MODEL)
    }
    served = {
        (Path(host.root) / "models" / MODEL / "current").resolve().name for host in place.emulator.hosts
    }
    assert len(held) == len(served) == 1


def test_a_site_that_fails_stops_no_other(sites, api, broken):
    broken("edge_02")

    state, tasks = run(sites, api, hyperparameters={"epochs": 6})

    assert state == "failed"
    assert tasks["lyon.deploy"]["state"] == "failed"
    assert tasks["porto.deploy"]["state"] == "success"


def test_where_the_policy_is_to_stop_no_site_begins_after_one_that_failed(sites, api, broken):
    broken("edge_02")

    state, tasks = run(sites, api, hyperparameters={"epochs": 7}, on_site_failure="stop")

    assert state == "failed"
    assert states(tasks) | {"lyon.deploy": "failed", "porto.deploy": "skipped"} == states(tasks)


def test_a_pilot_that_is_not_ready_costs_no_training(sites, api, broken):
    broken("edge_01")

    state, tasks = run(sites, api, hyperparameters={"epochs": 9})

    assert state == "failed"
    assert (tasks["preflight"]["state"], tasks["preflight"]["hostname"]) == ("failed", PILOT)
    assert {task["state"] for name, task in tasks.items() if name != "preflight"} == {"upstream_failed"}


def test_a_pilot_that_fails_leaves_every_other_site_alone(sites, api):
    # Of a version that no server of a host can load.
    state, tasks = run(sites, api, hyperparameters={"epochs": 8, "ir_version": 99})

    assert state == "failed"
    assert tasks[f"{PILOT}.deploy"]["state"] == "failed"
    assert {tasks[f"{site}.deploy"]["state"] for site in OTHERS} == {"upstream_failed"}
