"""Training on a cloud's bad days, ours and the amazon provider's, judged by the emulator's ledger.

What is asked of it each time: how many jobs were started, what they cost, and what still runs at the end.
"""

from __future__ import annotations

import threading
from datetime import timedelta
from uuid import uuid4

import pytest
from airflow.sdk import RetryAction
from airflow.sdk.exceptions import AirflowFailException

from hybrid_provider.emulator.sagemaker import service
from hybrid_provider.emulator.sagemaker.job import TrainingJob, now
from hybrid_provider.emulator.sagemaker.refusals import refuse_over_quota
from hybrid_provider.exceptions import CapacityUnavailable, CloudUnavailable, TrainingInterrupted
from hybrid_provider.retries import TrainingRetryPolicy
from tests.training_stage import (
    Instance,
    environment,
    must_hold,
    ours_and_theirs,
    train,
    train_with_amazon,
)

pytestmark = pytest.mark.usefixtures("amazon_in_haste")

IMPATIENT = {"retries": {"total_max_attempts": 1}}
"""botocore repeats no call by itself."""


@pytest.fixture(scope="module", autouse=True)
def cloud(puppet_cloud):
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment(puppet_cloud).items():
            patch.setenv(name, value)
        yield puppet_cloud


@pytest.fixture(autouse=True)
def good_days_come_back(cloud):
    yield
    cloud.trouble.end()


@pytest.fixture
def task():
    return Instance(run_id=f"manual__{uuid4().hex[:8]}")


@pytest.fixture(params=["synchronous", "deferrable"])
def mode(request):
    return {"deferrable": request.param == "deferrable"}


def spot(make, plan="wait", **changes):
    """A spot job of either operator."""
    if make is train:
        return train(plan, spot=True, **changes)
    stopping = {"MaxRuntimeInSeconds": 600, "MaxWaitTimeInSeconds": 600}
    return train_with_amazon(
        plan, config={"EnableManagedSpotTraining": True, "StoppingCondition": stopping}, **changes
    )


def the_job(new_jobs):
    """The only job of this test, once it is there."""
    while not new_jobs():
        threading.Event().wait(0.02)
    (job,) = new_jobs()
    return job


def meanwhile(*steps):
    """Do something in another thread while the test waits."""

    def go():
        for step in steps:
            step()

    thread = threading.Thread(target=go, daemon=True)
    thread.start()
    return thread


def until(condition):
    while not condition():
        threading.Event().wait(0.02)


def test_an_interrupted_spot_job_is_waited_for_and_goes_on(cloud, task, puppets, new_jobs, mode):
    def interrupt():
        puppets.of(the_job(new_jobs).name).checkpoint("epoch-3")
        cloud.trouble.take_spot_instances()
        until(lambda: the_job(new_jobs).secondary_status == "Starting")
        cloud.trouble.give_spot_instances()
        until(lambda: puppets.starts(the_job(new_jobs).name) == 2)
        puppets.of(the_job(new_jobs).name).finish()

    meanwhile(interrupt)
    result = task.attempt(train("wait", spot=True, **mode))

    job = the_job(new_jobs)
    assert (job.status, job.running) == ("Completed", False)
    assert result["billable_seconds"] == job.billed_seconds > 0
    assert puppets.of(job.name).checkpoints == {"epoch-3"}


def test_a_spot_job_that_lost_its_instances_for_good_is_retried_from_its_checkpoint_and_a_new_training_is_not(
    cloud, task, *, puppets, new_jobs, mode, monkeypatch
):
    def take_for_good():
        puppets.of(the_job(new_jobs).name).checkpoint("epoch-3")
        cloud.trouble.take_spot_instances()
        until(lambda: the_job(new_jobs).secondary_status == "Starting")
        monkeypatch.setattr(TrainingJob, "wait_ends", property(lambda _: now()))
        cloud.trouble.take_spot_instances()

    meanwhile(take_for_good)
    with pytest.raises(TrainingInterrupted, match="raise max_wait, or train without spot"):
        task.attempt(train("wait", spot=True, **mode))
    interrupted = the_job(new_jobs)
    assert interrupted.secondary_status == "MaxWaitTimeExceeded"

    monkeypatch.undo()
    cloud.trouble.end()
    retried, cleared = (finishing(task, puppets, new_jobs, count, mode) for count in (2, 3))

    assert puppets.of(next(retried)["job"]).checkpoints == {"epoch-3"}
    task.clear()
    assert puppets.of(next(cleared)["job"]).checkpoints == set()
    assert [job.status for job in new_jobs()] == ["Stopped", "Completed", "Completed"]


def finishing(task, puppets, new_jobs, count, mode):
    """A try whose job, the one of this count, ends well."""

    def finish():
        until(lambda: len(new_jobs()) == count)
        puppets.of(new_jobs()[-1].name).finish()

    meanwhile(finish)
    yield task.attempt(train("wait", spot=True, **mode))


