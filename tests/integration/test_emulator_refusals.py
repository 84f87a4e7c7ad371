"""What the emulated SageMaker refuses, with the codes and, where they are known, the words of the real one.

One row for each refusal. Everything goes through plain boto3; its own validation is off, as it would refuse
some of the requests before they are sent.
"""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest
from botocore.exceptions import ClientError

from hybrid_provider.emulator import Emulator
from tests.training_jobs import IMAGE, Training, channel, refusal, unchecked_client

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def training(emulator: Emulator) -> Training:
    return Training(emulator)


@dataclass(frozen=True)
class Row:
    """One refusal of CreateTrainingJob.

    Attributes:
        title: What is wrong with the request.
        path: The member that is changed, by its dots.
        value: Its new value; ``ABSENT`` removes it.
        words: A part of the message.
        code: The error code.
    """

    title: str
    path: str
    value: object
    words: str
    code: str = "ValidationException"


ABSENT = object()
PATTERN = "failed to satisfy constraint: Member must satisfy regular expression pattern"
NULL = "failed to satisfy constraint: Member must not be null"
TOO_LONG = "failed to satisfy constraint: Member must have length less than or equal to"
ENUM = "failed to satisfy constraint: Member must satisfy enum value set"

ROWS = [
    Row("a name with an underscore", "TrainingJobName", "not_allowed", f"at 'trainingJobName' {PATTERN}"),
    Row("a name that ends in a dash", "TrainingJobName", "job-", f"at 'trainingJobName' {PATTERN}"),
    Row("an empty name", "TrainingJobName", "", "Member must have length greater than or equal to 1"),
    Row("a name of 64 characters", "TrainingJobName", "j" * 64, f"at 'trainingJobName' {TOO_LONG} 63"),
    Row("no name", "TrainingJobName", ABSENT, f"Value null at 'trainingJobName' {NULL}"),
    Row("no role", "RoleArn", ABSENT, f"Value null at 'roleArn' {NULL}"),
    Row("a role's name for its ARN", "RoleArn", "just-a-long-enough-name", f"at 'roleArn' {PATTERN}"),
    Row(
        "a role that does not exist",
        "RoleArn",
        "arn:aws:iam::123456789012:role/nobody",
        "Could not assume role",
    ),
    Row(
        "another account's role",
        "RoleArn",
        "arn:aws:iam::999999999999:role/hybrid-training",
        "Cross-account pass role is not allowed.",
        "AccessDeniedException",
    ),
    Row("no algorithm", "AlgorithmSpecification", ABSENT, f"Value null at 'algorithmSpecification' {NULL}"),
    Row(
        "an unknown input mode",
        "AlgorithmSpecification.TrainingInputMode",
        "Stream",
        f"Value 'Stream' at 'algorithmSpecification.trainingInputMode' {ENUM}: [Pipe, File, FastFile]",
    ),
    Row("no image", "AlgorithmSpecification.TrainingImage", ABSENT, "TrainingImage or AlgorithmName"),
    Row(
        "an image of Docker Hub",
        "AlgorithmSpecification.TrainingImage",
        "python:3.11",
        "Invalid training image",
    ),
    Row(
        "an image in capitals",
        "AlgorithmSpecification.TrainingImage",
        IMAGE.upper(),
        "Invalid training image",
    ),
    Row(
        "a metric that is no regular expression",
        "AlgorithmSpecification.MetricDefinitions",
        [{"Name": "loss", "Regex": "loss=([0-9"}],
        "Invalid regular expression",
    ),
    Row(
        "a metric twice",
        "AlgorithmSpecification.MetricDefinitions",
        [{"Name": "loss", "Regex": "a"}, {"Name": "loss", "Regex": "b"}],
        "Duplicate metric name loss",
    ),
    Row(
        "41 metrics",
        "AlgorithmSpecification.MetricDefinitions",
        [{"Name": f"m{number}", "Regex": "a"} for number in range(41)],
        f"{TOO_LONG} 40",
    ),
    Row("no output", "OutputDataConfig", ABSENT, f"Value null at 'outputDataConfig' {NULL}"),
    Row(
        "an output on disk",
        "OutputDataConfig.S3OutputPath",
        "/models",
        f"'outputDataConfig.s3OutputPath' {PATTERN}",
    ),
    Row(
        "an output as ZIP",
        "OutputDataConfig.CompressionType",
        "ZIP",
        f"'outputDataConfig.compressionType' {ENUM}",
    ),
    Row("no resources", "ResourceConfig", ABSENT, f"Value null at 'resourceConfig' {NULL}"),
    Row(
        "an unknown instance type",
        "ResourceConfig.InstanceType",
        "ml.huge",
        f"'resourceConfig.instanceType' {ENUM}",
    ),
    Row(
        "no instance type",
        "ResourceConfig.InstanceType",
        ABSENT,
        f"Value null at 'resourceConfig.instanceType' {NULL}",
    ),
    Row(
        "no instances", "ResourceConfig.InstanceCount", 0, "Member must have value greater than or equal to 1"
    ),
    Row(
        "a negative volume",
        "ResourceConfig.VolumeSizeInGB",
        -1,
        "Member must have value greater than or equal to 0",
    ),
    Row("a volume of 20 TB", "ResourceConfig.VolumeSizeInGB", 20000, "exceeds the maximum of 16384"),
    Row(
        "too long a warm pool",
        "ResourceConfig.KeepAlivePeriodInSeconds",
        21601,
        "less than or equal to 21600",
    ),
    Row(
        "more instances than the quota",
        "ResourceConfig.InstanceCount",
        2001,
        "The account-level service limit 'ml.m5.large for training job usage' is 2000 Instances",
        "ResourceLimitExceeded",
    ),
    Row("no stopping condition", "StoppingCondition", ABSENT, f"Value null at 'stoppingCondition' {NULL}"),
    Row("no time to run", "StoppingCondition.MaxRuntimeInSeconds", 0, "greater than or equal to 1"),
    Row("29 days", "StoppingCondition.MaxRuntimeInSeconds", 29 * 86400, "Invalid MaxRuntimeInSeconds"),
    Row(
        "a wait without spot",
        "StoppingCondition.MaxWaitTimeInSeconds",
        900,
        "only supported when EnableManagedSpot",
    ),
    Row(
        "spot without a wait",
        "EnableManagedSpotTraining",
        True,
        "Invalid MaxWaitTimeInSeconds. It must be present",
    ),
    Row(
        "a channel twice",
        "InputDataConfig",
        [channel("training", "s3://bucket/a"), channel("training", "s3://bucket/b")],
        "Duplicate channel name training",
    ),
    Row(
        "no channel in the list", "InputDataConfig", [], "Member must have length greater than or equal to 1"
    ),
    Row(
        "a channel with a space",
        "InputDataConfig",
        [channel("my data", "s3://b/a")],
        "inputDataConfig.1.member.channelName",
    ),
    Row(
        "a channel without a source",
        "InputDataConfig",
        [{"ChannelName": "a", "DataSource": {}}],
        "0 data sources",
    ),
    Row(
        "a channel of no bucket",
        "InputDataConfig",
        [channel("a", "s3://no-such-bucket/x")],
        "No S3 objects found",
    ),
    Row(
        "101 hyperparameters",
        "HyperParameters",
        {f"h{n}": "1" for n in range(101)},
        f"'hyperParameters' {TOO_LONG} 100",
    ),
    Row(
        "a hyperparameter of 2501 characters",
        "HyperParameters",
        {"h": "1" * 2501},
        "Map value must satisfy constraint",
    ),
    Row(
        "a hyperparameter's name of 257 characters",
        "HyperParameters",
        {"h" * 257: "1"},
        "Map keys must satisfy",
    ),
    Row(
        "a hyperparameter with two lines",
        "HyperParameters",
        {"h": "1\n2"},
        "Map value must satisfy constraint",
    ),
    Row("a hyperparameter that is a number", "HyperParameters", {"h": 1}, "", "SerializationException"),
    Row("a variable with a dash", "Environment", {"NOT-A-NAME": "1"}, "Map keys must satisfy constraint"),
    Row("51 tags", "Tags", [{"Key": f"k{n}", "Value": "v"} for n in range(51)], f"'tags' {TOO_LONG} 50"),
    Row(
        "a tag twice", "Tags", [{"Key": "k", "Value": "1"}, {"Key": "k", "Value": "2"}], "Duplicate tag keys"
    ),
    Row("a reserved tag", "Tags", [{"Key": "aws:owner", "Value": "1"}], "'aws:' are reserved"),
    Row(
        "a tag with a semicolon", "Tags", [{"Key": "a;b", "Value": "1"}], f"at 'tags.1.member.key' {PATTERN}"
    ),
    Row("checkpoints on disk", "CheckpointConfig", {"S3Uri": "/tmp"}, f"'checkpointConfig.s3Uri' {PATTERN}"),
    Row(
        "checkpoints over the model",
        "CheckpointConfig",
        {"S3Uri": "s3://bucket/c", "LocalPath": "/opt/ml/model"},
        "is reserved",
    ),
    Row(
        "an algorithm by name",
        "AlgorithmSpecification.AlgorithmName",
        "my-algorithm",
        "give TrainingImage instead of AlgorithmName",
    ),
    Row(
        "instance groups",
        "ResourceConfig.InstanceGroups",
        [{"InstanceType": "ml.m5.large", "InstanceCount": 1, "InstanceGroupName": "a"}],
        "does not emulate ResourceConfig.InstanceGroups",
    ),
]


