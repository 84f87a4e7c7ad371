"""The train operator against the emulator's cloud: what is started, billed, handed on and left running."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from datetime import timedelta
from uuid import uuid4

import pytest
from airflow.sdk import Asset
from airflow.sdk.exceptions import AirflowFailException, TaskDeferred

from hybrid_provider.links.training import TrainingJobLink, TrainingLogLink
from hybrid_provider.operators.train import SageMakerTrainOperator
from hybrid_provider.triggers import training as trigger_module
from tests.training_stage import BUCKET, IMAGE, Comms, Instance, environment, rebuilt, train


@pytest.fixture(scope="module")
def cloud(puppet_cloud):
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment(puppet_cloud).items():
            patch.setenv(name, value)
        yield puppet_cloud


@pytest.fixture
def task(cloud):
    return Instance(run_id=f"manual__{uuid4().hex[:8]}")


@pytest.fixture(params=["synchronous", "deferrable"])
def mode(request):
    return {"deferrable": request.param == "deferrable"}


def jobs_of(cloud, task):
    """The ledger's entries of one run."""
    return [entry for entry in cloud.ledger.entries if entry.tags.get("hybrid:run") == task.run_id]


def test_the_result_is_the_verified_artifact_and_what_it_cost(cloud, task, mode):
    result = task.attempt(train(**mode))

    (job,) = jobs_of(cloud, task)
    artifact = result["artifact"]
    assert result["job"] == job.name
    assert result["arn"].endswith(f":training-job/{job.name}")
    assert result["status"] == "Completed"
    assert artifact["uri"] == f"s3://{BUCKET}/jobs/{job.name}/output/model.tar.gz"
    head = cloud.client("s3").head_object(Bucket=BUCKET, Key=f"jobs/{job.name}/output/model.tar.gz")
    assert (artifact["size_bytes"], artifact["etag"]) == (head["ContentLength"], head["ETag"].strip('"'))
    assert result["metrics"] == {"accuracy": 0.75}
    assert result["inputs"] == []
    assert result["billable_seconds"] == job.billed_seconds > 0
    assert result["started"] < result["ended"]
    assert len(result["spec_fingerprint"]) == 64


def test_a_retry_adopts_the_running_job(cloud, task, puppets, mode):
    first = train("wait", deferrable=True)
    with pytest.raises(TaskDeferred):
        first.execute(task.new_try())
    (job,) = jobs_of(cloud, task)
    puppets.of(job.name).finish()

    assert task.attempt(train("wait", **mode))["job"] == job.name
    assert [entry.name for entry in jobs_of(cloud, task)] == [job.name]


@pytest.mark.parametrize("waits", [True, False], ids=["", "without-waiting"])
def test_a_job_that_is_being_stopped_is_waited_out_in_the_triggerer(cloud, task, puppets, waits):
    arguments = {"plan": "stubborn", "deferrable": True, "wait_for_completion": waits}
    left = deferred_trigger(task, **arguments | {"wait_for_completion": True}).wait["job"]
    puppet = puppets.of(left)
    cloud.client("sagemaker").stop_training_job(TrainingJobName=left)

    operator = train(**arguments)
    with pytest.raises(TaskDeferred) as deferred:
        operator.execute(task.new_try())
    assert [job.name for job in jobs_of(cloud, task)] == [left]
    puppet.finish()
    if waits:
        finish_when_running(cloud, task, puppets, but=left)
    result = task.resume(operator, deferred.value)

    stopped, next_generation = jobs_of(cloud, task)
    assert (stopped.name, stopped.status) == (left, "Stopped")
    assert result["job"] == next_generation.name
    assert result["status"] == ("Completed" if waits else "InProgress")
    puppets.of(next_generation.name).finish()


def finish_when_running(cloud, task, puppets, but):
    """Have the next job of a task end well, from another thread."""

    def finish():
        while not (names := {job.name for job in jobs_of(cloud, task)} - {but}):
            threading.Event().wait(0.02)
        puppets.of(names.pop()).finish()

    threading.Thread(target=finish, daemon=True).start()


