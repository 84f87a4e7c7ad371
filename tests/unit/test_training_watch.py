"""One look after another: what is reported once, what is borne, and when the job is stopped."""

from __future__ import annotations

from datetime import timedelta
from itertools import islice

import pytest

from hybrid_provider.exceptions import CloudUnavailable, TrainingRefused
from hybrid_provider.training.backend import JobState
from hybrid_provider.training.spec import TrainingSpec
from hybrid_provider.training.watch import PATIENCE, Watch, pauses
from tests.cloud import Clock, Cloud


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def cloud(clock):
    return Cloud(clock)


@pytest.fixture
def job(cloud):
    return cloud.submit(TrainingSpec(model_name="m"), "job", {})


@pytest.fixture
def told():
    return []


@pytest.fixture
def watch(cloud, job, told, clock):
    return Watch(cloud, job, told.append, deadline=clock() + timedelta(hours=3), clock=clock)


def test_each_line_and_each_phase_is_told_once(cloud, watch, told):
    cloud.say("job", "one")
    watch.look()
    cloud.say("job", "two")
    watch.look()
    cloud.end("job")

    assert watch.look().status.state is JobState.COMPLETED
    assert told == [
        "Training job job is Training: Training in progress", "one", "two",
        "Training job job is Completed: Training in progress",
    ]  # fmt: skip


def test_another_watch_goes_on_from_the_cursor(cloud, job, watch, told, clock):
    cloud.say("job", "one")
    watch.look()
    cloud.say("job", "two")
    later = []
    Watch(cloud, job, later.append, cursor=watch.cursor, clock=clock).look()

    assert later == ["Training job job is Training: Training in progress", "two"]


def test_lines_that_come_with_the_end_are_told(cloud, watch, told):
    cloud.say("job", "last words")
    cloud.end("job", JobState.FAILED)
    watch.look()

    assert told[-1] == "last words"


def test_a_look_without_the_log_leaves_its_lines_to_the_next_reading(cloud, watch, told):
    cloud.say("job", "one")
    watch.look(tail=False)
    assert "one" not in told
    watch.tail()
    assert told[-1] == "one"


def test_a_look_without_the_log_reads_the_rest_of_it_when_the_job_has_ended(cloud, watch, told):
    cloud.say("job", "last words")
    cloud.end("job", JobState.FAILED)
    watch.look(tail=False)

    assert told[-1] == "last words"


def test_lines_of_several_hosts_say_whose_they_are(cloud, watch, told):
    cloud.say("job", "alone")
    watch.look()
    cloud.end("job", instance_count=2)
    cloud.say("job", "hello", host="algo-2")
    watch.look()

    assert told[1] == "alone"
    assert told[-1] == "algo-2 | hello"


def test_ten_describes_that_fail_are_borne_and_told_once(cloud, watch, told):
    cloud.failures = [CloudUnavailable("ThrottlingException")] * 10

    assert [watch.look() for _ in range(10)] == [None] * 10
    cloud.end("job")

    assert watch.look().status.state is JobState.COMPLETED
    assert len([line for line in told if "Throttling" in line]) == 1


def test_a_cloud_that_is_silent_for_long_is_an_error_that_says_the_job_may_run(cloud, watch, clock):
    cloud.failures = [CloudUnavailable("no route")] * 2
    watch.look()
    clock.advance(seconds=PATIENCE.total_seconds() + 1)

    with pytest.raises(CloudUnavailable, match="may still run; a retry of this task adopts it"):
        watch.look()


def test_the_patience_begins_anew_after_each_answer(cloud, watch, clock):
    for _ in range(3):
        cloud.failures = [CloudUnavailable("no route")]
        watch.look()
        clock.advance(minutes=50)
        watch.look()

    assert cloud.running == ["job"]


def test_the_deadline_stops_the_job_once_and_the_wait_goes_on_until_it_has_ended(cloud, watch, clock):
    clock.advance(hours=3)

    assert watch.look() is None
    assert watch.look() is None
    cloud.end("job", JobState.STOPPED)

    assert cloud.cancelled == ["job"]
    assert watch.look().timed_out


def test_a_stop_that_the_cloud_did_not_take_is_sent_again(cloud, watch, clock):
    clock.advance(hours=3)
    cancel, cloud.cancel = cloud.cancel, unavailable

    watch.look()
    cloud.cancel = cancel
    watch.look()

    assert cloud.cancelled == ["job"]


def unavailable(*_):
    raise CloudUnavailable("no route")


def test_a_job_that_has_ended_is_not_stopped_however_late(cloud, watch, clock):
    cloud.end("job")
    clock.advance(hours=9)

    assert not watch.look().timed_out
    assert cloud.cancelled == []


def test_a_log_that_may_not_be_read_does_not_fail_the_training(cloud, watch, told):
    def forbidden(*_):
        raise TrainingRefused("grant logs:GetLogEvents")

    cloud.logs = forbidden
    watch.look()
    cloud.end("job")

    assert watch.look().status.state is JobState.COMPLETED
    assert len([line for line in told if "grant logs:GetLogEvents" in line]) == 1


def test_a_log_that_cannot_be_read_now_is_read_at_the_next_look(cloud, watch, told):
    logs, cloud.logs = cloud.logs, unavailable
    cloud.say("job", "line")
    watch.look()
    cloud.logs = logs
    watch.look()

    assert told[-1] == "line"


def test_looks_come_quickly_at_first():
    assert [pause.total_seconds() for pause in islice(pauses(timedelta(seconds=30)), 7)] == [
        1,
        2,
        4,
        8,
        16,
        30,
        30,
    ]
