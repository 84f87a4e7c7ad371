"""What the amazon provider's SageMakerTrainingOperator gets wrong, and this one does not.

Each test runs ours, and the amazon provider's where that can be; there, what ``must_hold`` has to fail, and
nothing else may.

====  ========================================================  =====================================================
W     what must hold                                            run against the amazon provider's operator
====  ========================================================  =====================================================
W1    a retry goes on with the job that runs                    here
W2    a killed task stops its job                               here
W3    a wait has no limit of its own                            here, by what its trigger is told: to run it needs
                                                                aiobotocore; ours also in test_training_run (ten
                                                                thousand looks)
W4    max_ingestion_time stops the job                          here
W5    a stopped job is no success, also without the log         here; stopped before its start in test_training_end
W6    every look is fresh                                       here; ours also in test_training_watch
W7    the log goes on while deferred, and no worker sleeps      here, by what its trigger is told and by its sleep;
                                                                that each line comes once, ours in
                                                                test_training_operator
W8    a deferred wait needs no aiobotocore                      here
W9    region, verify and botocore config reach every client     here
W10   the XCom is small, plain and without secrets              here
W11   what was billed is what the cloud says                    here
W12   a success has an artifact                                 here
W13   links lead to the job                                     here; lineage in test_training_lineage
W14   a failure says whether another try can help               here
W15   script mode; the source is uploaded once                  here
====  ========================================================  =====================================================
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import math
import os
import re
import threading
from datetime import timedelta
from uuid import uuid4

import pytest
from airflow.sdk.exceptions import AirflowFailException, TaskDeferred

from hybrid_provider.emulator.sagemaker import job as job_module
from hybrid_provider.emulator.sagemaker.job import TrainingJob
from hybrid_provider.training.run import TrainingRun
from tests.boundaries import Boundaries, Boundary
from tests.training_stage import (
    HastyTime,
    Instance,
    environment,
    must_hold,
    ours_and_theirs,
    rebuilt,
    train,
    train_with_amazon,
)
from tests.training_worker import Worker

pytestmark = pytest.mark.usefixtures("amazon_in_haste")


@pytest.fixture(scope="module")
def cloud(puppet_cloud):
    return puppet_cloud


@pytest.fixture(scope="module")
def boundaries(cloud):
    between = Boundaries(cloud.environment)
    yield between
    between.close()


@pytest.fixture(scope="module", autouse=True)
def known(cloud, boundaries):
    """The environment of a worker; every call goes past the boundaries."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (environment(cloud) | boundaries.environment).items():
            patch.setenv(name, value)
        yield environment(cloud) | boundaries.environment


@pytest.fixture
def task(boundaries):
    boundaries.attempt()
    return Instance(run_id=f"manual__{uuid4().hex[:8]}")


@pytest.fixture(scope="module")
def worker(boundaries, known):
    worker = Worker(boundaries, known)
    yield worker
    worker.close()


@ours_and_theirs
def test_w1_a_retry_of_a_killed_worker_goes_on_with_the_job_that_runs(
    boundaries, known, *, worker, new_jobs, make
):
    arguments = {} if make is train else {"config": {"TrainingJobName": f"w1-{uuid4().hex[:8]}"}}
    task = {
        "run_id": uuid4().hex, "try_number": 0, "max_tries": 3, "store_url": boundaries.store_url,
        "environment": known, "amazon": make is train_with_amazon, "arguments": arguments,
    }  # fmt: skip
    assert worker.attempt(task, Boundary("CreateTrainingJob", 1, "after")) is None
    worker.attempt(task | {"try_number": 1})

    jobs = new_jobs()
    assert jobs
    with must_hold():
        assert len(jobs) == 1


@ours_and_theirs
def test_w2_a_killed_task_stops_its_job(task, boundaries, puppets, *, new_jobs, make):
    operator = make("wait")
    execution = threading.Thread(target=quietly, args=(operator.execute, task.new_try()), daemon=True)
    execution.start()
    job = running_job(new_jobs, puppets)

    operator.on_kill()

    try:
        with must_hold():
            assert ("StopTrainingJob", 1) in boundaries.calls
        assert puppets.of(job).wait(60) is not None
    finally:
        puppets.of(job).finish()
        execution.join(60)


