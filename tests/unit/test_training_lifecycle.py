"""One job per task instance, whatever happens between any two steps."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import timedelta

import pytest

from hybrid_provider.exceptions import (
    ArtifactNotFound,
    CloudUnavailable,
    JobConflict,
    TrainingFailed,
    TrainingStopped,
)
from hybrid_provider.training.backend import FailureClass, JobState, StopCause
from hybrid_provider.training.lifecycle import (
    CLAIM_TAG,
    FINGERPRINT_TAG,
    Outcome,
)
from hybrid_provider.training.result import OnStopped
from tests.cloud import Clock, Cloud, Store
from tests.training_task import CHANGED, IDENTITY, SPEC, Task


@pytest.fixture
def cloud():
    return Cloud(Clock())


@pytest.fixture
def task(cloud):
    return Task(cloud)


def test_the_first_attempt_stores_before_it_submits(cloud, task):
    seen = []
    submit = cloud.submit
    cloud.submit = lambda *asked: seen.append(dict(task.store)) or submit(*asked)

    started = task.attempt()

    assert seen[0]["hybrid_training"]["name"] == started.ref.name
    assert not started.adopted


def test_a_retry_adopts_the_running_job(cloud, task):
    first = task.attempt()
    again = task.attempt()

    assert again.adopted
    assert again.ref == first.ref
    assert list(cloud.jobs) == [first.ref.name]


def test_a_retry_adopts_the_finished_job_that_was_not_delivered(cloud, task):
    first = task.attempt()
    cloud.end(first.ref.name)

    assert task.attempt().ref == first.ref


def test_a_retry_after_the_delivery_was_lost_hands_on_the_same_job(cloud, task):
    first = task.attempt()
    cloud.end(first.ref.name)
    task.deliver(first)

    again = task.attempt()

    assert again.ref == first.ref
    assert task.deliver(again)["artifact"]["etag"] == first.ref.name


def test_a_clear_after_success_trains_again(cloud, task):
    first = task.attempt()
    cloud.end(first.ref.name)
    task.deliver(first)
    task.clear()

    second = task.attempt()

    assert second.record.generation == 2
    assert second.ref != first.ref
    assert task.attempt().ref == second.ref


def test_a_clear_that_adopted_a_running_job_does_not_train_again_once_delivered(cloud, task):
    first = task.attempt()
    task.clear()
    adopted = task.attempt()
    cloud.end(first.ref.name)
    task.deliver(adopted)

    assert task.attempt().ref == first.ref


@pytest.mark.parametrize(
    "end",
    [
        {"state": JobState.FAILED, "failure": FailureClass.CAPACITY},
        {"state": JobState.FAILED, "failure": FailureClass.CLOUD},
        {"state": JobState.STOPPED, "stop_cause": StopCause.INTERRUPTED},
        {"state": JobState.STOPPED, "stop_cause": StopCause.ASKED},
    ],
)
def test_after_a_bad_end_the_next_attempt_is_the_next_generation(cloud, task, end):
    first = task.attempt()
    cloud.end(first.ref.name, **end)

    second = task.attempt()

    assert (second.record.generation, second.adopted) == (2, False)
    assert cloud.running == [second.ref.name]


@pytest.mark.parametrize(
    ("end", "error"),
    [
        ({"state": JobState.FAILED, "failure": FailureClass.SCRIPT}, TrainingFailed),
        ({"state": JobState.FAILED, "failure": FailureClass.REQUEST}, TrainingFailed),
        ({"state": JobState.STOPPED, "stop_cause": StopCause.MAX_RUNTIME}, TrainingStopped),
    ],
)
def test_an_end_that_would_come_again_is_told_by_the_retry_that_finds_it_and_paid_again_only_for_a_clear(
    cloud, task, end, error
):
    """Airflow retries no such end; it took the task for lost before the end was told."""
    first = task.attempt()
    cloud.end(first.ref.name, **end)

    untold = task.attempt()
    assert untold.ref == first.ref
    with pytest.raises(error):
        task.deliver(untold)
    assert not cloud.running

    task.clear()
    assert task.attempt().record.generation == 2


def test_a_stopped_job_whose_artifact_is_accepted_is_adopted(cloud):
    task = Task(cloud, on_stopped=OnStopped.ACCEPT)
    first = task.attempt()
    cloud.end(first.ref.name, JobState.STOPPED, artifact=True)

    assert task.deliver(task.attempt())["status"] == "Stopped"


def test_a_job_that_is_stopping_is_given_back_to_be_waited_out_and_its_end_begins_the_next_generation(
    cloud, task
):
    first = task.attempt()
    cloud.cancel(first.ref)

    stopping = task.attempt()
    assert (stopping.ref, stopping.leaving) == (first.ref, True)
    assert task.record.generation == 1

    cloud.end(first.ref.name, JobState.STOPPED)
    second = task.attempt()
    assert (second.record.generation, second.leaving) == (2, False)
    assert cloud.running == [second.ref.name]


def test_a_job_that_was_stopping_but_ended_well_is_taken(cloud, task):
    first = task.attempt()
    cloud.cancel(first.ref)
    assert task.attempt().leaving
    cloud.end(first.ref.name)

    assert task.attempt().ref == first.ref


def test_a_job_without_an_artifact_is_an_error_and_the_next_attempt_trains_again(cloud, task):
    first = task.attempt()
    cloud.end(first.ref.name, artifact=False)

    with pytest.raises(ArtifactNotFound, match=first.ref.name):
        task.deliver(first)
    assert task.attempt().record.generation == 2


def test_a_failed_job_is_an_error_with_its_reason(cloud, task):
    first = task.attempt()
    cloud.end(first.ref.name, JobState.FAILED)

    with pytest.raises(TrainingFailed, match="AlgorithmError: boom"):
        task.deliver(first)


def test_a_crash_between_store_and_submit_submits_the_stored_name(cloud, task):
    cloud.failures = [RuntimeError("killed")]
    with pytest.raises(RuntimeError):
        task.attempt()
    stored = task.store["hybrid_training"]["name"]

    started = task.attempt()

    assert started.ref.name == stored
    assert started.record.generation == 1


def test_a_submit_whose_answer_was_lost_is_adopted_by_its_claim(cloud, task):
    submit = cloud.submit

    def submit_and_lose_the_answer(*asked):
        submit(*asked)
        cloud.submit = submit
        raise CloudUnavailable("read timeout")

    cloud.submit = submit_and_lose_the_answer
    with pytest.raises(CloudUnavailable):
        task.attempt()
    cloud.clock.advance(hours=7)

    assert task.attempt().adopted
    assert len(cloud.jobs) == 1


def test_two_workers_of_one_task_instance_end_with_one_job(cloud):
    behind, ahead = Task(cloud), Task(cloud)
    store = Store()
    behind.store, ahead.store = store, store
    keep = store.set

    def overtaken(key, value):
        """The other worker stores and submits between this worker's look and its own store."""
        store.set = keep
        overtaken.first = ahead.attempt()
        keep(key, value)

    store.set = overtaken
    second = behind.attempt()

    assert second.adopted
    assert second.ref == overtaken.first.ref
    assert list(cloud.jobs) == [second.ref.name]
    assert behind.attempt().ref == second.ref


