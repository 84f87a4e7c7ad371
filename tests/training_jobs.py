"""Training jobs for tests: small scripts in script mode, as an SDK would send them."""

from __future__ import annotations

import io
import json
import tarfile
import time
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

if TYPE_CHECKING:
    from collections.abc import Callable

    from hybrid_provider.emulator import Emulator

IMAGE = "763104351884.dkr.ecr.us-east-1.amazonaws.com/tensorflow-training:2.3.0-cpu-py37"
# One for all clients: each session reads the service model, the largest there is, anew.
SESSION = boto3.Session()

# Trains by writing down the size of its channel.
GOOD_SCRIPT = """
import os
from pathlib import Path

rows = sum(len(file.read_text().splitlines()) for file in Path(os.environ["SM_CHANNEL_TRAINING"]).iterdir())
print(f"rows={rows}")
print("loss=0.75")
print("loss=0.25")
(Path(os.environ["SM_MODEL_DIR"]) / "model.txt").write_text(str(rows))
"""


class Training:
    """A bucket of its own with a channel in it, and jobs that train from it."""

    def __init__(self, emulator: Emulator) -> None:
        self.emulator = emulator
        self.bucket = f"training-{uuid4().hex[:12]}"
        self.s3 = emulator.client("s3")
        self.sagemaker = emulator.client("sagemaker")
        self.logs = emulator.client("logs")
        self.s3.create_bucket(Bucket=self.bucket)
        self.s3.put_object(Bucket=self.bucket, Key="data/rows.csv", Body=b"1,2\n3,4\n5,6\n")

    def new_name(self) -> str:
        """A job name that no other test has."""
        return f"job-{uuid4().hex[:12]}"

    def request(self, script: str = GOOD_SCRIPT, **changes: Any) -> dict[str, Any]:
        """A CreateTrainingJob request for ``script``, with whole members replaced by ``changes``."""
        name = changes.get("TrainingJobName", self.new_name())
        key = f"source/{name}/sourcedir.tar.gz"
        self.s3.put_object(Bucket=self.bucket, Key=key, Body=source_tarball(script))
        request = {
            "TrainingJobName": name,
            "RoleArn": self.emulator.role_arn,
            "AlgorithmSpecification": {"TrainingImage": IMAGE, "TrainingInputMode": "File"},
            "HyperParameters": {
                "sagemaker_submit_directory": json.dumps(f"s3://{self.bucket}/{key}"),
                "sagemaker_program": json.dumps("train.py"),
                "sagemaker_region": json.dumps("us-east-1"),
            },
            "InputDataConfig": [channel("training", f"s3://{self.bucket}/data/")],
            "OutputDataConfig": {"S3OutputPath": f"s3://{self.bucket}/models"},
            "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 1},
            "StoppingCondition": {"MaxRuntimeInSeconds": 600},
        }
        return {**request, **changes}

    def start(self, script: str = GOOD_SCRIPT, **changes: Any) -> str:
        """Start a job and return its name."""
        request = self.request(script, **changes)
        self.sagemaker.create_training_job(**request)
        return request["TrainingJobName"]

    def describe(self, name: str) -> dict[str, Any]:
        return self.sagemaker.describe_training_job(TrainingJobName=name)

    def wait(self, name: str) -> dict[str, Any]:
        """The description of a job that has ended."""
        ended = {"Completed", "Failed", "Stopped"}
        self._until(lambda: self.describe(name)["TrainingJobStatus"] in ended, f"{name} has not ended")
        return self.describe(name)

    def wait_for_log(self, name: str, text: str) -> None:
        """Return when the job has said ``text``; it need not have been started yet."""
        self._until(lambda: any(text in line for line in self.log_lines(name)), f"{name} has not said {text}")

    def log_streams(self, name: str) -> list[str]:
        try:
            found = self.logs.describe_log_streams(
                logGroupName="/aws/sagemaker/TrainingJobs", logStreamNamePrefix=f"{name}/"
            )
        except self.logs.exceptions.ResourceNotFoundException:
            return []
        return [stream["logStreamName"] for stream in found["logStreams"]]

    def log_lines(self, name: str) -> list[str]:
        return [
            event["message"]
            for stream in self.log_streams(name)
            for event in self.logs.get_log_events(
                logGroupName="/aws/sagemaker/TrainingJobs", logStreamName=stream, startFromHead=True
            )["events"]
        ]

    def keys(self, prefix: str) -> list[str]:
        found = self.s3.list_objects_v2(Bucket=self.bucket, Prefix=prefix)
        return [item["Key"] for item in found.get("Contents", ())]

    def _until(self, done: Callable[[], bool], otherwise: str) -> None:
        deadline = time.monotonic() + 60
        while not done():
            if time.monotonic() > deadline:
                raise TimeoutError(otherwise)
            time.sleep(0.05)


def channel(name: str, uri: str) -> dict[str, Any]:
    return {"ChannelName": name, "DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": uri}}}


def source_tarball(script: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        member = tarfile.TarInfo("train.py")
        member.size = len(script.encode())
        tar.addfile(member, io.BytesIO(script.encode()))
    return buffer.getvalue()


def unchecked_client(emulator: Emulator, **changes: Any) -> Any:
    """A SageMaker client that sends what it is given, once."""
    settings = {
        "region_name": emulator.environment["AWS_DEFAULT_REGION"],
        "aws_access_key_id": emulator.environment["AWS_ACCESS_KEY_ID"],
        "aws_secret_access_key": emulator.environment["AWS_SECRET_ACCESS_KEY"],
        "endpoint_url": emulator.environment["AWS_ENDPOINT_URL_SAGEMAKER"],
        "config": Config(parameter_validation=False, retries={"total_max_attempts": 1}),
    }
    return SESSION.client("sagemaker", **{**settings, **changes})


def refusal(call: Callable[[], object]) -> tuple[str, str]:
    """The code and the message that a call is refused with."""
    with pytest.raises(ClientError) as caught:
        call()
    return caught.value.response["Error"]["Code"], caught.value.response["Error"]["Message"]
