"""How a training ends: whose turn it is, what it cost, what Airflow does next."""

from __future__ import annotations

from datetime import timedelta

import pytest
from airflow.sdk import RetryAction
from botocore.exceptions import ClientError, EndpointConnectionError, NoCredentialsError

from hybrid_provider.exceptions import (
    ArtifactUnavailable,
    CapacityUnavailable,
    CloudUnavailable,
    ConfigurationError,
    HybridError,
    JobConflict,
    TrainingFailed,
    TrainingInterrupted,
    TrainingRefused,
    TrainingStopped,
)
from hybrid_provider.retries import TrainingRetryPolicy
from hybrid_provider.training.backend import FailureClass, JobRef, JobState, JobStatus, StopCause
from hybrid_provider.training.result import OnStopped, accepted_states, bad_end, bill, training_dict
from hybrid_provider.training.sagemaker.console import job_page, log_page
from hybrid_provider.training.sagemaker.errors import sagemaker_errors_explained
from hybrid_provider.training.sagemaker.status import failure_class, job_status
from hybrid_provider.training.watch import Watched
from tests.cloud import BEGINNING

JOB = JobRef("job", "arn:aws:sagemaker:eu-central-1:123456789012:training-job/job")
FAIL, ACCEPT = accepted_states(OnStopped.FAIL), accepted_states(OnStopped.ACCEPT)


def described(status, secondary, **more):
    return {
        "TrainingJobStatus": status,
        "SecondaryStatus": secondary,
        "SecondaryStatusTransitions": [{"Status": secondary, "StatusMessage": "why"}],
        "CreationTime": BEGINNING,
        "LastModifiedTime": BEGINNING + timedelta(hours=1),
        **more,
    }


@pytest.mark.parametrize(
    ("secondary", "cause", "error"),
    [
        ("Stopped", StopCause.ASKED, TrainingStopped),
        ("MaxRuntimeExceeded", StopCause.MAX_RUNTIME, TrainingStopped),
        ("MaxWaitTimeExceeded", StopCause.MAX_WAIT, TrainingInterrupted),
        ("Interrupted", StopCause.INTERRUPTED, TrainingInterrupted),
    ],
)
def test_the_ways_to_be_stopped_are_told_apart(secondary, cause, error):
    status = job_status(described("Stopped", secondary))

    assert status.stop_cause is cause
    assert type(bad_end(JOB, Watched(status), FAIL)) is error
    assert bad_end(JOB, Watched(status), ACCEPT) is None


def test_a_job_that_was_stopped_before_it_started_has_no_start_and_cost_nothing():
    status = job_status(described("Stopped", "Stopped"))

    assert (status.started, status.ended) == (None, BEGINNING + timedelta(hours=1))
    assert training_dict(JOB, status, "f")["billable_seconds"] == 0


def test_a_wait_that_ran_out_of_time_is_a_failure_even_where_a_stopped_job_s_artifact_is_accepted():
    status = job_status(described("Stopped", "Stopped"))

    assert isinstance(bad_end(JOB, Watched(status, timed_out=True), ACCEPT), TrainingStopped)


@pytest.mark.parametrize(
    ("reason", "failure", "error"),
    [
        ("AlgorithmError: ExecuteUserScriptError", FailureClass.SCRIPT, TrainingFailed),
        ("ClientError: Data download failed", FailureClass.REQUEST, TrainingFailed),
        ("CapacityError: Unable to provision requested ML compute capacity", FailureClass.CAPACITY,
         CapacityUnavailable),
        ("InternalServerError: We encountered an internal error", FailureClass.CLOUD, CloudUnavailable),
        ("something else", FailureClass.REQUEST, TrainingFailed),
        (None, FailureClass.REQUEST, TrainingFailed),
    ],
)  # fmt: skip
def test_a_failure_s_reason_says_whose_turn_it_is(reason, failure, error):
    status = job_status(described("Failed", "Failed", FailureReason=reason))

    assert failure_class(reason) is status.failure is failure
    assert type(bad_end(JOB, Watched(status), FAIL)) is error


def test_what_is_billed_is_the_cloud_s_own_number_times_the_instances():
    status = job_status(
        described(
            "Completed", "Completed", BillableTimeInSeconds=20, TrainingTimeInSeconds=100,
            ResourceConfig={"InstanceCount": 2}, EnableManagedSpotTraining=True,
        )
    )  # fmt: skip

    assert (status.billable_seconds, status.saved_seconds) == (40, 160)
    assert bill(status) == "40 instance seconds billed, 80% saved by spot"


def test_instances_of_all_groups_are_billed():
    groups = {"InstanceGroups": [{"InstanceCount": 2}, {"InstanceCount": 3}]}

    assert job_status(described("InProgress", "Training", ResourceConfig=groups)).instance_count == 5


