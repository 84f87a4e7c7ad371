"""Training in real Airflow: killed workers, marked tasks, triggerers that die or hang; judged by the cloud's ledger."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from playground.airflow_services import airflow_services, stop
from tests.e2e.processes import children_of, process_of
from tests.servers import free_port

DAG = Path(__file__).parent / "dags" / "train_only.py"
RUN_SECONDS = 150
QUICK = {
    "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "6",
    "AIRFLOW__TRIGGERER__RUNNER_HEALTH_CHECK_THRESHOLD": "6",
    "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": "1",
    # Longer than a test's deferral: a task that resumes still carries the heartbeat from before it.
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "40",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "2",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_SEC": "2",
    "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "5",
}


@pytest.fixture(scope="module")
def airflow(place):
    """Airflow with short heartbeats."""
    shutil.copy(DAG, place.environment["AIRFLOW__CORE__DAGS_FOLDER"])
    place.environment.update(QUICK)
    with airflow_services(place, free_port()) as services:
        services.wait_until_healthy()
        yield services
    for name in QUICK:
        del place.environment[name]


@pytest.fixture(scope="module")
def api(airflow):
    token = httpx.get(f"{airflow.url}/auth/token", timeout=30).json()["access_token"]
    headers = {"Authorization": f"Bearer {token}"}
    with httpx.Client(base_url=f"{airflow.url}/api/v2/", headers=headers, timeout=30) as client:
        for dag in ("train_deferred", "train_waiting"):
            until(lambda dag=dag: client.get(f"dags/{dag}").status_code == 200, f"{dag} is there")
            client.patch(f"dags/{dag}", json={"is_paused": False}).raise_for_status()
        yield client


@contextmanager
def another_triggerer(place, airflow, name):
    """A triggerer beside the first."""
    environment = place.environment | {
        "AIRFLOW__API__BASE_URL": airflow.url,
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{airflow.url}/execution/",
    }
    with (airflow.logs / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(
            place.airflow("triggerer", "--skip-serve-logs"),
            env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
    try:
        yield process
    finally:
        stop([process])


def until(done, what, seconds=RUN_SECONDS):
    deadline = time.monotonic() + seconds
    while not (answer := done()):
        if time.monotonic() > deadline:
            pytest.fail(f"not within {seconds} s: {what}")
        time.sleep(0.2)
    return answer


class Run:
    """One run of a DAG, which is one task."""

    def __init__(self, api, cloud, way, **conf):
        self.api, self.cloud = api, cloud
        self.dag = f"dags/train_{way}"
        self.before = set(cloud.ledger.started)
        asked = api.post(f"{self.dag}/dagRuns", json={"logical_date": None, "conf": conf})
        self.id = asked.raise_for_status().json()["dag_run_id"]

    @property
    def path(self):
        return f"{self.dag}/dagRuns/{self.id}/taskInstances/train"

    @property
    def state(self):
        return self.api.get(self.path).json()["state"]

    def mark(self, state):
        self.api.patch(self.path, json={"new_state": state}).raise_for_status()

    def clear(self):
        body = {"dry_run": False, "task_ids": ["train"], "dag_run_id": self.id, "only_failed": False}
        self.api.post(f"{self.dag}/clearTaskInstances", json=body).raise_for_status()

    @property
    def jobs(self):
        tags = self.cloud.client("sagemaker")
        arn = "arn:aws:sagemaker:us-east-1:123456789012:training-job/"

        def mine(name):
            found = {tag["Key"]: tag["Value"] for tag in tags.list_tags(ResourceArn=f"{arn}{name}")["Tags"]}
            return found["hybrid:run"] == self.id

        return [job for job in self.cloud.ledger.entries if job.name not in self.before and mine(job.name)]

    def until(self, wanted):
        def reached():
            state = self.state
            if state in {"success", "failed"} and state != wanted:
                pytest.fail(f"{self.id} is {state} instead of {wanted}:\n" + "\n".join(self.log()[-20:]))
            return state == wanted

        until(reached, f"{self.id} is {wanted}")

    def log(self, attempt=1):
        reply = self.api.get(f"{self.path}/logs/{attempt}", params={"full_content": True})
        if reply.status_code == httpx.codes.NOT_FOUND:
            return []
        return [str(line.get("event", line)) for line in reply.raise_for_status().json()["content"]]

    def ticks(self):
        """The job's lines in the log of the last try: Airflow takes a task that resumes at once for a lost one."""
        attempt = self.api.get(self.path).json()["try_number"]
        return [line for line in self.log(attempt) if line.startswith("tick ")]

    def until_ticking(self):
        until(lambda: any(line.startswith("tick ") for line in self.log()), "the task shows the job's log")