def test_two_installations_with_the_same_dag_have_two_jobs(cloud):
    here = Task(cloud).attempt()
    there = Task(cloud, replace(IDENTITY, installation="there")).attempt()

    assert here.ref != there.ref
    assert not there.adopted


def test_a_deleted_and_re_run_dag_run_trains_anew(cloud):
    old = Task(cloud).attempt()
    cloud.end(old.ref.name)
    cloud.clock.advance(seconds=2)

    new = Task(cloud).attempt()

    assert not new.adopted
    assert new.record.generation == 2


def test_a_job_that_a_deleted_run_left_running_is_a_conflict_that_names_it(cloud):
    old = Task(cloud).attempt()
    cloud.clock.advance(hours=1)

    with pytest.raises(JobConflict, match=f"{old.ref.name}.*InProgress"):
        Task(cloud).attempt()
    assert cloud.running == [old.ref.name]


def test_a_stranger_s_job_under_our_name_is_a_conflict_that_names_both_specs(cloud, task):
    name = task.identity.job_name("digits", 1, SPEC.fingerprint)
    cloud.submit(CHANGED, name, {FINGERPRINT_TAG: CHANGED.fingerprint})

    with pytest.raises(JobConflict) as error:
        task.attempt()
    assert CHANGED.fingerprint[:12] in str(error.value)
    assert SPEC.fingerprint[:12] in str(error.value)


def test_a_task_that_was_changed_while_its_job_runs_is_a_conflict(cloud, task):
    task.attempt()

    with pytest.raises(JobConflict, match=r"stop that job, or wait for its end, and clear the task"):
        task.attempt(CHANGED)
    assert len(cloud.jobs) == 1


def test_a_task_that_was_changed_and_cleared_trains_anew_once_its_job_has_ended(cloud, task):
    first = task.attempt()
    cloud.end(first.ref.name)
    with pytest.raises(JobConflict):
        task.attempt(CHANGED)
    task.clear()

    assert task.attempt(CHANGED).record.generation == 2


def test_a_task_that_was_changed_after_its_job_failed_trains_anew(cloud, task):
    first = task.attempt()
    cloud.end(first.ref.name, JobState.FAILED)

    assert task.attempt(CHANGED).record.generation == 2


def test_a_delivered_job_that_the_cloud_forgot_is_trained_again(cloud, task):
    first = task.attempt()
    cloud.end(first.ref.name)
    task.deliver(first)
    del cloud.jobs[first.ref.name]

    assert task.attempt().record.generation == 2


def test_every_attempt_of_ten_thousand_names_is_one_that_sagemaker_takes():
    grammar = re.compile(r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}")
    models = ["m", "a" * 64, "Fraud_v2.1", "9-lives", "x.-_y"]
    names = {
        IDENTITY.job_name(model, generation, SPEC.fingerprint)
        for model in models
        for generation in range(1, 2000)
    }

    assert all(grammar.fullmatch(name) for name in names)
    assert len(names) == len(models) * 1999


def test_tags_hold_only_what_every_cloud_allows():
    identity = replace(IDENTITY, run_id="scheduled__2026-11-23T00:00:00+00:00 <b>\n", map_index=3)

    assert identity.tags()["hybrid:run"] == "scheduled__2026-11-23T00:00:00+00:00 _b__"
    assert identity.tags()["hybrid:task"] == "train/3"


def test_the_record_survives_its_journey_through_json(cloud, task):
    started = task.attempt()
    cloud.end(started.ref.name)
    task.deliver(started)

    assert task.record == replace(started.record, outcome=Outcome.DELIVERED, max_tries=2)


def test_the_job_carries_the_claim_of_its_record(cloud, task):
    started = task.attempt()

    assert cloud.jobs[started.ref.name].tags[CLAIM_TAG] == started.record.claim


def test_a_clock_that_is_a_little_wrong_does_not_part_two_racing_workers(cloud):
    ahead = Task(cloud)
    first = ahead.attempt()
    cloud.clock.advance(minutes=4)
    behind = Task(cloud)

    assert behind.attempt().ref == first.ref
    assert timedelta(minutes=4) < timedelta(minutes=5)
