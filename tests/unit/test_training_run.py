"""A try of a task: waiting, killed, cleared; and what runs on when it is gone."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace

import pytest

from hybrid_provider.exceptions import (
    CloudUnavailable,
    ConfigurationError,
    JobConflict,
    TrainingFailed,
    TrainingRefused,
    TrainingStopped,
)
from hybrid_provider.training.backend import FailureClass, JobRef, JobState
from hybrid_provider.training.sagemaker.backend import SageMakerBackend
from tests.cloud import Clock, Cloud
from tests.training_task import CHANGED, SPEC, Task


@pytest.fixture
def cloud():
    return Cloud(Clock())


@pytest.fixture
def task(cloud):
    return Task(cloud)


def test_a_wait_longer_than_any_poll_limit_ends_with_the_job(cloud, task):
    started = task.attempt()
    looks = 10_000
    task.meanwhile = [lambda: None] * looks + [lambda: cloud.end(started.ref.name)]

    assert task.deliver(started)["status"] == "Completed"
    assert cloud.clock.now - cloud.jobs[started.ref.name].status.created > timedelta(days=3)


def test_a_kill_during_the_wait_stops_the_job_and_says_so(cloud, task):
    started = task.attempt()
    task.killed = True

    with pytest.raises(TrainingStopped, match="was killed"):
        task.deliver(started)
    assert cloud.cancelled == [started.ref.name]
    assert "Stopping" in task.reported[-1]


def test_a_kill_while_the_submit_s_answer_is_on_its_way_stops_the_job(cloud, task):
    process = task.process()
    submit = cloud.submit

    def killed_meanwhile(*asked):
        ref = submit(*asked)
        process.stop()
        return ref

    cloud.submit = killed_meanwhile
    process.start(SPEC)

    assert cloud.jobs[cloud.cancelled[0]].status.state is JobState.STOPPING


def test_a_kill_while_a_client_is_made_stops_the_job_all_the_same():
    """The signal's handler runs in the thread that it interrupts, which may hold the backend's lock."""
    stopped = []

    class Access:
        session = SimpleNamespace(region_name="us-east-1")

        def client(self, service):
            if service == "logs":
                backend.cancel(JobRef("digits-g1", ""))
            return SimpleNamespace(stop_training_job=lambda **job: stopped.append(job["TrainingJobName"]))

    backend = SageMakerBackend(Access())
    making = threading.Thread(target=backend._client, args=("logs",), daemon=True)
    making.start()
    making.join(30)

    assert stopped == ["digits-g1"]


def test_a_kill_before_anything_was_started_stops_nothing(cloud, task):
    task.process().stop()

    assert cloud.cancelled == []


def test_a_kill_after_the_delivery_stops_nothing(cloud, task):
    started = task.attempt()
    cloud.end(started.ref.name)
    process = task.process()
    process.deliver(started, process.watch(started.ref).look())
    process.stop()

    assert cloud.cancelled == []


def test_a_refused_submit_leaves_nothing_to_stop(cloud, task):
    cloud.failures = [TrainingRefused("no")]
    process = task.process()

    with pytest.raises(TrainingRefused), process.never_left_billing():
        process.start(SPEC)
    assert cloud.cancelled == []


def test_a_job_that_only_a_clear_could_come_back_to_is_stopped(cloud, task):
    started = task.attempt()

    with pytest.raises(TrainingRefused), task_that_breaks(task, TrainingRefused("grant DescribeTrainingJob")):
        pass
    assert cloud.cancelled == [started.ref.name]


def test_a_job_that_a_retry_comes_back_to_is_left_running(cloud, task):
    task.attempt()

    with pytest.raises(CloudUnavailable), task_that_breaks(task, CloudUnavailable("no route")):
        pass
    assert cloud.cancelled == []


@pytest.mark.parametrize("error", [CloudUnavailable("no route"), ZeroDivisionError("a bug")])
def test_the_last_try_leaves_no_job_behind_whatever_went_wrong(cloud, task, error):
    started = task.attempt()
    task.is_last = True

    with pytest.raises(type(error)), task_that_breaks(task, error):
        pass
    assert cloud.cancelled == [started.ref.name]


class task_that_breaks:  # noqa: N801 - reads as a phrase
    """A process that adopts its job, and then something goes wrong."""

    def __init__(self, task, error):
        self.task, self.error = task, error

    def __enter__(self):
        process = self.task.process()
        with process.never_left_billing():
            process.start(SPEC)
            raise self.error

    def __exit__(self, *_):
        return False


def test_somebody_else_s_job_is_never_stopped(cloud, task):
    task.attempt()
    task.is_last = True
    process = task.process()

    with pytest.raises(JobConflict), process.never_left_billing():
        process.start(CHANGED)
    assert cloud.cancelled == []


def test_a_failed_job_is_not_stopped_again(cloud, task):
    started = task.attempt()
    cloud.end(started.ref.name, JobState.FAILED)
    task.is_last = True

    with pytest.raises(TrainingFailed):
        task.deliver(started)
    assert cloud.cancelled == []


def test_a_failure_ends_with_the_last_fifty_lines(cloud, task):
    started = task.attempt()
    cloud.say(started.ref.name, *(f"line {number}" for number in range(60)))
    cloud.end(started.ref.name, JobState.FAILED)

    with pytest.raises(TrainingFailed) as failed:
        task.deliver(started)
    lines = str(failed.value).splitlines()
    assert lines[1:3] == ["The last lines of its log:", "line 10"]
    assert len(lines) == 52


def test_a_retry_after_the_cloud_s_own_failure_is_a_new_generation(cloud, task):
    started = task.attempt()
    cloud.end(started.ref.name, JobState.FAILED, failure=FailureClass.CLOUD, reason="InternalServerError: x")
    with pytest.raises(CloudUnavailable):
        task.deliver(started)

    assert task.attempt().record.generation == 2


def test_a_job_that_its_task_s_clear_stopped_after_the_new_try_adopted_it_is_known_as_such(cloud, task):
    task.attempt()
    task.clear()
    process = task.process()
    adopted = process.start(SPEC)
    cloud.end(adopted.ref.name, JobState.STOPPED)

    watched = process.watch(adopted.ref).look()

    assert process.starts_again(adopted, watched)
    assert process.start(SPEC).record.generation == 2


def test_a_job_that_a_person_stopped_is_not_started_again(cloud, task):
    started = task.attempt()
    cloud.end(started.ref.name, JobState.STOPPED)
    process = task.process()

    assert not process.starts_again(replace(started, adopted=True), process.watch(started.ref).look())


def test_a_try_that_found_its_job_stopping_starts_again_unless_its_time_is_over(cloud, task):
    first = task.attempt()
    cloud.cancel(first.ref)
    process = task.process()
    leaving = process.start(SPEC)
    task.meanwhile = [lambda: cloud.end(first.ref.name, JobState.STOPPED)]

    watched = process.wait(process.watch(leaving.ref))

    assert process.starts_again(leaving, watched)
    assert not process.starts_again(leaving, replace(watched, timed_out=True))


def test_a_resumed_try_whose_job_is_another_s_by_now_gives_way(cloud, task):
    first = task.attempt()
    cloud.end(first.ref.name, JobState.FAILED, failure=FailureClass.CLOUD)
    task.attempt()

    with pytest.raises(JobConflict, match="another try of this task has taken over"):
        task.process().resume(first.ref)


def test_arguments_that_became_wrong_name_the_job_that_may_still_run(cloud, task):
    started = task.attempt()

    assert started.ref.name in task.process().left_running()
    cloud.end(started.ref.name)
    task.deliver(started)
    assert task.process().left_running() == ""


def test_a_state_that_another_version_wrote_is_an_error_that_says_what_to_do(task):
    task.store["hybrid_training"] = {"job": "x"}

    with pytest.raises(ConfigurationError, match="delete the state and clear the task"):
        task.attempt()


SPOT = replace(SPEC, output_path="s3://models/jobs/", spot=True)


def checkpoints_of(cloud, started):
    return cloud.jobs[started.ref.name].spec.checkpoint_uri


def test_the_generations_of_a_spot_training_share_their_checkpoints_until_one_was_handed_on(cloud, task):
    interrupted = task.attempt(SPOT)
    cloud.end(interrupted.ref.name, JobState.STOPPED)
    resumed = task.attempt(SPOT)
    assert checkpoints_of(cloud, resumed) == checkpoints_of(cloud, interrupted)
    assert checkpoints_of(cloud, resumed).startswith("s3://models/jobs/checkpoints/digits-")

    cloud.end(resumed.ref.name)
    task.deliver(resumed)
    task.clear()
    fresh = task.attempt(SPOT)
    assert checkpoints_of(cloud, fresh) != checkpoints_of(cloud, resumed)


def test_a_retry_of_a_spot_training_that_crashed_before_its_submit_keeps_the_place(cloud, task):
    cloud.failures = [CloudUnavailable("lost")]
    with pytest.raises(CloudUnavailable):
        task.attempt(SPOT)
    series = task.record.series

    assert task.attempt(SPOT).record.series == series


def test_another_task_or_a_deleted_run_of_the_same_id_has_checkpoints_of_its_own(cloud, task):
    first = task.attempt(SPOT)
    other = Task(cloud, replace(task.identity, run_id="manual__2")).attempt(SPOT)
    cloud.end(first.ref.name)
    again = Task(cloud).attempt(SPOT)

    assert len({checkpoints_of(cloud, started) for started in (first, other, again)}) == 3


def test_a_place_for_checkpoints_that_was_given_is_used_and_without_spot_there_is_none(cloud, task):
    given = replace(SPOT, checkpoint_uri="s3://mine/")

    assert checkpoints_of(cloud, task.attempt(given)) == "s3://mine/"
    other = Task(cloud, replace(task.identity, run_id="manual__2"))
    assert checkpoints_of(cloud, other.attempt(replace(SPOT, spot=False))) is None
