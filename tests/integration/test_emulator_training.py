"""The emulated SageMaker through plain boto3: what a training job does, leaves and reports."""

from __future__ import annotations

import io
import tarfile
import threading
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from hybrid_provider.emulator import Emulator
from hybrid_provider.emulator.sagemaker.container import run_on_this_machine
from tests.training_jobs import IMAGE, Training, channel

if TYPE_CHECKING:
    from pathlib import Path

    from hybrid_provider.emulator.sagemaker.container import Container, Runner

# Ends only when it is told to, and then writes its model: what a script with checkpoints does.
PATIENT_SCRIPT = """
import os, signal, sys
from pathlib import Path

def save(*_):
    (Path(os.environ["SM_MODEL_DIR"]) / "model.txt").write_text("saved on SIGTERM")
    sys.exit(0)

signal.signal(signal.SIGTERM, save)
print("waiting")
while True:
    signal.pause()
"""
STUBBORN_SCRIPT = """
import os, signal
from pathlib import Path

signal.signal(signal.SIGTERM, signal.SIG_IGN)
(Path(os.environ["SM_MODEL_DIR"]) / "model.txt").write_text("saved before")
print("waiting")
while True:
    signal.pause()
"""


@pytest.fixture(scope="module")
def training(emulator: Emulator) -> Training:
    return Training(emulator)


def members(training: Training, uri: str) -> dict[str, bytes]:
    """The files in a model.tar.gz."""
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    body = training.s3.get_object(Bucket=bucket, Key=key)["Body"].read()
    with tarfile.open(fileobj=io.BytesIO(body)) as tar:
        return {member.name: tar.extractfile(member).read() for member in tar if member.isfile()}


def test_a_script_trains_from_its_channel_and_leaves_its_model(training: Training) -> None:
    name = training.start()
    job = training.wait(name)

    assert job["TrainingJobStatus"] == "Completed", job.get("FailureReason")
    uri = job["ModelArtifacts"]["S3ModelArtifacts"]
    assert uri == f"s3://{training.bucket}/models/{name}/output/model.tar.gz"
    assert members(training, uri) == {"model.txt": b"3"}


def test_a_job_passes_through_the_states_of_the_service_with_a_message_for_each(training: Training) -> None:
    job = training.wait(training.start())

    transitions = job["SecondaryStatusTransitions"]
    states = [entry["Status"] for entry in transitions]
    assert list(dict.fromkeys(states)) == [
        "Starting",
        "Pending",
        "Downloading",
        "Training",
        "Uploading",
        "Completed",
    ]
    messages = [entry["StatusMessage"] for entry in transitions]
    assert len(set(messages)) == len(messages)
    assert all(entry["StartTime"] <= entry["EndTime"] for entry in transitions)
    assert (
        job["CreationTime"] <= job["TrainingStartTime"] <= job["TrainingEndTime"] <= job["LastModifiedTime"]
    )
    assert job["BillableTimeInSeconds"] == job["TrainingTimeInSeconds"] >= 1


def test_the_last_value_of_each_metric_is_reported(training: Training) -> None:
    definitions = [
        {"Name": "loss", "Regex": "loss=([0-9.]+)"},
        {"Name": "rows", "Regex": "rows=([0-9]+)"},
        {"Name": "never", "Regex": "never=([0-9]+)"},
    ]
    job = training.wait(
        training.start(
            AlgorithmSpecification={
                "TrainingImage": IMAGE,
                "TrainingInputMode": "File",
                "MetricDefinitions": definitions,
            }
        )
    )

    metrics = {entry["MetricName"]: entry["Value"] for entry in job["FinalMetricDataList"]}
    assert metrics == {"rows": 3.0, "loss": 0.25}
    assert job["AlgorithmSpecification"]["MetricDefinitions"] == definitions


def test_every_line_is_in_the_log_once_and_in_order(training: Training) -> None:
    name = training.start("for number in range(500): print('line', number)")
    training.wait(name)

    (stream,) = training.log_streams(name)
    assert stream.startswith(f"{name}/algo-1-")
    lines = [line for line in training.log_lines(name) if line.startswith("line ")]
    assert lines == [f"line {number}" for number in range(500)]


def test_a_failing_script_gives_its_traceback_as_the_reason(training: Training) -> None:
    job = training.wait(training.start("raise ValueError('the data is upside down')"))

    assert job["TrainingJobStatus"] == job["SecondaryStatus"] == "Failed"
    assert job["FailureReason"].startswith("AlgorithmError: ")
    assert "ValueError: the data is upside down" in job["FailureReason"]
    assert len(job["FailureReason"]) <= 1024
    assert "ModelArtifacts" not in job


