"""The emulated SageMaker's other requests: jobs are listed, tagged and waited for, and a stranger is refused."""

from __future__ import annotations

import logging
import socket
import struct
from logging.handlers import QueueHandler
from queue import SimpleQueue
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import boto3
import pytest

from hybrid_provider.emulator.sagemaker import server
from tests.training_jobs import Training, refusal, unchecked_client

if TYPE_CHECKING:
    from hybrid_provider.emulator import Emulator


@pytest.fixture(scope="module")
def training(emulator: Emulator) -> Training:
    return Training(emulator)


def test_jobs_are_listed_in_pages_filtered_and_sorted(training: Training) -> None:
    prefix = training.new_name()
    good = [training.start("pass", TrainingJobName=f"{prefix}-{letter}") for letter in "cab"]
    bad = training.start("raise SystemExit(1)", TrainingJobName=f"{prefix}-d")
    for name in [*good, bad]:
        training.wait(name)

    def listed(**filters: object) -> list[str]:
        pages = training.sagemaker.get_paginator("list_training_jobs").paginate(
            NameContains=prefix, **filters, PaginationConfig={"PageSize": 2}
        )
        return [
            entry["TrainingJobName"].removeprefix(f"{prefix}-")
            for page in pages
            for entry in page["TrainingJobSummaries"]
        ]

    assert listed() == ["d", "b", "a", "c"]
    assert listed(SortBy="Name", SortOrder="Ascending") == ["a", "b", "c", "d"]
    assert listed(StatusEquals="Failed") == ["d"]
    assert listed(SortBy="Status", SortOrder="Ascending") == ["a", "b", "c", "d"]
    middle = training.describe(good[1])["CreationTime"]
    assert listed(CreationTimeAfter=middle) == ["d", "b"]
    assert listed(CreationTimeBefore=middle) == ["c"]


@pytest.mark.parametrize(
    ("filters", "words"),
    [
        ({"MaxResults": 101}, "Value '101' at 'maxResults'"),
        ({"MaxResults": 0}, "Member must have value greater than or equal to 1"),
        ({"StatusEquals": "Done"}, "Value 'Done' at 'statusEquals'"),
        ({"SortBy": "Size"}, "Value 'Size' at 'sortBy'"),
        ({"NameContains": "a_b"}, "Value 'a_b' at 'nameContains'"),
        ({"NextToken": "made-up"}, "Invalid NextToken"),
    ],
)
def test_list_refuses(training: Training, filters: dict[str, object], words: str) -> None:
    code, message = refusal(lambda: unchecked_client(training.emulator).list_training_jobs(**filters))
    assert code == "ValidationException"
    assert words in message


def test_list_refuses_a_token_of_another_request(training: Training) -> None:
    names = [training.start("pass") for _ in range(2)]
    token = training.sagemaker.list_training_jobs(MaxResults=1)["NextToken"]
    code, _ = refusal(lambda: training.sagemaker.list_training_jobs(NextToken=token, StatusEquals="Failed"))
    assert code == "ValidationException"
    for name in names:
        training.wait(name)


def test_tags_are_kept_added_and_deleted(training: Training) -> None:
    name = training.start("pass", Tags=[{"Key": "team", "Value": "edge"}])
    arn = training.describe(name)["TrainingJobArn"]

    training.sagemaker.add_tags(
        ResourceArn=arn, Tags=[{"Key": "run", "Value": "1"}, {"Key": "team", "Value": "ml"}]
    )
    assert training.sagemaker.list_tags(ResourceArn=arn)["Tags"] == [
        {"Key": "team", "Value": "ml"},
        {"Key": "run", "Value": "1"},
    ]
    training.sagemaker.delete_tags(ResourceArn=arn, TagKeys=["team", "absent"])
    assert training.sagemaker.list_tags(ResourceArn=arn)["Tags"] == [{"Key": "run", "Value": "1"}]
    training.wait(name)