def test_what_spot_saved_is_told_handed_on_and_counted(task, *, puppets, new_jobs, mode, monkeypatch, capfd):
    counted = []
    monkeypatch.setattr(
        "airflow.sdk.observability.stats.incr",
        lambda name, count, tags: counted.append((name, count, tags)),
    )

    def finish_a_hundred_seconds_from_now():
        puppet = puppets.of(the_job(new_jobs).name)
        end = now() + timedelta(seconds=100)
        monkeypatch.setattr("hybrid_provider.emulator.sagemaker.job.now", lambda: end)
        puppet.finish()

    meanwhile(finish_a_hundred_seconds_from_now)
    result = task.attempt(train("wait", spot=True, **mode))

    billed, saved = the_job(new_jobs).billed_seconds, result["saved_seconds"]
    assert (result["billable_seconds"], billed + saved) == (30, 100)
    tags = {"model": "puppet", "dag_id": task.dag_id, "task_id": task.task_id}
    assert counted == [
        ("hybrid.train.billable_seconds", billed, tags),
        ("hybrid.train.saved_seconds", saved, tags),
    ]
    assert f"{billed} instance seconds billed, 70% saved by spot" in capfd.readouterr().out


def test_no_instances_now_is_paced_by_the_retry_policy_and_a_retry_gets_them(
    task, *, puppets, new_jobs, mode, monkeypatch
):
    monkeypatch.setattr(
        service, "refuse_over_quota", lambda asked, jobs, _: refuse_over_quota(asked, jobs, 1)
    )
    # Of a type that no other test's job has.
    operator = {"instance_type": "ml.m4.16xlarge", "retry_policy": TrainingRetryPolicy(), **mode}
    other = Instance(run_id=f"{task.run_id}-other")
    taken = other.attempt(train("wait", wait_for_completion=False, **operator))["job"]

    with pytest.raises(CapacityUnavailable, match="other jobs use the quota now") as refused:
        task.attempt(train(**operator))
    decision = train(**operator).retry_policy.evaluate(refused.value, try_number=1, max_tries=2)
    assert (decision.action, decision.retry_delay) == (RetryAction.RETRY, timedelta(minutes=15))

    puppets.of(taken).finish()
    until(lambda: not the_job(new_jobs).running)
    result = task.attempt(train(**operator))

    assert [job.name for job in new_jobs()] == [taken, result["job"]]


@ours_and_theirs
def test_a_spot_job_that_never_got_an_instance_is_no_success_and_costs_nothing(
    cloud, task, new_jobs, make, monkeypatch
):
    cloud.trouble.take_spot_instances()
    monkeypatch.setattr(TrainingJob, "wait_ends", property(lambda _: now()))

    with must_hold(), pytest.raises(Exception, match=r"(?i)stopped|spot instances"):
        task.attempt(spot(make))

    job = the_job(new_jobs)
    assert (job.secondary_status, job.billed_seconds, job.running) == ("MaxWaitTimeExceeded", 0, False)


@ours_and_theirs
def test_a_job_that_was_stopped_before_it_started_is_no_success_and_costs_nothing(
    cloud, task, new_jobs, make
):
    cloud.trouble.take_spot_instances()
    sagemaker = cloud.client("sagemaker")
    meanwhile(lambda: sagemaker.stop_training_job(TrainingJobName=the_job(new_jobs).name))

    with must_hold(), pytest.raises(Exception, match=r"(?i)stopped"):
        task.attempt(spot(make))

    job = the_job(new_jobs)
    assert (job.status, job.billed_seconds, job.running) == ("Stopped", 0, False)


@ours_and_theirs
def test_a_job_that_exceeded_its_runtime_is_no_success_and_is_not_paid_twice(task, new_jobs, make):
    limited = {"StoppingCondition": {"MaxRuntimeInSeconds": 1}}

    with must_hold(), pytest.raises(AirflowFailException, match="ran longer than max_runtime"):
        task.attempt(make("wait", config=limited))

    job = the_job(new_jobs)
    assert (job.secondary_status, job.running) == ("MaxRuntimeExceeded", False)
    assert job.billed_seconds > 0


@ours_and_theirs
@pytest.mark.parametrize("trouble", ["throttle", "fail"])
def test_ten_looks_that_fail_cost_no_second_job(cloud, task, *, puppets, new_jobs, make, trouble):
    operator = {} if make is train else {"config": {"TrainingJobName": f"ten-{uuid4().hex[:8]}"}}

    def misbehave():
        puppet = puppets.of(the_job(new_jobs).name)
        before = cloud.ledger.calls["DescribeTrainingJob"]
        getattr(cloud.trouble, trouble)("DescribeTrainingJob", 10)
        until(lambda: cloud.ledger.calls["DescribeTrainingJob"] > before + 10 or failed.is_set())
        puppet.finish()

    failed = threading.Event()
    trouble_maker = meanwhile(misbehave)
    arguments = {"botocore_config": IMPATIENT, "check_interval": 0.05, **operator}
    try:
        task.attempt(make("wait", **arguments))
    except Exception:  # noqa: BLE001 - Airflow retries it
        failed.set()
        trouble_maker.join()
        cloud.trouble.end()
        task.attempt(make("train", **arguments))

    jobs = new_jobs()
    assert jobs
    with must_hold():
        assert len(jobs) == 1
    job = jobs[0]
    assert (job.status, job.running) == ("Completed", False)