def test_an_empty_model_folder_leaves_no_object(training: Training) -> None:
    name = training.start("print('nothing to keep')")
    job = training.wait(name)

    assert job["TrainingJobStatus"] == "Completed"
    assert job["ModelArtifacts"]["S3ModelArtifacts"].endswith("/output/model.tar.gz")
    assert training.keys(f"models/{name}/") == []


def test_an_uncompressed_model_is_left_as_its_files(training: Training) -> None:
    output = {"S3OutputPath": f"s3://{training.bucket}/models", "CompressionType": "NONE"}
    name = training.start(OutputDataConfig=output)
    job = training.wait(name)

    assert job["ModelArtifacts"]["S3ModelArtifacts"] == f"s3://{training.bucket}/models/{name}/output/model/"
    assert training.keys(f"models/{name}/") == [f"models/{name}/output/model/model.txt"]


def test_a_missing_output_bucket_fails_the_job_when_it_uploads(training: Training) -> None:
    job = training.wait(
        training.start(OutputDataConfig={"S3OutputPath": "s3://no-such-bucket-anywhere/models"})
    )

    assert job["TrainingJobStatus"] == "Failed"
    assert job["FailureReason"].startswith("ClientError: Artifact upload failed:")


def test_a_stopped_job_may_save_its_model(training: Training) -> None:
    name = training.start(PATIENT_SCRIPT)
    training.wait_for_log(name, "waiting")
    training.sagemaker.stop_training_job(TrainingJobName=name)
    assert training.describe(name)["TrainingJobStatus"] in {"Stopping", "Stopped"}
    job = training.wait(name)

    assert job["TrainingJobStatus"] == job["SecondaryStatus"] == "Stopped"
    states = [entry["Status"] for entry in job["SecondaryStatusTransitions"]]
    assert states[-3:] == ["Stopping", "Uploading", "Stopped"]
    assert members(training, job["ModelArtifacts"]["S3ModelArtifacts"]) == {"model.txt": b"saved on SIGTERM"}


def test_a_job_whose_time_is_up_is_stopped_as_such(training: Training) -> None:
    job = training.wait(training.start(PATIENT_SCRIPT, StoppingCondition={"MaxRuntimeInSeconds": 3}))

    assert (job["TrainingJobStatus"], job["SecondaryStatus"]) == ("Stopped", "MaxRuntimeExceeded")
    assert members(training, job["ModelArtifacts"]["S3ModelArtifacts"]) == {"model.txt": b"saved on SIGTERM"}


def test_a_script_that_ignores_sigterm_is_killed_after_the_grace_and_keeps_its_model(tmp_path: Path) -> None:
    with Emulator(tmp_path, hosts=0, stop_grace=timedelta(seconds=0.2)) as impatient:
        training = Training(impatient)
        name = training.start(STUBBORN_SCRIPT)
        training.wait_for_log(name, "waiting")
        training.sagemaker.stop_training_job(TrainingJobName=name)
        job = training.wait(name)

        assert job["TrainingJobStatus"] == "Stopped"
        assert members(training, job["ModelArtifacts"]["S3ModelArtifacts"]) == {"model.txt": b"saved before"}


def test_each_instance_runs_the_script_and_has_a_log_of_its_own(training: Training) -> None:
    script = """
import os
from pathlib import Path
host = os.environ["SM_CURRENT_HOST"]
print("I am", host, "of", os.environ["SM_HOSTS"])
(Path(os.environ["SM_MODEL_DIR"]) / f"{host}.txt").write_text(host)
"""
    resources = {"InstanceType": "ml.m5.large", "InstanceCount": 2, "VolumeSizeInGB": 1}
    name = training.start(script, ResourceConfig=resources)
    job = training.wait(name)

    assert sorted(stream.rpartition("-")[0] for stream in training.log_streams(name)) == [
        f"{name}/algo-1",
        f"{name}/algo-2",
    ]
    said = {line for line in training.log_lines(name) if line.startswith("I am")}
    assert said == {f'I am algo-{number} of ["algo-1","algo-2"]' for number in (1, 2)}
    assert set(members(training, job["ModelArtifacts"]["S3ModelArtifacts"])) == {"algo-1.txt", "algo-2.txt"}
    (entry,) = [entry for entry in training.emulator.ledger.entries if entry.name == name]
    assert entry.billed_seconds == 2 * job["BillableTimeInSeconds"]


