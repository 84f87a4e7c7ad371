"""Many deferred trainings in one process, against the emulator: what its ledger counts while nothing happens, and that every wait ends."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta

import pytest

from hybrid_provider.aws import AwsAccess
from hybrid_provider.emulator import Emulator
from hybrid_provider.emulator.sagemaker.images import SLEEP_IMAGE
from hybrid_provider.training.backend import JobRef
from hybrid_provider.training.polls import FEW
from hybrid_provider.training.sagemaker.backend import SageMakerBackend
from hybrid_provider.triggers.training import TrainingTrigger, TrainingWait
from tests.training_stage import BUCKET, environment

JOBS = 120
"""More than ListTrainingJobs gives on one page."""


@pytest.fixture(scope="module")
def cloud(tmp_path_factory):
    with (
        Emulator(tmp_path_factory.mktemp("cloud"), hosts=0) as emulator,
        pytest.MonkeyPatch.context() as patch,
    ):
        emulator.client("s3").create_bucket(Bucket=BUCKET)
        for name, value in environment(emulator).items():
            patch.setenv(name, value)
        yield emulator


def start_sleeping(cloud, name, **hyperparameters):
    cloud.client("sagemaker").create_training_job(
        TrainingJobName=name,
        RoleArn=cloud.role_arn,
        AlgorithmSpecification={"TrainingImage": SLEEP_IMAGE, "TrainingInputMode": "File"},
        HyperParameters=hyperparameters,
        OutputDataConfig={"S3OutputPath": f"s3://{BUCKET}/jobs"},
        ResourceConfig={"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 1},
        StoppingCondition={"MaxRuntimeInSeconds": 3600},
    )


@pytest.fixture(scope="module")
def names(cloud):
    """Jobs that sleep until they are stopped, the oldest first."""
    names = [f"sleeper-{number}" for number in range(JOBS)]
    for name in names:
        start_sleeping(cloud, name)
    return names


def trigger_for(name):
    return TrainingTrigger(
        wait=TrainingWait(job=JobRef(name, name)).to_dict(),
        check_interval=1,
        print_log=True,
        aws_conn_id="aws_default",
        region_name=None,
        verify=None,
        botocore_config=None,
    )


async def event_of(trigger):
    (event,) = [event async for event in trigger.run()]
    return TrainingWait.from_dict(event.payload)


async def until(condition):
    while not condition():  # noqa: ASYNC110 - the emulator's ledger has no event to wait for
        await asyncio.sleep(0.05)


def test_the_jobs_that_run_are_listed_over_all_pages_and_no_other(cloud, names):
    cloud.client("sagemaker").stop_training_job(TrainingJobName=names[50])
    found = backend_of(cloud).running({*names, "never-started"})
    assert set(found) == set(names) - {names[50]}


def test_what_ended_lately_is_listed_and_nothing_else(cloud, names):
    cloud.client("sagemaker").stop_training_job(TrainingJobName=names[51])
    listed, backend = cloud.ledger.calls["ListTrainingJobs"], backend_of(cloud)
    began = datetime.now(UTC) - timedelta(minutes=1)
    assert set(backend.ended({names[51], names[52]}, began)) == {names[51]}
    assert cloud.ledger.calls["ListTrainingJobs"] <= listed + 2
    assert backend.ended({names[51]}, datetime.now(UTC) + timedelta(minutes=1)) == {}


def test_listing_ends_where_looking_at_the_jobs_costs_less(cloud, names):
    before = cloud.ledger.calls["ListTrainingJobs"]
    assert backend_of(cloud).running({names[0]}) == {}
    assert cloud.ledger.calls["ListTrainingJobs"] == before + 1


async def test_a_crowd_of_waits_costs_listings_only_and_each_ends_with_its_job(cloud, names):
    def calls(operation):
        return cloud.ledger.calls.get(operation, 0)

    running = set(names) & set(cloud.ledger.running)
    await until(
        lambda: all(job.secondary_status == "Training" for job in cloud.ledger.entries if job.name in running)
    )
    described, listed = calls("DescribeTrainingJob"), calls("ListTrainingJobs")
    waits = [asyncio.create_task(event_of(trigger_for(name))) for name in running]
    await until(lambda: calls("ListTrainingJobs") >= listed + 6)
    assert calls("DescribeTrainingJob") - described <= FEW + 1

    sagemaker = cloud.client("sagemaker")
    for name in running:
        await asyncio.to_thread(sagemaker.stop_training_job, TrainingJobName=name)
    ended = await asyncio.gather(*waits)
    assert {wait.job.name for wait in ended} == running
    assert {wait.error for wait in ended} == {None}


def test_a_sleeping_job_ends_after_its_seconds_and_says_so_in_its_log(cloud):
    start_sleeping(cloud, "sleeps-a-little", seconds="0.2")
    waiter = cloud.client("sagemaker").get_waiter("training_job_completed_or_stopped")
    waiter.wait(TrainingJobName="sleeps-a-little", WaiterConfig={"Delay": 1, "MaxAttempts": 60})
    lines, _ = backend_of(cloud).logs(JobRef("sleeps-a-little", ""), {})
    assert [line.text for line in lines] == ["sleeping", "slept"]


def backend_of(cloud):
    import boto3

    fields = json.loads(environment(cloud)["AIRFLOW_CONN_AWS_DEFAULT"])
    session = boto3.Session(fields["login"], fields["password"], region_name="us-east-1")
    return SageMakerBackend(AwsAccess(session=session))
