"""Requests held against the service model: what is read, what is refused, in which words."""

from __future__ import annotations

from datetime import UTC, datetime

import botocore.session
import pytest

from hybrid_provider.emulator.sagemaker.describe import NOT_ECHOED
from hybrid_provider.emulator.sagemaker.errors import SerializationException, ValidationException
from hybrid_provider.emulator.sagemaker.shapes import read_request, write_reply

MODEL = botocore.session.get_session().get_service_model("sagemaker")


def read(operation: str, body: object) -> dict[str, object]:
    return read_request(MODEL.operation_model(operation).input_shape, body)


def faults(operation: str, body: object) -> str:
    with pytest.raises(ValidationException) as caught:
        read(operation, body)
    return str(caught.value)


def test_a_request_is_read_as_it_is() -> None:
    assert read("DescribeTrainingJob", {"TrainingJobName": "job-1"}) == {"TrainingJobName": "job-1"}


def test_unknown_members_and_nulls_are_left_out_as_the_service_does() -> None:
    body = {"TrainingJobName": "job-1", "Unknown": 1, "HyperParameters": None}
    assert read("DescribeTrainingJob", body) == {"TrainingJobName": "job-1"}


def test_times_become_aware_datetimes() -> None:
    moment = read("ListTrainingJobs", {"CreationTimeAfter": 1_700_000_000.5})["CreationTimeAfter"]
    assert moment == datetime(2023, 11, 14, 22, 13, 20, 500_000, tzinfo=UTC)


def test_a_fault_is_worded_as_the_service_words_it() -> None:
    assert faults("DescribeTrainingJob", {"TrainingJobName": "a_b"}) == (
        "1 validation error detected: Value 'a_b' at 'trainingJobName' failed to satisfy constraint: "
        "Member must satisfy regular expression pattern: [a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}"
    )


def test_all_faults_are_listed() -> None:
    message = faults("ListTrainingJobs", {"MaxResults": 0, "SortBy": "Size", "NameContains": "a b"})
    assert message.startswith("3 validation errors detected: ")
    assert message.count("; ") == 2


def test_a_missing_member_is_null() -> None:
    assert faults("StopTrainingJob", {}) == (
        "1 validation error detected: Value null at 'trainingJobName' failed to satisfy constraint: "
        "Member must not be null"
    )


@pytest.mark.parametrize(
    "body",
    [[], "text", {"TrainingJobName": 7}, {"TrainingJobName": ["job"]}, {"TrainingJobName": {}}],
    ids=str,
)
def test_a_value_of_the_wrong_type_is_no_request(body: object) -> None:
    with pytest.raises(SerializationException):
        read("DescribeTrainingJob", body)


def test_a_boolean_is_no_number() -> None:
    with pytest.raises(SerializationException):
        read("ListTrainingJobs", {"MaxResults": True})


@pytest.mark.parametrize("key", ["team", "Kosten Stelle", "größe", "团队", "a.b:c/d=e+f-g@h", "x1"])
def test_javas_classes_of_letters_are_understood_in_tags(key: str) -> None:
    arn = "arn:aws:sagemaker:us-east-1:123456789012:training-job/job"
    assert read("AddTags", {"ResourceArn": arn, "Tags": [{"Key": key, "Value": key}]})["Tags"]


@pytest.mark.parametrize("key", ["a;b", "a,b", "a#b", "a\tb", "a\nb"])
def test_what_no_class_allows_is_refused_in_tags(key: str) -> None:
    arn = "arn:aws:sagemaker:us-east-1:123456789012:training-job/job"
    assert "'tags.1.member.key'" in faults(
        "AddTags", {"ResourceArn": arn, "Tags": [{"Key": key, "Value": ""}]}
    )


def test_a_reply_is_written_by_its_shape() -> None:
    shape = MODEL.operation_model("DescribeTrainingJob").output_shape
    reply = {
        "TrainingJobName": "job",
        "CreationTime": datetime(2023, 11, 14, 22, 13, 20, 500_000, tzinfo=UTC),
        "TrainingEndTime": None,
        "FinalMetricDataList": [
            {"MetricName": "loss", "Value": 0.5, "Timestamp": datetime(2023, 11, 14, tzinfo=UTC)}
        ],
    }
    assert write_reply(shape, reply) == {
        "TrainingJobName": "job",
        "CreationTime": 1_700_000_000.5,
        "FinalMetricDataList": [{"MetricName": "loss", "Value": 0.5, "Timestamp": 1_699_920_000.0}],
    }


def test_a_reply_that_the_model_does_not_know_does_not_leave() -> None:
    with pytest.raises(ValueError, match="Colour"):
        write_reply(MODEL.operation_model("DescribeTrainingJob").output_shape, {"Colour": "red"})


def test_describe_can_show_all_that_create_takes() -> None:
    taken = MODEL.operation_model("CreateTrainingJob").input_shape.members.keys()
    shown = MODEL.operation_model("DescribeTrainingJob").output_shape.members.keys()
    assert taken - shown == NOT_ECHOED