@ours_and_theirs
def test_w3_a_deferred_wait_has_no_limit_below_sagemakers_own(task, make):
    with pytest.raises(TaskDeferred) as deferred:
        make("wait", deferrable=True, check_interval=30).execute(task.new_try())

    _, told = deferred.value.trigger.serialize()
    limit = told["waiter_delay"] * told["waiter_max_attempts"] if "waiter_max_attempts" in told else math.inf
    assert deferred.value.timeout is None
    with must_hold():
        assert limit >= timedelta(days=28).total_seconds()


@ours_and_theirs
def test_w4_max_ingestion_time_stops_the_job(task, new_jobs, make):
    with pytest.raises(Exception, match=r"max_ingestion_time|took more than"):
        task.attempt(make("wait", max_ingestion_time=1))

    assert new_jobs()
    with must_hold():
        assert not any(job.running for job in new_jobs())


@ours_and_theirs
def test_w5_a_stopped_job_is_no_success(cloud, task, puppets, new_jobs, make):
    def stop():
        cloud.client("sagemaker").stop_training_job(TrainingJobName=running_job(new_jobs, puppets))

    threading.Thread(target=stop, daemon=True).start()

    with must_hold(), pytest.raises(Exception, match="stopped"):
        task.attempt(make("wait", print_log=False))


@ours_and_theirs
def test_w6_a_look_is_fresh_also_where_its_message_is_not(
    task, boundaries, *, puppets, new_jobs, monkeypatch, make
):
    enter = TrainingJob.enter
    monkeypatch.setattr(TrainingJob, "enter", lambda job, to, _, **end: enter(job, to, "Working", **end))

    def fail():
        puppet = puppets.of(running_job(new_jobs, puppets))
        while "DescribeTrainingJob" not in calls_since_create(boundaries):
            threading.Event().wait(0.02)
        puppet.finish(1, failure="ZeroDivisionError: division by zero")

    threading.Thread(target=fail, daemon=True).start()

    with must_hold(), pytest.raises(Exception, match="ZeroDivisionError"):
        task.attempt(make("wait", print_log=True))


@ours_and_theirs
def test_w7_whoever_waits_while_deferred_is_told_to_show_the_log(task, make):
    with pytest.raises(TaskDeferred) as deferred:
        make("wait", deferrable=True, print_log=True).execute(task.new_try())

    _, told = deferred.value.trigger.serialize()
    with must_hold():
        assert told.get("print_log") is True


@ours_and_theirs
def test_w7_no_worker_sleeps_before_it_defers(task, monkeypatch, make):
    slept = []
    monkeypatch.setattr(HastyTime, "sleep", staticmethod(slept.append))
    monkeypatch.setattr(TrainingRun, "wait", lambda *_: slept.append(math.inf))

    with pytest.raises(TaskDeferred):
        make("wait", deferrable=True, print_log=True, check_interval=3600).execute(task.new_try())

    with must_hold():
        assert slept == []


@ours_and_theirs
def test_w8_a_deferred_wait_needs_no_aiobotocore(task, boundaries, make):
    assert importlib.util.find_spec("aiobotocore") is None
    with pytest.raises(TaskDeferred) as deferred:
        make("wait", deferrable=True).execute(task.new_try())
    boundaries.attempt()

    async def look_once():
        waiting = asyncio.create_task(task.first_event(rebuilt(deferred.value.trigger)))
        while not waiting.done() and ("DescribeTrainingJob", 1) not in boundaries.calls:
            await asyncio.wait({waiting}, timeout=0.02)
        assert waiting.cancel() or waiting.result()

    with must_hold(ImportError):
        asyncio.run(look_once())


@ours_and_theirs
def test_w9_the_region_of_the_task_is_that_of_every_client(task, boundaries, monkeypatch, make):
    connection = json.loads(os.environ["AIRFLOW_CONN_AWS_DEFAULT"])
    connection["extra"]["region_name"] = "eu-west-1"
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", json.dumps(connection))
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")

    task.attempt(make(region_name="us-east-1", print_log=True))

    assert {service for service, _ in boundaries.scopes} >= {"sagemaker", "logs"}
    with must_hold():
        assert {region for _, region in boundaries.scopes} == {"us-east-1"}


