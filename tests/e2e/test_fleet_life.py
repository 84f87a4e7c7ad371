"""A fleet in real Airflow: mapped, baked in the triggerer, taken back, audited and killed; judged by hosts and asset state."""

from __future__ import annotations

import os
import shutil
import signal
import time
from pathlib import Path

import httpx
import pytest

from playground.airflow_services import airflow_services
from tests.e2e.processes import process_of
from tests.integration.sshhosts import leftovers, lock_is_free
from tests.releases import network, stored_release
from tests.servers import free_port

DAGS = (
    "fleet_mapped",
    "fleet_models",
    "fleet_life",
    "fleet_canary",
    "fleet_killed",
    "fleet_lost",
    "fleet_deferred",
)
RUN_SECONDS = 240
SLOW = {
    "min_healthy_time": 45,
    "healthy_deadline": 60,
    "progress_deadline": 120,
    "bake_time": 45,
    "drain": 0,
}
HOSTS = ["edge_01", "edge_02"]


@pytest.fixture(scope="module")
def airflow(place):
    shutil.copy(Path(__file__).parent / "dags/fleet_life.py", place.environment["AIRFLOW__CORE__DAGS_FOLDER"])
    with airflow_services(place, free_port()) as services:
        services.wait_until_healthy()
        yield services


@pytest.fixture(scope="module")
def api(airflow):
    token = httpx.get(f"{airflow.url}/auth/token", timeout=30).json()["access_token"]
    headers = {"Authorization": f"Bearer {token}"}
    with httpx.Client(base_url=f"{airflow.url}/api/v2/", headers=headers, timeout=30) as client:
        for dag in DAGS:
            until(lambda dag=dag: client.get(f"dags/{dag}").status_code == 200, f"{dag} is there")
            client.patch(f"dags/{dag}", json={"is_paused": False}).raise_for_status()
        yield client


@pytest.fixture(scope="module")
def releases(place, tmp_path_factory):
    """The ids of three releases in the store, the oldest first."""
    folder = tmp_path_factory.mktemp("made")
    store = Path(place.environment["AIRFLOW__HYBRID__STORE_ROOT"])
    made = (stored_release(folder, store, {"model.onnx": network(n)}, n) for n in (1, 2, 3))
    return [release.release_id for release in made]


def until(done, what, seconds=RUN_SECONDS):
    deadline = time.monotonic() + seconds
    while not (answer := done()):
        if time.monotonic() > deadline:
            pytest.fail(f"not within {seconds} s: {what}")
        time.sleep(0.2)
    return answer


class Run:
    """One run of a DAG."""

    def __init__(self, api, dag, **conf):
        self.api = api
        asked = api.post(f"dags/{dag}/dagRuns", json={"logical_date": None, "conf": conf})
        self.id = asked.raise_for_status().json()["dag_run_id"]
        self.path = f"dags/{dag}/dagRuns/{self.id}"

    @property
    def tasks(self):
        return self.api.get(f"{self.path}/taskInstances").json()["task_instances"]

    def until_ended(self, wanted="success"):
        def ended():
            state = self.api.get(self.path).json()["state"]
            return state if state in {"success", "failed"} else None

        state = until(ended, f"{self.id} has ended")
        if state != wanted:
            logs = {task["task_id"]: self.log(task["task_id"])[-20:] for task in self.tasks}
            pytest.fail(f"{self.id} ended as {state}: {logs}")
        return self

    def log(self, task, attempt=1):
        reply = self.api.get(
            f"{self.path}/taskInstances/{task}/logs/{attempt}", params={"full_content": True}
        )
        if reply.status_code == httpx.codes.NOT_FOUND:
            return []
        return [str(line.get("event", line)) for line in reply.raise_for_status().json()["content"]]

    def mark(self, task, state):
        """As a person does on the page of the run."""
        self.api.patch(f"{self.path}/taskInstances/{task}", json={"new_state": state}).raise_for_status()

    def result(self, task, map_index=-1):
        path = f"{self.path}/taskInstances/{task}/xcomEntries/return_value"
        return self.api.get(path, params={"map_index": map_index}).raise_for_status().json()["value"]