def test_a_script_sees_its_hyperparameters_and_environment_and_nothing_of_this_process(
    training: Training, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_OF_THE_TESTS", "1")
    script = (
        "import os, sys; print(sys.argv[1:], os.environ['GREETING'], 'SECRET_OF_THE_TESTS' in os.environ)"
    )
    request = training.request(script, Environment={"GREETING": "hello"})
    request["HyperParameters"] |= {"epochs": "5", "name": '"a b"'}
    training.sagemaker.create_training_job(**request)
    training.wait(request["TrainingJobName"])

    assert "['--epochs', '5', '--name', 'a b'] hello False" in training.log_lines(request["TrainingJobName"])


def test_an_image_with_an_entry_point_runs_it_instead_of_the_toolkit(training: Training) -> None:
    algorithm = {
        "TrainingImage": IMAGE,
        "TrainingInputMode": "File",
        "ContainerEntrypoint": ["sh", "-c"],
        "ContainerArguments": ["echo my own entry point; exit 3"],
    }
    name = training.start(AlgorithmSpecification=algorithm)
    job = training.wait(name)

    assert training.log_lines(name) == ["my own entry point"]
    assert job["TrainingJobStatus"] == "Failed"
    assert job["FailureReason"].endswith("exit code: 3")


def test_an_entry_point_that_is_not_there_fails_the_job(training: Training) -> None:
    algorithm = {
        "TrainingImage": IMAGE,
        "TrainingInputMode": "File",
        "ContainerEntrypoint": ["/no/such/program"],
    }
    job = training.wait(training.start(AlgorithmSpecification=algorithm))

    assert job["TrainingJobStatus"] == "Failed"
    assert job["FailureReason"].startswith("AlgorithmError: ")
    assert training.log_lines(job["TrainingJobName"]) == ["/no/such/program: No such file or directory"]


def test_a_channel_is_a_folder_with_the_names_below_its_prefix(training: Training) -> None:
    for key in ("tree/a.csv", "tree/b/c.csv", "tree-other/d.csv"):
        training.s3.put_object(Bucket=training.bucket, Key=key, Body=b"x")
    script = """
import os
from pathlib import Path
root = Path(os.environ["SM_CHANNEL_TREE"])
print("files", sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()))
"""
    name = training.start(script, InputDataConfig=[channel("tree", f"s3://{training.bucket}/tree")])
    training.wait(name)

    assert "files ['a.csv', 'b/c.csv']" in training.log_lines(name)


def test_spot_training_is_billed_for_less_than_it_trains(training: Training) -> None:
    job = training.wait(
        training.start(
            "import time; time.sleep(3)",
            EnableManagedSpotTraining=True,
            StoppingCondition={"MaxRuntimeInSeconds": 60, "MaxWaitTimeInSeconds": 60},
        )
    )

    assert job["BillableTimeInSeconds"] < job["TrainingTimeInSeconds"]


def test_many_jobs_run_at_once_each_in_a_folder_of_its_own(training: Training) -> None:
    algorithm = {
        "TrainingImage": IMAGE,
        "TrainingInputMode": "File",
        "ContainerEntrypoint": ["sh", "-c", 'echo "$TRAINING_JOB_NAME" > "$SAGEMAKER_BASE_DIR/model/me"'],
    }
    names = [training.start(AlgorithmSpecification=algorithm) for _ in range(20)]
    uris = {name: training.wait(name)["ModelArtifacts"]["S3ModelArtifacts"] for name in names}

    assert {name: members(training, uri)["me"].decode().strip() for name, uri in uris.items()} == {
        name: name for name in names
    }
    ledger = training.emulator.ledger
    assert set(names) <= set(ledger.started)
    assert not set(names) & set(ledger.running)


class Sleeper:
    """A container without a process: it runs until it is told to end."""

    def __init__(self, container: Container) -> None:
        self.stdout = io.BytesIO(f"asleep in {container.host}\n".encode())
        self._told = threading.Event()

    def wait(self, seconds: float | None = None) -> int | None:
        return 0 if self._told.wait(seconds) else None

    def terminate(self) -> None:
        self._told.set()

    def end(self) -> int:
        self._told.set()
        return 0


def test_an_image_may_have_a_runner_of_its_own(tmp_path: Path) -> None:
    def runner_for(image: str) -> Runner:
        return Sleeper if "/sleeper:" in image else run_on_this_machine

    with Emulator(tmp_path, hosts=0, runner_for=runner_for) as emulator:
        training = Training(emulator)
        image = "123456789012.dkr.ecr.us-east-1.amazonaws.com/sleeper:1"
        algorithm = {"TrainingImage": image, "TrainingInputMode": "File"}
        names = [training.start(AlgorithmSpecification=algorithm) for _ in range(30)]
        for name in names:
            training.wait_for_log(name, "asleep in algo-1")
        assert set(emulator.ledger.running) == set(names)
        for name in names:
            training.sagemaker.stop_training_job(TrainingJobName=name)
        assert {training.wait(name)["TrainingJobStatus"] for name in names} == {"Stopped"}
        assert emulator.ledger.running == ()