def test_a_clear_after_success_trains_again(cloud, task, mode):
    first = task.attempt(train(**mode))
    task.clear()
    second = task.attempt(train(**mode))

    assert [job.name for job in jobs_of(cloud, task)] == [first["job"], second["job"]]


def test_a_lost_delivery_is_repeated_without_training_again(cloud, task, mode):
    assert task.attempt(train(**mode)) == task.attempt(train(**mode))
    assert len(jobs_of(cloud, task)) == 1


def test_a_script_that_fails_fails_the_task_at_once_with_its_reason_and_log(cloud, task, mode):
    with pytest.raises(AirflowFailException) as failed:
        task.attempt(train("fail", **mode))

    said = str(failed.value)
    assert "AlgorithmError: " in said
    assert "ZeroDivisionError" in said
    assert said.endswith("about to fail")
    assert not any(job.running for job in jobs_of(cloud, task))


@pytest.mark.parametrize("plan", ["train", "fail"])
def test_what_was_billed_is_counted_however_the_job_ended(cloud, task, monkeypatch, plan):
    counted = []
    monkeypatch.setattr(
        "airflow.sdk.observability.stats.incr",
        lambda name, count, tags: counted.append((name, count, tags["model"])),
    )
    with contextlib.suppress(AirflowFailException):
        task.attempt(train(plan))

    (job,) = jobs_of(cloud, task)
    assert counted == [("hybrid.train.billable_seconds", job.billed_seconds, "puppet")]


def test_an_empty_model_folder_is_a_failure_and_a_clear_trains_again(cloud, task, mode):
    with pytest.raises(AirflowFailException, match="left no artifact"):
        task.attempt(train("empty", **mode))
    task.clear()
    with pytest.raises(AirflowFailException):
        task.attempt(train("empty", **mode))

    assert len(jobs_of(cloud, task)) == 2


def test_a_job_that_somebody_stopped_is_a_failure(cloud, task, puppets, mode):
    stop_when_running(cloud, task, puppets)

    with pytest.raises(AirflowFailException, match="was stopped by somebody"):
        task.attempt(train("wait", **mode))


def test_the_artifact_of_a_stopped_job_can_be_accepted(cloud, task, puppets, mode):
    with pytest.raises(TaskDeferred):
        train("wait", deferrable=True, on_stopped="accept").execute(task.new_try())
    (job,) = jobs_of(cloud, task)
    (puppets.of(job.name)._container.model_folder / "model.txt").write_text("half")
    cloud.client("sagemaker").stop_training_job(TrainingJobName=job.name)

    result = task.attempt(train("wait", on_stopped="accept", **mode))

    assert result["status"] == "Stopped"
    assert result["artifact"]["size_bytes"] > 0


def stop_when_running(cloud, task, puppets):
    """Stop the job of a task from another thread, as a person would."""

    def stop():
        while not jobs_of(cloud, task):
            threading.Event().wait(0.02)
        (job,) = jobs_of(cloud, task)
        puppets.of(job.name)
        cloud.client("sagemaker").stop_training_job(TrainingJobName=job.name)

    threading.Thread(target=stop, daemon=True).start()


def test_a_killed_task_stops_its_job(cloud, task, puppets):
    operator = train("wait", check_interval=60)
    killed = threading.Thread(target=lambda: (wait_until_running(cloud, task, puppets), operator.on_kill()))
    killed.start()

    with pytest.raises(AirflowFailException, match="was killed"):
        operator.execute(task.new_try())
    killed.join()
    (job,) = jobs_of(cloud, task)
    assert wait_until_ended(cloud, job.name) == "Stopped"


