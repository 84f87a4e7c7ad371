"""The compose file as it stands, on a real engine: it starts, trains, deploys, and leaves nothing."""

from __future__ import annotations

import json
import time

import httpx
import pytest

from playground import dataset
from playground.environment import BUCKET, MODEL

# The first run on a machine builds all images.
pytestmark = pytest.mark.timeout(1200)

ONE_SHOTS = {"secrets", "migrate", "site-key", "connections"}
HOSTS = ("edge-01", "edge-02")
CONF = {
    "data": f"s3://{BUCKET}/digits/data/full/",
    "hyperparameters": {"epochs": 40},
    "policy": {"waves": [1, "100%"], "bake_time": 1, "min_healthy_time": 1, "healthy_deadline": 30},
}
RUN_SECONDS = 420

# Asks one host's model server from within the host, with the requests on standard input.
ASK = """
import json, os, sys, urllib.request
asked = urllib.request.Request("http://127.0.0.1:8080/invocations", sys.stdin.buffer.read())
with urllib.request.urlopen(asked) as reply:
    predictions = json.load(reply)["predictions"]
with urllib.request.urlopen("http://127.0.0.1:8080/ping") as reply:
    served = reply.headers["X-Release-Id"]
current = os.path.basename(os.path.realpath(os.path.expanduser("~/models/%s/current")))
print(json.dumps({"predictions": predictions, "served": served, "current": current}))
"""


def test_every_service_is_healthy_and_every_preparation_has_ended_well(stack):
    containers = stack.containers()

    ended = {name for name, container in containers.items() if container["State"] == "exited"}
    assert ended == ONE_SHOTS
    assert all(containers[name]["ExitCode"] == 0 for name in ended)
    assert {containers[name]["Health"] for name in containers.keys() - ended} == {"healthy"}


def test_no_container_shows_a_secret_to_who_may_inspect_it(stack):
    secrets = stack.compose(
        "exec", "-T", "api-server", "sh", "-c", "cat /var/lib/hybrid/secrets/*_password /var/lib/hybrid/secrets/jwt_secret"
    ).split()  # fmt: skip
    shown = stack.engine.docker(
        "inspect", *(container["ID"] for container in stack.containers().values())
    ) + stack.compose("top")

    assert secrets
    assert not [secret for secret in secrets if secret in shown]


def test_every_service_runs_as_an_ordinary_user(stack):
    users = {
        name: stack.compose("exec", "-T", name, "id", "-u").strip()
        for name, container in stack.containers().items()
        if container["State"] == "running"
    }

    assert "0" not in users.values(), users


def test_a_wrong_password_is_refused(stack):
    asked = httpx.post(f"{stack.url}/auth/token", json={"username": "admin", "password": "admin"}, timeout=30)

    assert asked.status_code == 401


def test_a_run_asked_for_through_the_rest_api_turns_green_and_both_hosts_serve_its_release(stack, api):
    run = trigger(stack, api)

    state = wait_for_the_end(stack, api, run)

    assert state == "success", failure(stack, api, run)
    release = api.get(f"{run}/taskInstances/sync/xcomEntries/return_value").json()["value"]["release_id"]
    rows = dataset.held_out()
    for host in HOSTS:
        answer = ask(stack, host, rows)
        right = sum(a == b for a, b in zip(answer["predictions"], rows.labels.tolist(), strict=True))
        assert (answer["served"], answer["current"]) == (release, release)
        assert right / len(rows.labels) > 0.8


def test_down_leaves_no_container_no_network_and_no_volume(stack):
    stack.compose("down", "--volumes")

    docker = stack.engine.docker
    assert docker("ps", "--all", "--quiet") == ""
    assert docker("volume", "ls", "--quiet") == ""
    assert docker("network", "ls", "--filter", "type=custom", "--quiet") == ""


def trigger(stack, api):
    """Ask for a run as the UI's button does; the path of the run in the API."""
    deadline = time.monotonic() + 120
    while api.get("/dags/hybrid_retrain").status_code != 200:
        if time.monotonic() > deadline:
            pytest.fail(f"the DAG processor did not find hybrid_retrain\n{stack.explain()}")
        time.sleep(1)
    api.patch("/dags/hybrid_retrain", json={"is_paused": False}).raise_for_status()
    asked = api.post("/dags/hybrid_retrain/dagRuns", json={"logical_date": None, "conf": CONF})
    return f"/dags/hybrid_retrain/dagRuns/{asked.raise_for_status().json()['dag_run_id']}"


def wait_for_the_end(stack, api, run):
    deadline = time.monotonic() + RUN_SECONDS
    while (state := api.get(run).json()["state"]) in {"queued", "running"}:
        if time.monotonic() > deadline:
            pytest.fail(f"the run is still {state} after {RUN_SECONDS} s\n{failure(stack, api, run)}")
        time.sleep(1)
    return state


def failure(stack, api, run):
    """The tasks' states, the logs of those that are not green, and every container's."""
    tasks = api.get(f"{run}/taskInstances").json()["task_instances"]
    texts = [f"{task['task_id']}: {task['state']}" for task in tasks]
    for task in tasks:
        if task["state"] not in {"success", None} and task["try_number"]:
            log = api.get(f"{run}/taskInstances/{task['task_id']}/logs/{task['try_number']}").json()
            texts.append(json.dumps(log, indent=1)[-6000:])
    return "\n".join([*texts, stack.explain()])


def ask(stack, host, rows):
    requests = json.dumps({"instances": rows.pixels.tolist()})
    answer = stack.compose("exec", "-T", host, "python3", "-c", ASK % MODEL, given=requests)
    return json.loads(answer)
