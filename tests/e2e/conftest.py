"""One embedded cloud with hosts and one Airflow home for the whole layer; DAGs run in this process or by a scheduler."""

from __future__ import annotations

import json
import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from playground.airflow_services import airflow_services
from playground.environment import playground
from tests.example_dags import by_hand
from tests.servers import free_port

SECONDS = 180


@pytest.fixture(scope="session")
def place(tmp_path_factory):
    """The playground; its environment is this process's from here on, before any import of Airflow."""
    folder = tmp_path_factory.mktemp("playground")
    dags = folder / "dags"
    shutil.copytree(Path(__file__).parents[2] / "dags", dags)
    for path in dags.glob("*.py"):
        path.write_text(by_hand(path.read_text()))
    with playground(folder) as started, pytest.MonkeyPatch.context() as patch:
        started.environment["AIRFLOW__CORE__DAGS_FOLDER"] = str(dags)
        started.environment["AIRFLOW_CONN_EDGE_02"] = with_key_text(
            started.environment["AIRFLOW_CONN_EDGE_02"]
        )
        for name, value in started.environment.items():
            patch.setenv(name, value)
        yield started


def with_key_text(connection: str) -> str:
    """The same ssh connection with its private key's text in it, which must then be seen nowhere else."""
    fields = json.loads(connection)
    key_file = Path(fields["extra"].pop("key_file"))
    return json.dumps(fields | {"extra": fields["extra"] | {"private_key": key_file.read_text()}})


@pytest.fixture(scope="module")
def airflow(place):
    """A real scheduler, DAG processor, triggerer and API server of that home, no longer than a module needs them.

    While they run, ``run_dag`` cannot: the scheduler takes its runs as well.
    """
    with airflow_services(place, free_port()) as services:
        services.wait_until_healthy()
        yield services


@pytest.fixture
def api(airflow):
    """Airflow's REST API, logged in."""
    token = httpx.get(f"{airflow.url}/auth/token", timeout=30).json()["access_token"]
    headers = {"Authorization": f"Bearer {token}"}
    with httpx.Client(base_url=f"{airflow.url}/api/v2", headers=headers, timeout=30) as client:
        yield client


@pytest.fixture
def until(airflow):
    """Waits until a condition holds, and gives what it gave; fails when that takes too long, or Airflow died."""

    def until(condition, what):
        deadline = time.monotonic() + SECONDS
        while not (found := condition()):
            airflow.check()
            if time.monotonic() > deadline:
                pytest.fail(f"{what} did not come in {SECONDS} s; logs in {airflow.logs}")
            time.sleep(0.5)
        return found

    return until


@dataclass(frozen=True)
class Ran:
    """One ``dag.test()``: its final state, the tasks' states, their XComs, and all that was logged."""

    state: str
    tasks: dict[str, str]
    xcoms: dict[str, Any]
    log: str


@pytest.fixture
def run_dag(place, capfd):
    """Runs a DAG to its end by ``dag.test()``, in this process."""

    def run(dag_id: str, conf: dict[str, Any] | None = None, *, retries: int | None = None) -> Ran:
        from airflow.dag_processing.dagbag import DagBag

        bag = DagBag(os.environ["AIRFLOW__CORE__DAGS_FOLDER"])
        if bag.import_errors:
            pytest.fail(str(bag.import_errors))
        dag = bag.dags[dag_id]
        for task in dag.tasks:
            task.retries = task.retries if retries is None else retries
        capfd.readouterr()
        dag_run = dag.test(run_conf=conf)
        instances = dag_run.get_task_instances()
        return Ran(
            state=str(dag_run.state),
            tasks={instance.task_id: str(instance.state) for instance in instances},
            xcoms={instance.task_id: instance.xcom_pull(instance.task_id) for instance in instances},
            log=capfd.readouterr().out,
        )

    return run