class Fleet:
    """What the hosts have, and what the model's asset says of them."""

    def __init__(self, api, place):
        self.api, self.folders = api, [Path(host.root) / "models/digits" for host in place.hosts.values()]

    @property
    def live(self):
        return [(folder / "current").resolve().name for folder in self.folders]

    def until_left_clean(self, releases):
        """Each host is on its whole release, and no lock, lease, staging or activation is left on any."""
        until(lambda: self.live == releases, f"the hosts are on {releases}")
        for folder in self.folders:
            until(lambda folder=folder: lock_is_free(folder), f"the lock of {folder} is free")
            until(lambda folder=folder: not leftovers(folder), f"{folder} is as it was")

    @property
    def asset(self):
        found = self.api.get("assets", params={"uri_pattern": "hybrid://model/digits"}).json()["assets"]
        return next(asset["id"] for asset in found if asset["uri"] == "hybrid://model/digits")

    def row(self, key):
        reply = self.api.get(f"assets/{self.asset}/state-store/{key}")
        return (
            None if reply.status_code == httpx.codes.NOT_FOUND else reply.raise_for_status().json()["value"]
        )

    def events_of(self, run):
        asked = {"source_run_id": run.id, "asset_id": self.asset, "order_by": "timestamp"}
        events = self.api.get("assets/events", params=asked).json()["asset_events"]
        return [(event["extra"].get("kind"), event["extra"].get("state")) for event in events]


@pytest.fixture
def fleet(api, place):
    return Fleet(api, place)


@pytest.fixture
def run(api):
    return lambda dag, **conf: Run(api, dag, **conf)


def test_a_deploy_mapped_over_target_groups_moves_each_in_a_task_of_its_own(run, fleet, releases):
    mapped = run("fleet_mapped", release=releases[0]).until_ended()

    results = [mapped.result("deploy", index) for index in range(2)]
    assert [[target["name"] for target in result["targets"]] for result in results] == [[h] for h in HOSTS]
    assert fleet.live == [releases[0]] * 2
    rows = [fleet.row(f"host/{host}") for host in HOSTS]
    assert [row["release"] for row in rows] == [releases[0]] * 2
    assert len({row["rollout"] for row in rows}) == 2
    assert fleet.events_of(mapped) == [("deploy", "SUCCEEDED")] * 2


def test_a_deploy_mapped_over_models_moves_and_tells_of_each_model_by_itself(
    run, fleet, api, place, tmp_path
):
    store = Path(place.environment["AIRFLOW__HYBRID__STORE_ROOT"])
    made = {
        model: stored_release(tmp_path, store, {"model.onnx": model.encode()}, 9, model).release_id
        for model in ("voices", "faces")
    }

    mapped = run("fleet_models").until_ended()

    for index, (model, host) in enumerate(zip(made, place.hosts, strict=True)):
        result = mapped.result("deploy", index)
        assert (result["model"], result["release_id"]) == (model, made[model])
        assert (Path(place.hosts[host].root) / f"models/{model}/current").resolve().name == made[model]
    told = api.get("assets/events", params={"source_run_id": mapped.id}).json()["asset_events"]
    assert {event["uri"]: event["extra"]["release"] for event in told} == {
        f"hybrid://model/{model}": release for model, release in made.items()
    }
    found = api.get("assets", params={"uri_pattern": "hybrid://model/faces"}).json()["assets"]
    row = api.get(f"assets/{found[0]['id']}/state-store/host/edge_02").raise_for_status().json()["value"]
    assert row["release"] == made["faces"]


