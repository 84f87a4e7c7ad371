"""The amazon provider's own operator and sensor, unchanged, against the emulated SageMaker.

All runs start together, in threads, and each test looks at one of them.
"""

from __future__ import annotations

import json
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.amazon.aws.operators.sagemaker import SageMakerTrainingOperator
from airflow.providers.amazon.aws.sensors.sagemaker import SageMakerTrainingSensor
from airflow.providers.common.compat.sdk import AirflowException
from structlog.testing import capture_logs

from tests.training_jobs import Training

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, MutableMapping

    from hybrid_provider.emulator import Emulator

SAYS_AND_TRAINS = """
import os
from pathlib import Path
print("line of", os.environ["TRAINING_JOB_NAME"])
(Path(os.environ["SM_MODEL_DIR"]) / "model.txt").write_text("model")
"""
FAILS = "raise ValueError('the data is upside down')"
WAITS = "import signal; print('waiting', flush=True); signal.pause()"


@dataclass(frozen=True)
class Runs:
    """The operators' and sensors' runs by name, each with its job's name."""

    futures: dict[str, Future[Any]]
    jobs: dict[str, str]
    log: list[MutableMapping[str, Any]]

    def result(self, run: str) -> Any:
        return self.futures[run].result(timeout=150)


@pytest.fixture(scope="module")
def runs(emulator: Emulator, amazon_in_haste: None) -> Iterator[Runs]:
    training = Training(emulator)
    with pytest.MonkeyPatch.context() as patch, capture_logs() as log, ThreadPoolExecutor(8) as pool:
        extra = {"region_name": emulator.environment["AWS_DEFAULT_REGION"]}
        connection = {
            "conn_type": "aws",
            "login": emulator.environment["AWS_ACCESS_KEY_ID"],
            "password": emulator.environment["AWS_SECRET_ACCESS_KEY"],
            "extra": extra,
        }
        patch.setenv("AIRFLOW_CONN_AWS_DEFAULT", json.dumps(connection))
        for name, value in emulator.environment.items():
            patch.setenv(name, value)

        def operator(script: str, *, print_log: bool) -> tuple[str, Callable[[], Any]]:
            request = training.request(script)
            task = SageMakerTrainingOperator(
                task_id=f"train-{request['TrainingJobName']}",
                config=request,
                check_interval=1,
                print_log=print_log,
                deferrable=False,
            )
            return request["TrainingJobName"], lambda: task.execute({})

        def sensor(script: str, *, print_log: bool) -> tuple[str, Callable[[], Any]]:
            job = training.start(script)
            task = SageMakerTrainingSensor(
                task_id=f"wait-{job}", job_name=job, print_log=print_log, poke_interval=1
            )
            return job, lambda: task.execute({})

        started = {
            "operator with logs": operator(SAYS_AND_TRAINS, print_log=True),
            "operator": operator(SAYS_AND_TRAINS, print_log=False),
            "failing operator": operator(FAILS, print_log=True),
            "stopped operator": operator(WAITS, print_log=True),
            "sensor": sensor(SAYS_AND_TRAINS, print_log=True),
            "failing sensor": sensor(FAILS, print_log=False),
            "stopped sensor": sensor(WAITS, print_log=False),
        }
        futures = {name: pool.submit(execute) for name, (_, execute) in started.items()}
        jobs = {name: job for name, (job, _) in started.items()}
        for name in ("stopped operator", "stopped sensor"):
            training.wait_for_log(jobs[name], "waiting")
            training.sagemaker.stop_training_job(TrainingJobName=jobs[name])
        yield Runs(futures, jobs, log)


def test_the_operator_trains_and_returns_the_description(runs: Runs) -> None:
    described = runs.result("operator")["Training"]
    assert described["TrainingJobStatus"] == "Completed"
    assert described["ModelArtifacts"]["S3ModelArtifacts"].endswith(
        f"/{runs.jobs['operator']}/output/model.tar.gz"
    )


def test_the_operator_prints_the_scripts_log(runs: Runs) -> None:
    described = runs.result("operator with logs")["Training"]
    assert described["TrainingJobStatus"] == "Completed"
    own_line = f"line of {runs.jobs['operator with logs']}"
    assert [entry["event"] for entry in runs.log].count(own_line) == 1


def test_the_operator_fails_with_the_scripts_reason(runs: Runs) -> None:
    with pytest.raises(AirflowException, match="ValueError: the data is upside down"):
        runs.result("failing operator")


def test_the_operator_fails_when_the_job_is_stopped(runs: Runs) -> None:
    with pytest.raises(AirflowException, match="Stopped"):
        runs.result("stopped operator")


def test_the_sensor_sees_the_end(runs: Runs) -> None:
    assert runs.result("sensor") is None


def test_the_sensor_fails_with_the_scripts_reason(runs: Runs) -> None:
    with pytest.raises(AirflowException, match="ValueError: the data is upside down"):
        runs.result("failing sensor")


def test_the_sensor_fails_when_the_job_is_stopped(runs: Runs) -> None:
    with pytest.raises((AirflowException, KeyError)):
        runs.result("stopped sensor")