def test_a_user_s_kill_of_a_deferred_task_stops_its_job(cloud, task, puppets, monkeypatch):
    trigger = deferred_trigger(task)
    monkeypatch.setattr(type(trigger), "_task_is_deferred", lambda _: False)

    asyncio.run(trigger.on_kill())

    (job,) = jobs_of(cloud, task)
    assert wait_until_ended(cloud, job.name) == "Stopped"


def test_a_trigger_that_merely_moves_stops_nothing(cloud, task, puppets, monkeypatch):
    trigger = deferred_trigger(task)
    monkeypatch.setattr(type(trigger), "_task_is_deferred", lambda _: True)

    asyncio.run(trigger.on_kill())
    asyncio.run(trigger.cleanup())

    (job,) = jobs_of(cloud, task)
    assert job.running
    puppets.of(job.name).finish()


def deferred_trigger(task, plan="wait", **arguments):
    with pytest.raises(TaskDeferred) as deferred:
        train(plan, **{"deferrable": True} | arguments).execute(task.new_try())
    return rebuilt(deferred.value.trigger)


def test_a_wait_past_its_time_stops_the_job(cloud, task, puppets, mode):
    with pytest.raises(AirflowFailException, match="max_ingestion_time"):
        task.attempt(train("wait", max_ingestion_time=1, **mode))

    (job,) = jobs_of(cloud, task)
    assert not job.running


def test_execution_timeout_holds_while_deferred(cloud, task, puppets):
    with pytest.raises(AirflowFailException, match="execution_timeout"):
        task.attempt(train("wait", deferrable=True, execution_timeout=timedelta(seconds=1)))

    (job,) = jobs_of(cloud, task)
    assert not job.running


def test_a_restarted_trigger_goes_on_where_the_log_stood(cloud, task, puppets, monkeypatch, caplog):
    monkeypatch.setattr(trigger_module, "XCom", Comms(task.xcoms))
    said = []
    first = heard(deferred_trigger(task), task, said)
    (job,) = jobs_of(cloud, task)
    puppet = puppets.of(job.name)

    async def run_until_heard(trigger, line):
        running = asyncio.ensure_future(task.first_event(trigger))
        while line not in said:  # noqa: ASYNC110 - the log is a list
            await asyncio.sleep(0.02)
        return running

    async def lost():
        running = await run_until_heard(first, "before")
        # A triggerer that dies writes nothing more; what it had shown is kept already or is shown again.
        while task.xcoms["training_log_cursor"] == cursor_before:  # noqa: ASYNC110 - the store is a dict
            await asyncio.sleep(0.02)
        running.cancel()

    cursor_before = dict(task.xcoms["training_log_cursor"])
    puppet.say("before")
    asyncio.run(lost())
    second = heard(rebuilt(first), task, said)
    puppet.say("after")
    puppet.finish()
    asyncio.run(task.first_event(second))

    assert [line for line in said if line in {"before", "after"}] == ["before", "after"]


def heard(trigger, task, said):
    trigger.task_instance = None
    trigger._task = lambda: task
    task.map_index = -1
    trigger._log = type("Log", (), {"info": lambda _self, _form, *texts: said.extend(texts)})()
    return trigger


def test_arguments_that_sagemaker_would_refuse_are_all_told_at_once_and_nothing_is_started(cloud, task):
    before = len(cloud.ledger.started)
    operator = train(
        instance_type="m5.large",
        instance_count=0,
        role="not a role",
        inputs={"train": "/data"},
        hyperparameters={"x": object()},
        on_stopped="fail",
        max_wait=timedelta(minutes=1),
        tags={"k" * 129: "v"},
        image_uri="i" * 300,
    )

    with pytest.raises(AirflowFailException) as refused:
        operator.execute(task.new_try())

    said = str(refused.value)
    for argument in (
        "instance_type", "instance_count", "role", "inputs[train]", "hyperparameters[x]", "max_wait", "tags",
        "image_uri",
    ):  # fmt: skip
        assert f"- {argument}" in said
    assert len(cloud.ledger.started) == before