@pytest.fixture
def run(api, place):
    return lambda task, **conf: Run(api, place.emulator, task, **conf)


def test_a_deferred_training_shows_each_line_once_and_hands_on_its_artifact(run, api):
    training = run("deferred", ticks=8)
    training.until("success")

    (job,) = training.jobs
    result = api.get(f"{training.path}/xcomEntries/return_value").json()["value"]
    assert result["job"] == job.name
    assert training.ticks() == [f"tick {number} of the job" for number in range(1, 9)]
    links = api.get(f"{training.path}/links").json()["extra_links"]
    assert job.name in links["SageMaker training job"]
    events = api.get("assets/events", params={"source_run_id": training.id}).json()["asset_events"]
    assert result["artifact"] in [event["extra"].get("artifact") for event in events]


def test_a_task_marked_failed_while_deferred_stops_its_job(run):
    training = run("deferred", ticks=200)
    training.until("deferred")
    training.until_ticking()
    training.mark("failed")

    (job,) = until(lambda: [job for job in training.jobs if not job.running], "the job was stopped")
    assert job.status == "Stopped"


def test_a_task_marked_failed_while_it_waits_stops_its_job(run):
    training = run("waiting", ticks=200)
    training.until_ticking()
    training.mark("failed")

    (job,) = until(lambda: [job for job in training.jobs if not job.running], "the job was stopped")
    assert job.status == "Stopped"


def test_a_cleared_training_stops_its_job_and_trains_again(run):
    training = run("deferred", ticks=12)
    training.until_ticking()
    training.clear()
    training.until("success")

    jobs = training.jobs
    assert sum(job.status == "Completed" for job in jobs) == 1
    assert not any(job.running for job in jobs)
    assert len(jobs) <= 2


def test_a_triggerer_that_hangs_hands_over_its_wait_and_stops_nothing_when_it_wakes(run, airflow, place):
    (loop,) = children_of(airflow.components["triggerer"].pid)
    training = run("deferred", ticks=90)
    training.until_ticking()
    with another_triggerer(place, airflow, "triggerer-2"):
        # Only the event loop: its parent, frozen in a write, would keep SQLite's only lock from all of Airflow.
        os.kill(loop, signal.SIGSTOP)
        try:
            shown = len(training.ticks())
            until(lambda: len(training.ticks()) > shown + 10, "the second triggerer goes on with the log")
        finally:
            os.kill(loop, signal.SIGCONT)
        training.until("success")

        (job,) = training.jobs
        assert job.status == "Completed"


def test_a_killed_worker_s_retry_adopts_the_job(run, api):
    training = run("waiting", ticks=60)
    training.until_ticking()
    os.kill(process_of(api.get(training.path).json()["id"]), signal.SIGKILL)
    training.until("success")

    (job,) = training.jobs
    assert job.status == "Completed"
    assert any(line.startswith(f"Adopted training job {job.name}") for line in training.log(attempt=2))


def test_a_failing_script_is_paid_once_though_retries_are_left(run):
    training = run("deferred", ticks=1, status=3)
    training.until("failed")

    (job,) = training.jobs
    assert job.status == "Failed"
