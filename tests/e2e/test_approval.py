"""The example DAG with an approval, by the scheduler and the REST API: approved, rejected, and answered by nobody in time."""

from __future__ import annotations

import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest

from hybrid_provider.artifacts.store import ReleaseStore
from playground.airflow_services import airflow_services
from playground.environment import BUCKET
from tests.servers import free_port

DAG = "hybrid_retrain_with_approval"
# Nobody answers in the copy of the DAG that ends so; it is short enough to be waited for.
UNHEARD = f"{DAG}_unheard"
POLICY = {"waves": [1, "100%"], "bake_time": 0, "min_healthy_time": 0, "healthy_deadline": 15, "drain": 0}


@pytest.fixture(scope="module")
def alerts():
    """A server that stands for the webhook of hybrid_alerts: its URL, and what was posted to it."""
    posted = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            posted.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *arguments):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", posted
        server.shutdown()


@pytest.fixture(scope="module")
def airflow(place, alerts):
    """All of Airflow, with a copy of the DAG that waits for two seconds and is late after one."""
    dags = Path(place.environment["AIRFLOW__CORE__DAGS_FOLDER"])
    text = (dags / f"{DAG}.py").read_text().replace("check_interval=10", "check_interval=1")
    (dags / f"{DAG}.py").write_text(text)
    (dags / f"{UNHEARD}.py").write_text(
        text.replace(f'"{DAG}"', f'"{UNHEARD}"')
        .replace("hours=12", "seconds=2")
        .replace("interval=timedelta(days=1)", "interval=timedelta(seconds=1)")
    )
    hook = {"AIRFLOW_CONN_HYBRID_ALERTS": json.dumps({"conn_type": "http", "host": alerts[0]})}
    with airflow_services(place, free_port(), hook) as services:
        services.wait_until_healthy()
        yield services
    (dags / f"{UNHEARD}.py").unlink()


@pytest.fixture
def run(api, until):
    """Starts a run of a DAG; returns its path in the API."""

    def run(dag, epochs):
        until(lambda: api.get(f"/dags/{dag}").status_code == 200, dag)
        api.patch(f"/dags/{dag}", json={"is_paused": False}).raise_for_status()
        conf = {
            "hyperparameters": {"epochs": epochs},
            "policy": POLICY,
            "data": f"s3://{BUCKET}/digits/data/full/",
        }
        asked = api.post(f"/dags/{dag}/dagRuns", json={"logical_date": None, "conf": conf})
        return f"/dags/{dag}/dagRuns/{asked.raise_for_status().json()['dag_run_id']}"

    return run


@pytest.fixture
def ended(api, until):
    """The states of a run's tasks, when it has ended well."""

    def ended(path):
        state = until(
            lambda: (found := api.get(path).json()["state"]) in {"success", "failed"} and found,
            f"the end of {path}",
        )
        tasks = api.get(f"{path}/taskInstances").json()["task_instances"]
        assert state == "success", tasks
        return {task["task_id"]: task["state"] for task in tasks}

    return ended


def served(place):
    """The release that each host answers with."""
    answers = [httpx.get(f"{host.model_server_url}/ping", timeout=30) for host in place.emulator.hosts]
    return [answer.headers.get("X-Release-Id") for answer in answers]


@pytest.fixture
def asked_about(api, airflow, until):
    """Gives what is asked of a person in a run, when it is.

    The scheduler has then seen that the question's process has ended. A task that was answered before, and so
    queued anew, is taken by Airflow for one that was lost; no person is as quick as this test.
    """

    def asked_about(path):
        seen = f"task_id=approval, run_id={path.rpartition('/')[2]},"

        def asked():
            answer = api.get(f"{path}/taskInstances/approval/-1/hitlDetails")
            told = (airflow.logs / "scheduler.log").read_text().splitlines()
            done = any("TaskInstance Finished" in line and seen in line for line in told)
            return answer.json() if answer.status_code == 200 and done else None

        return until(asked, "the question")

    return asked_about


def answer(api, path, option):
    details = f"{path}/taskInstances/approval/-1/hitlDetails"
    api.patch(details, json={"chosen_options": [option]}).raise_for_status()


# Three trainings with all that follows take some four minutes, on a busy machine more.
@pytest.mark.timeout(900)
def test_the_fleet_follows_an_approval_and_a_canary_that_nobody_approved_is_taken_back(
    place, api, asked_about, run, ended
):
    path = run(DAG, 20)
    body = asked_about(path)["body"]
    canary = api.get(f"{path}/taskInstances/canary/xcomEntries/return_value").json()["value"]
    approved = canary["release_id"]
    assert f"Release **{approved}** passed the gate: validation:accuracy is 0." in body
    assert "| edge_01 | healthy: it serves the release |" in body
    assert served(place)[0] == approved != served(place)[1]
    answer(api, path, "Approve")
    assert ended(path)["take_back"] == "skipped"
    assert served(place) == [approved, approved]
    # Who that was: in Airflow's own record, and from there in the evidence of what was activated after it.
    details = api.get(f"{path}/taskInstances/approval/-1/hitlDetails").json()
    who = details["responded_by_user"]["name"]
    chain = ReleaseStore(Path(place.environment["AIRFLOW__HYBRID__STORE_ROOT"])).evidence
    activated = [entry.facts for entry in chain.entries() if entry.kind == "activated"]
    # Other tests of the session have the same store.
    ours = [facts for facts in activated if facts["digest"] == canary["digest"]]
    assert [(facts["target"], facts.get("approved_by")) for facts in ours] == [
        ("edge_01", None),
        ("edge_02", who),
    ]

    path = run(DAG, 21)
    body = asked_about(path)["body"]
    assert f"| metric | candidate | champion {approved} |" in body
    # Both metrics, the candidate's first.
    assert re.search(r"\| validation:accuracy \| 0\.\d+ \| 0\.\d+ \|", body)
    assert served(place)[0] != approved
    answer(api, path, "Reject")
    assert (ended(path)["fleet"], served(place)) == ("skipped", [approved, approved])

    path = run(UNHEARD, 22)
    assert (ended(path)["fleet"], served(place)) == ("skipped", [approved, approved])
    # What was taken back is the champion still: the next candidate is held against it.
    events = api.get("/assets/events", params={"limit": 100}).raise_for_status().json()["asset_events"]
    told = [
        event["extra"]
        for event in events
        if event["extra"].get("kind") and event["source_dag_id"] in {DAG, UNHEARD}
    ]
    assert sorted((one["kind"], one["release"], one["approved_by"] or "") for one in told) == [
        ("deploy", approved, who),
        ("rollback", approved, ""),
        ("rollback", approved, ""),
    ]


def test_a_run_that_is_late_is_told_to_the_webhook_by_the_triggerer(api, run, alerts, until):
    _, posted = alerts
    path = run(UNHEARD, 1)
    run_id = path.rpartition("/")[2]
    told = until(lambda: [one for one in posted if one["run_id"] == run_id], "the alert of the deadline")
    api.patch(path, json={"state": "failed"}).raise_for_status()
    assert told[0]["title"] == "The retrained digits is not live within a day"
    assert (told[0]["good"], told[0]["dag_id"]) == (False, UNHEARD)
    links = told[0]["links"]
    assert links["Run"].endswith(f"/dags/{UNHEARD}/runs/{quote(run_id, safe='')}")
    assert links["Fleet"].endswith("/plugin/model-fleet?model=digits")
