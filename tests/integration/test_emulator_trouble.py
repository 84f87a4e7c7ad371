"""The emulated cloud on a bad day: throttling, failures, and a spot market that takes its instances back."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from tests.training_jobs import IMAGE, Training

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hybrid_provider.emulator import Emulator

# Saves a checkpoint and waits; with that checkpoint it ends well.
RESUMES = (
    "if [ -e checkpoints/1 ]; then echo resumed; touch model/me; "
    "else touch checkpoints/1; echo begun; exec sleep 600; fi"
)


@pytest.fixture
def training(emulator: Emulator) -> Iterator[Training]:
    yield Training(emulator)
    emulator.trouble.end()


def spot(training: Training, max_wait: int = 600) -> dict[str, Any]:
    return {
        "AlgorithmSpecification": {
            "TrainingImage": IMAGE,
            "TrainingInputMode": "File",
            "ContainerEntrypoint": ["sh", "-c", RESUMES],
        },
        "EnableManagedSpotTraining": True,
        "StoppingCondition": {"MaxRuntimeInSeconds": min(600, max_wait), "MaxWaitTimeInSeconds": max_wait},
        "CheckpointConfig": {"S3Uri": f"s3://{training.bucket}/checkpoints/{training.new_name()}"},
    }


def wait_for_phase(training: Training, name: str, phase: str) -> None:
    while training.describe(name)["SecondaryStatus"] != phase:
        threading.Event().wait(0.02)


def test_an_interrupted_spot_job_goes_on_from_its_checkpoint_once_there_are_instances(
    training: Training,
) -> None:
    name = training.start(**spot(training))
    training.wait_for_log(name, "begun")
    training.emulator.trouble.take_spot_instances()
    wait_for_phase(training, name, "Starting")
    assert training.describe(name)["TrainingJobStatus"] == "InProgress"

    training.emulator.trouble.give_spot_instances()
    job = training.wait(name)

    phases = [transition["Status"] for transition in job["SecondaryStatusTransitions"]]
    assert phases.count("Interrupted") == 1
    assert phases.count("Training") == 2
    assert phases[-1] == "Completed"
    assert "resumed" in training.log_lines(name)


def test_a_spot_job_that_gets_no_instances_in_time_ends_without_a_cost(training: Training) -> None:
    training.emulator.trouble.take_spot_instances()
    job = training.wait(training.start(**spot(training, max_wait=1)))

    assert (job["TrainingJobStatus"], job["SecondaryStatus"]) == ("Stopped", "MaxWaitTimeExceeded")
    assert "TrainingStartTime" not in job
    assert "ModelArtifacts" not in job


def test_a_spot_job_that_waits_for_instances_can_be_stopped(training: Training) -> None:
    training.emulator.trouble.take_spot_instances()
    name = training.start(**spot(training))
    training.sagemaker.stop_training_job(TrainingJobName=name)

    assert training.wait(name)["SecondaryStatus"] == "Stopped"


def test_a_job_on_demand_keeps_its_instances(training: Training) -> None:
    training.emulator.trouble.take_spot_instances()

    assert training.wait(training.start())["TrainingJobStatus"] == "Completed"


def impatient_client(emulator: Emulator) -> Any:
    """One that takes the first answer."""
    keys = emulator.environment
    return boto3.client(
        "sagemaker",
        aws_access_key_id=keys["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=keys["AWS_SECRET_ACCESS_KEY"],
        region_name=keys["AWS_DEFAULT_REGION"],
        endpoint_url=keys["AWS_ENDPOINT_URL_SAGEMAKER"],
        config=Config(retries={"total_max_attempts": 1}),
    )


@pytest.mark.parametrize(
    ("trouble", "code", "status"),
    [("throttle", "ThrottlingException", 400), ("fail", "InternalFailure", 500)],
)
def test_an_operation_is_refused_as_often_as_asked_and_no_other_is(
    training: Training, trouble: str, code: str, status: int
) -> None:
    name = training.start()
    client = impatient_client(training.emulator)
    getattr(training.emulator.trouble, trouble)("DescribeTrainingJob", 2)

    for _ in range(2):
        with pytest.raises(ClientError) as refused:
            client.describe_training_job(TrainingJobName=name)
        assert refused.value.response["Error"]["Code"] == code
        assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == status
    client.list_training_jobs()
    assert client.describe_training_job(TrainingJobName=name)["TrainingJobName"] == name