def test_ten_looks_of_a_trigger_that_fail_are_borne(cloud, task, puppets, new_jobs):
    def misbehave():
        puppet = puppets.of(the_job(new_jobs).name)
        before = cloud.ledger.calls["DescribeTrainingJob"]
        cloud.trouble.throttle("DescribeTrainingJob", 10)
        until(lambda: cloud.ledger.calls["DescribeTrainingJob"] > before + 10)
        puppet.finish()

    meanwhile(misbehave)
    result = task.attempt(train("wait", deferrable=True, botocore_config=IMPATIENT))

    assert result["job"] == the_job(new_jobs).name
    assert result["status"] == "Completed"


@pytest.mark.parametrize("operation", ["CreateTrainingJob", "DescribeTrainingJob", "ListTags"])
@pytest.mark.parametrize("trouble", ["throttle", "fail"])
def test_a_start_that_is_refused_for_now_is_retried_and_pays_for_one_job(
    cloud, task, *, new_jobs, operation, trouble, mode
):
    operator = {"botocore_config": IMPATIENT, **mode}
    if operation != "CreateTrainingJob":
        # Only a try that comes after another asks what there is.
        cloud.trouble.fail("CreateTrainingJob")
        with pytest.raises(CloudUnavailable):
            task.attempt(train(**operator))
        if operation == "ListTags":
            assert task.attempt(train(**operator))["job"] == the_job(new_jobs).name
    getattr(cloud.trouble, trouble)(operation)

    with pytest.raises(CloudUnavailable, match=operation):
        task.attempt(train(**operator))
    result = task.attempt(train(**operator))

    job = the_job(new_jobs)
    assert (job.name, job.status) == (result["job"], "Completed")


def test_a_stop_that_is_refused_for_now_is_sent_again(cloud, task, new_jobs, mode):
    cloud.trouble.throttle("StopTrainingJob", 3)

    with pytest.raises(AirflowFailException, match="max_ingestion_time"):
        task.attempt(train("wait", max_ingestion_time=1, botocore_config=IMPATIENT, **mode))

    job = the_job(new_jobs)
    assert (job.status, job.running) == ("Stopped", False)


def test_a_clear_after_a_failure_trains_once_more(task, new_jobs, mode):
    for _ in range(2):
        with pytest.raises(AirflowFailException, match="ZeroDivisionError"):
            task.attempt(train("fail", **mode))
        task.clear()

    assert [job.status for job in new_jobs()] == ["Failed", "Failed"]


def test_two_workers_that_race_to_submit_start_one_job(task, new_jobs, mode):
    together, results = threading.Barrier(2), []

    def work():
        operator, context = train(deferrable=False), task.context()
        together.wait()
        results.append(operator.execute(context))

    workers = [threading.Thread(target=work) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()

    job = the_job(new_jobs)
    assert [result["job"] for result in results] == [job.name, job.name]


def test_two_installations_with_the_same_dag_have_a_job_each(task, new_jobs, monkeypatch, mode):
    first = task.attempt(train(**mode))
    monkeypatch.setenv("AIRFLOW__HYBRID__INSTALLATION_ID", "another")
    second = Instance(run_id=task.run_id).attempt(train(**mode))

    assert [job.name for job in new_jobs()] == [first["job"], second["job"]]
    assert {job.status for job in new_jobs()} == {"Completed"}


def test_a_deleted_and_re_run_dag_run_trains_anew(task, new_jobs, mode):
    first = task.attempt(train(**mode))
    again = Instance(run_id=task.run_id).attempt(train(**mode))

    assert [job.name for job in new_jobs()] == [first["job"], again["job"]]


def test_a_job_that_a_deleted_run_left_running_is_named_and_neither_stopped_nor_doubled(
    task, puppets, new_jobs, monkeypatch
):
    left = task.attempt(train("wait", wait_for_completion=False))["job"]
    # The run was deleted long after its job began.
    monkeypatch.setattr("hybrid_provider.training.lifecycle.CLOCK_SKEW", timedelta(minutes=-1))

    with pytest.raises(AirflowFailException, match=left):
        Instance(run_id=task.run_id).attempt(train("wait"))

    assert the_job(new_jobs).running
    puppets.of(left).finish()