def client_error(code, message="said", status=400):
    reply = {"Error": {"Code": code, "Message": message}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(reply, "CreateTrainingJob")


def quota(limit, used, delta):
    return (
        f"The account-level service limit 'ml.p3.2xlarge for training job usage' is {limit} Instances, with current "
        f"utilization of {used} Instances and a request delta of {delta} Instances."
    )


@pytest.mark.parametrize(
    ("error", "ours"),
    [
        (client_error("ThrottlingException"), CloudUnavailable),
        (client_error("Whatever", status=503), CloudUnavailable),
        (client_error("ExpiredTokenException"), CloudUnavailable),
        (client_error("ResourceLimitExceeded", quota(4, 4, 1)), CapacityUnavailable),
        (client_error("ResourceLimitExceeded", quota(0, 0, 1)), TrainingRefused),
        (client_error("AccessDeniedException"), TrainingRefused),
        (client_error("ValidationException"), TrainingRefused),
        (client_error("InvalidSignatureException"), ConfigurationError),
        (EndpointConnectionError(endpoint_url="https://sagemaker"), CloudUnavailable),
        (NoCredentialsError(), ConfigurationError),
    ],
)
def test_an_answer_of_aws_becomes_the_error_whose_turn_it_is(error, ours):
    with (
        pytest.raises(HybridError, match="training job x") as told,
        sagemaker_errors_explained("CreateTrainingJob", "training job x"),
    ):
        raise error

    assert type(told.value) is ours


def test_a_denied_call_names_the_permission_that_is_missing():
    with (
        pytest.raises(TrainingRefused, match=r"grant sagemaker:ListTags to"),
        sagemaker_errors_explained("ListTags", "x"),
    ):
        raise client_error("AccessDeniedException")


@pytest.mark.parametrize(
    ("error", "action", "minutes"),
    [
        (CapacityUnavailable("x"), RetryAction.RETRY, 15),
        (TrainingInterrupted("x"), RetryAction.RETRY, 5),
        (CloudUnavailable("x"), RetryAction.RETRY, 1),
        (TrainingFailed("x"), RetryAction.FAIL, None),
        (TrainingStopped("x"), RetryAction.FAIL, None),
        (TrainingRefused("x"), RetryAction.FAIL, None),
        (JobConflict("x"), RetryAction.FAIL, None),
        (ArtifactUnavailable("x"), RetryAction.DEFAULT, None),
        (ValueError("x"), RetryAction.DEFAULT, None),
    ],
)
def test_the_retry_policy_pays_again_only_for_what_passes_by_itself(error, action, minutes):
    decision = TrainingRetryPolicy().evaluate(error, try_number=1, max_tries=3)

    assert decision.action is action
    assert decision.retry_delay == (None if minutes is None else timedelta(minutes=minutes))


def test_the_retry_policy_agrees_with_what_the_errors_say_of_themselves():
    def all_below(kind):
        return {kind}.union(*(all_below(each) for each in kind.__subclasses__()))

    from hybrid_provider.exceptions import TrainingError

    for kind in all_below(TrainingError):
        action = TrainingRetryPolicy().evaluate(kind("x"), try_number=1, max_tries=3).action
        assert (action is RetryAction.RETRY) == kind.retryable, kind


@pytest.mark.parametrize(
    ("partition", "region", "host"),
    [
        ("aws", "eu-central-1", "https://eu-central-1.console.aws.amazon.com"),
        ("aws-cn", "cn-north-1", "https://cn-north-1.console.amazonaws.cn"),
        ("aws-us-gov", "us-gov-west-1", "https://us-gov-west-1.console.amazonaws-us-gov.com"),
    ],
)
def test_the_console_s_pages_are_those_of_the_arn_s_partition_and_region(partition, region, host):
    arn = f"arn:{partition}:sagemaker:{region}:123456789012:training-job/digits-g1-abc"

    assert job_page(arn) == f"{host}/sagemaker/home?region={region}#/jobs/digits-g1-abc"
    assert log_page(arn).startswith(f"{host}/cloudwatch/home?region={region}#logsV2:log-groups/log-group/")


def test_the_data_that_a_job_was_given_are_its_inputs_wherever_they_lie():
    channels = [
        {"DataSource": {"S3DataSource": {"S3Uri": "s3://data/train/"}}},
        {"DataSource": {"FileSystemDataSource": {"FileSystemType": "EFS", "FileSystemId": "fs-1", "DirectoryPath": "/a"}}},
        {"DataSource": {}},
    ]  # fmt: skip
    status = job_status(described("Completed", "Completed", InputDataConfig=channels))

    assert status.inputs == ("s3://data/train/", "efs://fs-1/a")


def test_the_xcom_holds_iso_dates_and_no_more_than_it_says():
    status = JobStatus(
        state=JobState.COMPLETED, phase="Completed", message="", created=BEGINNING, started=BEGINNING, ended=BEGINNING,
        inputs=("s3://data/train/",),
    )  # fmt: skip

    assert training_dict(JOB, status, "abc") == {
        "job": "job",
        "arn": JOB.id,
        "status": "Completed",
        "artifact": None,
        "metrics": {},
        "inputs": ["s3://data/train/"],
        "billable_seconds": 0,
        "saved_seconds": 0,
        "started": "2026-11-23T18:00:00+00:00",
        "ended": "2026-11-23T18:00:00+00:00",
        "spec_fingerprint": "abc",
    }