def test_a_fleet_is_deployed_baked_in_the_triggerer_audited_and_taken_back(run, fleet, releases):
    first, second, _ = releases
    run("fleet_mapped", release=first).until_ended()

    life = run("fleet_life", release=second).until_ended()

    log = "\n".join(life.log("deploy"))
    assert "waiting for that in the triggerer" in log
    deployed, back = life.result("deploy"), life.result("back")
    # After the bake another process went on with it, and found the canary as it had left it.
    assert deployed["targets"][0]["state"] == "ALREADY_CURRENT"
    assert (deployed["state"], back["state"]) == ("SUCCEEDED", "ROLLED_BACK")
    looks = [life.result("look"), life.result("look_again")]
    assert [[target["release"] for target in look["targets"]] for look in looks] == [
        [second] * 2,
        [first] * 2,
    ]
    assert [look["drift"] for look in looks] == [[], []]
    assert fleet.live == [first] * 2
    rows = [fleet.row(f"host/{host}") for host in HOSTS]
    assert [(row["release"], row["previous"], row["probe"]["healthy"]) for row in rows] == [
        (first, second, True)
    ] * 2
    last = fleet.row("rollout")
    assert (last["kind"], last["state"], last["task_id"]) == ("rollback", "ROLLED_BACK", "back")
    assert fleet.events_of(life) == [
        ("deploy", "SUCCEEDED"),
        ("audit", "SUCCEEDED"),
        ("rollback", "ROLLED_BACK"),
        ("audit", "SUCCEEDED"),
    ]


def test_a_canary_that_nobody_wants_goes_back_and_the_rest_is_not_touched(run, fleet, releases):
    first, second, third = releases
    run("fleet_mapped", release=first).until_ended()
    run("fleet_mapped", release=second).until_ended()

    canary = run("fleet_canary", release=third).until_ended()

    assert canary.result("canary")["state"] == "PAUSED"
    states = [target["state"] for target in canary.result("back")["targets"]]
    assert (states, fleet.live) == (["SUCCEEDED", "SKIPPED"], [second] * 2)


def test_a_task_that_is_killed_leaves_each_host_on_one_whole_release_and_its_lock_free(
    run, api, fleet, releases
):
    first, second, _ = releases
    run("fleet_mapped", release=first).until_ended()
    killed = run("fleet_killed", release=second, policy=SLOW)
    until(lambda: fleet.live[0] == second, "the canary is being proved")

    killed.mark("deploy", "failed")

    fleet.until_left_clean([first] * 2)


def test_a_worker_that_is_killed_in_a_switch_is_retried_and_leaves_nothing_behind(run, api, fleet, releases):
    """As by the kernel when memory runs out: nothing of the task's process gets to clean up."""
    first, second, _ = releases
    run("fleet_mapped", release=first).until_ended()
    lost = run("fleet_lost", release=second, policy={**SLOW, "min_healthy_time": 5, "bake_time": 0})
    until(lambda: fleet.live[0] == second, "the canary is being proved")
    assert leftovers(fleet.folders[0])

    os.kill(process_of(lost.tasks[0]["id"]), signal.SIGKILL)

    lost.until_ended()
    assert lost.tasks[0]["try_number"] == 2
    fleet.until_left_clean([second] * 2)
    assert [target["state"] for target in lost.result("deploy")["targets"]] == ["SUCCEEDED"] * 2


def test_a_task_that_is_killed_while_it_waits_holds_nothing_and_the_next_deploy_closes_its_rollout(
    run, api, fleet, releases
):
    first, second, third = releases
    run("fleet_mapped", release=first).until_ended()
    bakes = {**SLOW, "min_healthy_time": 0, "bake_time": 600}
    waiting = run("fleet_deferred", release=second, policy=bakes)
    until(lambda: waiting.tasks[0]["state"] == "deferred", "the canary bakes in the triggerer")
    # Nothing is held while it waits, whoever kills it.
    fleet.until_left_clean([second, first])

    waiting.mark("deploy", "failed")

    waiting.until_ended("failed")
    left = fleet.row("rollout")
    assert (left["state"], left["run_id"]) == ("BAKING", waiting.id)
    fleet.until_left_clean([second, first])
    run("fleet_killed", release=third, policy={**SLOW, "min_healthy_time": 0, "bake_time": 0}).until_ended()
    assert fleet.row("rollout")["closed"] == {"rollout": left["rollout"], "state": "ABORTED"}
    fleet.until_left_clean([third] * 2)