@ours_and_theirs
def test_w10_the_xcom_has_no_secret_and_no_python_in_it(task, make):
    if make is train:
        operator = make(hyperparameters={"password": "hunter2"})
    else:
        operator = make(config={"HyperParameters": {"password": "hunter2"}})

    result = json.dumps(task.attempt(operator))

    with must_hold():
        assert "hunter2" not in result
        assert "datetime" not in result
        assert len(result) < 1500


@ours_and_theirs
def test_w11_what_was_billed_is_what_the_cloud_says(task, puppets, *, new_jobs, make, capfd, monkeypatch):
    if make is train:
        operator = make("wait", spot=True)
    else:
        stopping = {"MaxRuntimeInSeconds": 600, "MaxWaitTimeInSeconds": 600}
        config = {"EnableManagedSpotTraining": True, "StoppingCondition": stopping}
        operator = make("wait", config=config, print_log=True)

    def finish():
        puppet = puppets.of(running_job(new_jobs, puppets))
        # It ends a hundred seconds from now, of which spot is billed a part.
        end = job_module.now() + timedelta(seconds=100)
        monkeypatch.setattr(job_module, "now", lambda: end)
        puppet.finish()

    threading.Thread(target=finish, daemon=True).start()
    task.attempt(operator)

    (job,) = new_jobs()
    said = re.search(r"(\d+) instance seconds billed|Billable seconds: (\d+)", capfd.readouterr().out)
    assert 0 < job.billed_seconds < 100
    with must_hold():
        assert int(said[1] or said[2]) == job.billed_seconds


@ours_and_theirs
def test_w12_a_success_has_an_artifact(task, make):
    with must_hold(), pytest.raises(Exception, match="artifact"):
        task.attempt(make("empty"))


@ours_and_theirs
def test_w13_links_lead_to_the_job(make):
    with must_hold():
        assert {link.name for link in make().operator_extra_links} == {
            "SageMaker training job",
            "CloudWatch log",
        }


@ours_and_theirs
def test_w14_a_failing_script_is_not_paid_again_by_a_retry(task, make):
    with pytest.raises(Exception, match="ZeroDivisionError") as failed:
        task.attempt(make("fail"))

    with must_hold():
        assert isinstance(failed.value, AirflowFailException)


@ours_and_theirs
def test_w15_a_script_is_packed_and_uploaded_once(task, boundaries, tmp_path, make):
    (tmp_path / "train.py").write_text(f"# {task.run_id}\n")
    with must_hold(TypeError):
        operators = [make(source_dir=str(tmp_path), entry_point="train.py") for _ in range(2)]
    for number, operator in enumerate(operators):
        Instance(run_id=f"{task.run_id}-{number}").attempt(operator)

    assert [call for call, _ in boundaries.calls].count("s3 PUT source") == 1


def test_w7_the_log_goes_on_while_deferred(task, puppets, new_jobs, capfd):
    with pytest.raises(TaskDeferred) as deferred:
        train("wait", deferrable=True).execute(task.new_try())
    puppet = puppets.of(running_job(new_jobs, puppets))
    puppet.say("while deferred")
    puppet.finish()

    asyncio.run(task.first_event(rebuilt(deferred.value.trigger)))

    assert capfd.readouterr().out.count("while deferred") == 1


def quietly(call, *arguments):
    """Whatever comes of it."""
    try:
        return call(*arguments)
    except Exception:  # noqa: BLE001 - the ledger is looked at, not the error
        return None


def calls_since_create(boundaries):
    calls = [call for call, _ in tuple(boundaries.calls)]
    return calls[calls.index("CreateTrainingJob") :] if "CreateTrainingJob" in calls else []


def running_job(new_jobs, puppets):
    while not new_jobs():
        threading.Event().wait(0.02)
    name = new_jobs()[0].name
    puppets.of(name)
    return name