@pytest.mark.parametrize("row", ROWS, ids=[row.title.replace(" ", "-") for row in ROWS])
def test_create_refuses(training: Training, row: Row) -> None:
    request = training.request("pass")
    *parents, last = row.path.split(".")
    place = request
    for parent in parents:
        place = place[parent]
    if row.value is ABSENT:
        del place[last]
    else:
        place[last] = row.value
    before = training.emulator.ledger.started

    code, message = refusal(lambda: unchecked_client(training.emulator).create_training_job(**request))

    assert code == row.code, message
    assert row.words in message
    assert training.emulator.ledger.started == before


def test_create_refuses_a_name_that_is_taken_even_while_it_is_being_taken(training: Training) -> None:
    request = training.request("pass")

    def create(_: int) -> str:
        try:
            return training.sagemaker.create_training_job(**request)["TrainingJobArn"]
        except ClientError as error:
            return error.response["Error"]["Code"]

    with ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(create, range(8)))

    assert sorted(replies) == ["ResourceInUse"] * 7 + [
        replies[[r.startswith("arn:") for r in replies].index(True)]
    ]
    code, message = refusal(lambda: training.sagemaker.create_training_job(**request))
    assert code == "ResourceInUse"
    assert "Training job names must be unique within an AWS account and region" in message
    assert training.emulator.ledger.started.count(request["TrainingJobName"]) == 1