def test_tags_beyond_50_are_refused_and_none_is_added(training: Training) -> None:
    name = training.start("pass", Tags=[{"Key": f"k{number}", "Value": "v"} for number in range(50)])
    arn = training.describe(name)["TrainingJobArn"]
    code, _ = refusal(
        lambda: training.sagemaker.add_tags(ResourceArn=arn, Tags=[{"Key": "one-more", "Value": "v"}])
    )
    assert code == "ValidationException"
    assert len(training.sagemaker.list_tags(ResourceArn=arn)["Tags"]) == 50
    training.wait(name)


def test_a_job_that_is_not_there_is_a_validation_exception(training: Training) -> None:
    client = training.sagemaker
    expected = ("ValidationException", "Requested resource not found.")
    assert refusal(lambda: client.describe_training_job(TrainingJobName="nobody")) == expected
    assert refusal(lambda: client.stop_training_job(TrainingJobName="nobody")) == expected
    arn = "arn:aws:sagemaker:us-east-1:123456789012:training-job/nobody"
    for call in (
        lambda: client.list_tags(ResourceArn=arn),
        lambda: client.add_tags(ResourceArn=arn, Tags=[]),
        lambda: client.delete_tags(ResourceArn=arn, TagKeys=["a"]),
    ):
        assert refusal(call)[0] == "ValidationException"


def test_a_job_that_has_ended_cannot_be_stopped(training: Training) -> None:
    name = training.start("pass")
    training.wait(name)
    assert refusal(lambda: training.sagemaker.stop_training_job(TrainingJobName=name)) == (
        "ValidationException",
        "The request was rejected because the training job is in status Completed.",
    )


def test_other_keys_and_other_regions_are_refused(training: Training) -> None:
    stranger = unchecked_client(training.emulator, aws_access_key_id="AKIASTRANGER")
    assert refusal(stranger.list_training_jobs)[0] == "UnrecognizedClientException"
    elsewhere = unchecked_client(training.emulator, region_name="eu-west-1")
    assert refusal(elsewhere.list_training_jobs)[0] == "InvalidSignatureException"


def test_an_operation_that_is_not_emulated_says_so(training: Training) -> None:
    code, message = refusal(unchecked_client(training.emulator).list_models)
    assert code == "UnknownOperationException"
    assert "SageMaker.ListModels" in message


def test_botocores_own_waiter_takes_a_finished_job(training: Training) -> None:
    name = training.start("pass")

    waiter = training.sagemaker.get_waiter("training_job_completed_or_stopped")
    waiter.wait(TrainingJobName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 60})


def test_the_service_is_found_through_the_environment_alone(
    training: Training, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable, value in training.emulator.environment.items():
        monkeypatch.setenv(variable, value)
    session = boto3.Session()

    assert session.client("sts").get_caller_identity()["Account"] == "123456789012"
    assert (
        session.client("iam").get_role(RoleName="hybrid-training")["Role"]["Arn"]
        == training.emulator.role_arn
    )
    assert training.bucket in [bucket["Name"] for bucket in session.client("s3").list_buckets()["Buckets"]]
    assert session.client("sagemaker").list_training_jobs(MaxResults=1)["TrainingJobSummaries"]
    assert session.client("logs").describe_log_groups()["logGroups"]


def test_a_client_that_hangs_up_is_one_line_of_the_log_and_no_traceback(
    training: Training, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = urlsplit(training.emulator.environment["AWS_ENDPOINT_URL_SAGEMAKER"])
    said: SimpleQueue[logging.LogRecord] = SimpleQueue()
    logger = logging.getLogger(server.__name__)
    monkeypatch.setattr(logger, "handlers", [QueueHandler(said)])
    monkeypatch.setattr(logger, "level", logging.INFO)
    with socket.create_connection((address.hostname, address.port)) as client:
        client.sendall(b"POST / HTTP/1.1\r\nContent-Length: 1000\r\n\r\n{")
        # Closed by a reset, as the kernel does for a process that was killed with bytes unread.
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    entry = said.get(timeout=60)

    assert entry.getMessage().startswith("a client hung up before its reply: ")
    assert "Traceback" not in entry.getMessage()