def test_max_billable_is_a_bound_before_the_submit(cloud, task):
    operator = train(instance_count=4, max_runtime=timedelta(hours=2), max_billable=timedelta(hours=7))

    with pytest.raises(AirflowFailException, match=r"max_billable: 4 instances .* 8:00:00, but 7:00:00"):
        operator.execute(task.new_try())
    assert jobs_of(cloud, task) == []


def test_a_task_that_does_not_wait_hands_on_the_job_without_an_artifact(cloud, task, puppets):
    result = task.attempt(train("wait", wait_for_completion=False))

    (job,) = jobs_of(cloud, task)
    assert result["artifact"] is None
    assert result["status"] == "InProgress"
    puppets.of(job.name).finish()


def test_the_amazon_provider_s_config_is_a_rename(cloud, task, mode):
    config = {
        "TrainingJobName": "my-job",
        "AlgorithmSpecification": {"TrainingImage": IMAGE, "TrainingInputMode": "File"},
        "RoleArn": cloud.role_arn,
        "OutputDataConfig": {"S3OutputPath": f"s3://{BUCKET}/amazon"},
        "ResourceConfig": {"InstanceCount": "1", "InstanceType": "ml.c4.xlarge", "VolumeSizeInGB": "5"},
        "StoppingCondition": {"MaxRuntimeInSeconds": "3600"},
        "Environment": {"PLAN": "train"},
        "Tags": [{"Key": "team", "Value": "vision"}],
    }
    operator = SageMakerTrainOperator(
        task_id="train",
        config=config,
        check_interval=0.05,
        max_attempts=9,
        action_if_job_exists="fail",
        **mode,
    )

    result = task.attempt(operator)

    described = cloud.client("sagemaker").describe_training_job(TrainingJobName=result["job"])
    assert result["artifact"]["uri"].startswith(f"s3://{BUCKET}/amazon/")
    assert described["ResourceConfig"] == {
        "InstanceCount": 1, "InstanceType": "ml.c4.xlarge", "VolumeSizeInGB": 5,
    }  # fmt: skip
    tags = cloud.client("sagemaker").list_tags(ResourceArn=result["arn"])["Tags"]
    assert {"Key": "team", "Value": "vision"} in tags


def test_an_outlet_s_event_carries_the_artifact(cloud, task, mode):
    asset = Asset("hybrid://model/puppet")
    result = task.attempt(train(outlets=[asset], **mode))

    assert task.assets[asset].extra["artifact"] == result["artifact"]


def test_uncompressed_output_is_an_artifact_of_a_prefix(cloud, task, mode):
    result = task.attempt(train(compression="none", **mode))

    assert result["artifact"]["uri"].endswith("/")
    assert result["artifact"]["size_bytes"] > 0


def test_the_links_lead_to_the_job_and_its_log(cloud, task, monkeypatch):
    result = task.attempt(train())
    monkeypatch.setattr("hybrid_provider.links.training.XCom", Comms(task.xcoms))

    page = TrainingJobLink().get_link(None, ti_key=None)
    log = TrainingLogLink().get_link(None, ti_key=None)

    assert (
        page
        == f"https://us-east-1.console.aws.amazon.com/sagemaker/home?region=us-east-1#/jobs/{result['job']}"
    )
    assert f"$252Faws$252Fsagemaker$252FTrainingJobs$3FlogStreamNameFilter$3D{result['job']}$252F" in log


def wait_until_running(cloud, task, puppets):
    while not jobs_of(cloud, task):
        threading.Event().wait(0.02)
    (job,) = jobs_of(cloud, task)
    puppets.of(job.name)


def wait_until_ended(cloud, name):
    sagemaker = cloud.client("sagemaker")
    while True:
        status = sagemaker.describe_training_job(TrainingJobName=name)["TrainingJobStatus"]
        if status in {"Completed", "Failed", "Stopped"}:
            return status
        threading.Event().wait(0.02)