def test_create_refuses_a_wait_shorter_than_the_run(training: Training) -> None:
    request = training.request(
        "pass",
        EnableManagedSpotTraining=True,
        StoppingCondition={"MaxRuntimeInSeconds": 60, "MaxWaitTimeInSeconds": 59},
    )
    code, message = refusal(lambda: training.sagemaker.create_training_job(**request))
    assert (code, message) == (
        "ValidationException",
        "Invalid MaxWaitTimeInSeconds. It must be present and be greater than or equal to MaxRuntimeInSeconds",
    )


def test_create_refuses_a_prefix_without_objects_in_the_services_own_words(training: Training) -> None:
    uri = f"s3://{training.bucket}/empty/"
    request = training.request("pass", InputDataConfig=[channel("training", uri)])
    code, message = refusal(lambda: training.sagemaker.create_training_job(**request))
    assert code == "ValidationException"
    assert message == (
        f'No S3 objects found under S3 URL "{uri}" given in input data source. Please ensure that the bucket exists '
        "in the selected region (us-east-1), that objects exist under that S3 prefix, and that the role "
        f'"{training.emulator.role_arn}" has "s3:ListBucket" permissions on bucket "{training.bucket}".'
    )


def test_create_refuses_a_role_that_trusts_another_service(training: Training) -> None:
    name = f"lambda-{uuid4().hex[:8]}"
    statement = {
        "Effect": "Allow",
        "Principal": {"Service": "lambda.amazonaws.com"},
        "Action": "sts:AssumeRole",
    }
    role = training.emulator.client("iam").create_role(
        RoleName=name,
        AssumeRolePolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [statement]}),
    )
    request = training.request("pass", RoleArn=role["Role"]["Arn"])
    code, message = refusal(lambda: training.sagemaker.create_training_job(**request))
    assert code == "ValidationException"
    assert "allows principal 'sagemaker.amazonaws.com' to assume the role" in message


def test_several_faults_are_told_at_once(training: Training) -> None:
    request = training.request("pass", TrainingJobName="a_b")
    request["ResourceConfig"]["InstanceType"] = "ml.huge"
    _, message = refusal(lambda: unchecked_client(training.emulator).create_training_job(**request))
    assert message.startswith("2 validation errors detected: Value 'a_b' at 'trainingJobName'")
    assert "; Value 'ml.huge' at 'resourceConfig.instanceType'" in message


def test_the_quota_counts_what_runs_and_is_free_again_afterwards(tmp_path: Path) -> None:
    with Emulator(tmp_path, hosts=0, instance_quota=1) as small:
        training = Training(small)
        running = training.start("import time; time.sleep(60)")
        code, message = refusal(lambda: training.start("pass"))
        assert code == "ResourceLimitExceeded"
        assert "with current utilization of 1 Instances and a request delta of 1 Instances" in message

        training.sagemaker.stop_training_job(TrainingJobName=running)
        training.wait(running)
        assert training.wait(training.start("pass"))["TrainingJobStatus"] == "Completed"
