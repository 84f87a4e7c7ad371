"""The artifact sensor in its three modes, and its trigger, against a real S3."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from airflow.sdk.exceptions import (
    AirflowFailException,
    AirflowRescheduleException,
    AirflowSensorTimeout,
    AirflowSkipException,
    TaskDeferred,
)

from hybrid_provider.artifacts.s3 import describe
from hybrid_provider.sensors.artifact import ModelArtifactSensor
from hybrid_provider.sites import on_site
from hybrid_provider.triggers.artifact import ModelArtifactTrigger
from tests.integration.airflow_task import aws_connection, task_context

if TYPE_CHECKING:
    from tests.integration.s3bucket import Bucket


@pytest.fixture(autouse=True)
def connection(bucket: Bucket, monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", aws_connection(bucket))


@pytest.fixture
def there(bucket: Bucket):
    bucket.put("sensor/model.tar.gz", b"weights")
    return describe(bucket.access, bucket.uri("sensor/model.tar.gz"))


def sensor(artifact, **arguments):
    return ModelArtifactSensor(task_id="arrived", artifact=artifact, poke_interval=0, **arguments)


def poked(artifact, context=None, **arguments):
    """One look by a sensor object of its own, as Airflow makes one for each look in reschedule mode."""
    return sensor(artifact, **arguments).poke(context or task_context())


def test_an_artifact_at_a_uri_is_taken_when_two_looks_agree(there):
    context = task_context()
    assert not poked(there.uri, context)
    second = poked(there.uri, context)
    assert second.xcom_value == there.to_dict()


def test_an_artifact_that_still_changes_is_waited_for(bucket: Bucket):
    context = task_context()
    for content in (b"1", b"2", b"3"):
        bucket.put("sensor/growing/a", content)
        assert not poked(bucket.uri("sensor/growing/"), context)
    assert poked(bucket.uri("sensor/growing/"), context)


def test_nothing_there_is_waited_for(bucket: Bucket):
    context = task_context()
    assert not poked(bucket.uri("sensor/absent.tar.gz"), context)
    assert not poked(bucket.uri("sensor/absent.tar.gz"), context)


def test_an_artifact_that_was_removed_between_two_looks_is_looked_at_twice_again(bucket: Bucket, there):
    context = task_context()
    assert not poked(there.uri, context)
    bucket.delete("sensor/model.tar.gz")
    assert not poked(there.uri, context)
    bucket.put("sensor/model.tar.gz", b"weights")
    assert not poked(there.uri, context)
    assert poked(there.uri, context)


def test_an_older_artifact_than_asked_for_is_waited_for(there):
    context = task_context()
    later = there.last_modified + timedelta(seconds=1)
    for newer_than in (later, later.isoformat(), there.last_modified):
        assert not poked(there.uri, context, newer_than=newer_than)
    assert poked(there.uri, context, newer_than=datetime(2000, 1, 1, tzinfo=UTC))


def test_an_expected_artifact_needs_one_look(there):
    assert poked(there.to_dict()).xcom_value == there.to_dict()


def test_training_output_is_handed_on_whole(there):
    training = {"job": "digits-1", "artifact": there.to_dict(), "ended": "2026-11-23T18:46:00+00:00"}
    assert poked(training).xcom_value == training


def test_something_else_than_expected_fails_the_task(bucket: Bucket, there):
    bucket.put("sensor/model.tar.gz", b"other weights")
    with pytest.raises(Exception, match="replaced since"):
        poked(there.to_dict())


def test_poke_mode_returns_the_artifact(there):
    assert sensor(there.uri).execute(task_context()) == there.to_dict()


def test_poke_mode_ends_at_its_timeout(bucket: Bucket):
    with pytest.raises(AirflowSensorTimeout):
        sensor(bucket.uri("sensor/absent"), timeout=0).execute(task_context())


def test_on_a_site_it_waits_on_its_own_worker_though_it_was_told_to_defer(
    bucket: Bucket, monkeypatch, capsys
):
    edge = "airflow.providers.edge3.executors.EdgeExecutor"
    monkeypatch.setenv("AIRFLOW__CORE__EXECUTOR", f"CeleryExecutor,{edge}")
    told = {"artifact": bucket.uri("sensor/absent"), "deferrable": True, "timeout": 0}
    with pytest.raises(TaskDeferred):
        sensor(**told).execute(task_context())
    with pytest.raises(AirflowSensorTimeout):
        sensor(**told, **on_site("munich")).execute(task_context())

    assert "deferrable has no effect here: queue 'munich' is an edge worker's" in capsys.readouterr().out


def test_a_mistake_fails_at_once_and_skips_where_that_was_asked_for(bucket: Bucket):
    with pytest.raises(AirflowFailException, match="s3://bucket/path"):
        sensor("no uri").execute(task_context())
    with pytest.raises(AirflowSkipException):
        sensor("no uri", soft_fail=True).execute(task_context())


def test_an_s3_that_is_down_is_waited_for(bucket: Bucket, there, monkeypatch):
    nobody = aws_connection(bucket).replace(bucket.endpoint, "http://127.0.0.1:1")
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", nobody)
    assert not poked(there.uri)


def test_reschedule_mode_remembers_its_last_look(there):
    context = task_context()
    context["ti"].get_first_reschedule_date = lambda context: None
    with pytest.raises(AirflowRescheduleException):
        sensor(there.uri, mode="reschedule").execute(context)
    assert sensor(there.uri, mode="reschedule").execute(context) == there.to_dict()


def deferred(artifact, **arguments) -> ModelArtifactTrigger:
    """The trigger, as the triggerer rebuilds it."""
    with pytest.raises(TaskDeferred) as deferral:
        sensor(artifact, deferrable=True, **arguments).execute(task_context())
    assert deferral.value.timeout is None
    path, arguments = deferral.value.trigger.serialize()
    assert path == "hybrid_provider.triggers.artifact.ModelArtifactTrigger"
    return ModelArtifactTrigger(**arguments)


async def event_of(trigger: ModelArtifactTrigger):
    (event,) = [event async for event in trigger.run()]
    return event.payload


def test_deferrable_mode_returns_at_once_what_is_there(there):
    assert sensor(there.to_dict(), deferrable=True).execute(task_context()) == there.to_dict()


async def test_the_trigger_sees_the_artifact(there):
    trigger = deferred(there.uri)
    event = await event_of(trigger)
    assert sensor(there.uri).resume(task_context(), event) == there.to_dict()


async def test_the_trigger_keeps_the_deadline(bucket: Bucket):
    event = await event_of(deferred(bucket.uri("sensor/absent"), timeout=0))
    assert event["timed_out"]
    with pytest.raises(AirflowSensorTimeout, match="sensor/absent did not arrive in time: nothing there"):
        sensor(bucket.uri("sensor/absent")).resume(task_context(), event)


async def test_the_trigger_hands_back_a_mistake_as_one_message(bucket: Bucket, monkeypatch):
    trigger = deferred(bucket.uri("sensor/absent"))
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", aws_connection(bucket).replace(bucket.secret_key, "wrong"))
    event = await event_of(trigger)
    with pytest.raises(AirflowFailException, match="aws connection"):
        sensor(bucket.uri("sensor/absent")).resume(task_context(), event)


def test_the_deadline_is_the_sensors_timeout(bucket: Bucket):
    before = time.time()
    assert before + 300 <= deferred(bucket.uri("sensor/absent"), timeout=300).deadline <= time.time() + 300


def put_models(bucket: Bucket, *names):
    for name in names:
        bucket.put(name, name.encode())


def test_the_newest_object_of_a_name_under_a_prefix_is_taken(bucket: Bucket):
    put_models(bucket, "newest/b/model.tar.gz", "newest/a/model.tar.gz", "newest/z/output.tar.gz")
    context = task_context()
    assert not poked(bucket.uri("newest/"), context, newest="model.tar.gz")
    found = poked(bucket.uri("newest/"), context, newest="model.tar.gz").xcom_value
    newest = max(("newest/a/model.tar.gz", "newest/b/model.tar.gz"), key=lambda key: written(bucket, key))
    assert found == describe(bucket.access, bucket.uri(newest)).to_dict()


def written(bucket: Bucket, key):
    return describe(bucket.access, bucket.uri(key)).last_modified, key


def test_a_newer_object_than_the_one_seen_before_is_looked_at_twice(bucket: Bucket):
    put_models(bucket, "overtaken/a/model.tar.gz")
    context = task_context()
    assert not poked(bucket.uri("overtaken/"), context, newest="*.tar.gz")
    put_models(bucket, "overtaken/b/model.tar.gz")
    bucket.put("overtaken/b/model.tar.gz", b"overtaken/a/model.tar.gz")
    assert not poked(bucket.uri("overtaken/"), context, newest="*.tar.gz")
    assert poked(bucket.uri("overtaken/"), context, newest="*.tar.gz")


def test_the_newest_folder_of_a_name_is_taken_whole(bucket: Bucket):
    put_models(bucket, "folders/a/model/weights", "folders/a/model/deep/labels", "folders/a/log")
    context = task_context()
    assert not poked(bucket.uri("folders/"), context, newest="model/")
    found = poked(bucket.uri("folders/"), context, newest="model/").xcom_value
    assert found == describe(bucket.access, bucket.uri("folders/a/model/")).to_dict()


def test_a_prefix_is_not_whole_without_its_marker(bucket: Bucket):
    context = task_context()
    put_models(bucket, "marked/weights")
    for _ in range(3):
        assert not poked(bucket.uri("marked/"), context, marker="_SUCCESS")
    bucket.put("marked/_SUCCESS", b"")
    assert not poked(bucket.uri("marked/"), context, marker="_SUCCESS")
    assert poked(bucket.uri("marked/"), context, marker="_SUCCESS")


@pytest.mark.parametrize(
    ("uri", "arguments", "remedy"),
    [
        ("s3://artifacts/model.tar.gz", {"newest": "*.tar.gz"}, "with a '/' at its end"),
        ("s3://artifacts/models/", {"newest": "a/model.tar.gz"}, "without those above it"),
        ("s3://artifacts/models/", {"newest": "model.tar.gz", "marker": "_SUCCESS"}, "leave marker out"),
        ("s3://artifacts/models/", {"newer_than": "yesterday"}, "ISO 8601"),
    ],
)
def test_a_search_that_can_find_nothing_is_refused(uri, arguments, remedy):
    with pytest.raises(AirflowFailException, match=remedy):
        sensor(uri, **arguments).execute(task_context())


def test_newer_than_a_release_is_newer_than_its_artifact(bucket: Bucket, there):
    release = {"model": "digits", "release_id": "20261123T184600Z-0123456789ab", "artifact": there.to_dict()}
    context = task_context()
    assert not poked(there.uri, context, newer_than=release)
    assert not poked(there.uri, context, newer_than=release)
    earlier = {
        **there.to_dict(),
        "last_modified": (there.last_modified - timedelta(seconds=1)).isoformat(),
    }
    assert poked(there.uri, context, newer_than={**release, "artifact": earlier})
    assert poked(there.uri, context, newer_than=str({**release, "artifact": earlier}))


async def test_a_sensor_that_starts_from_its_trigger_sees_what_its_worker_would(there):
    started = sensor(there.uri, deferrable=True, start_from_trigger=True, timeout=300)
    arguments = started.start_trigger_args
    assert started.start_from_trigger
    assert arguments.timeout == timedelta(seconds=300)
    assert arguments.next_method == "resume"
    assert arguments.trigger_cls == "hybrid_provider.triggers.artifact.ModelArtifactTrigger"
    event = await event_of(ModelArtifactTrigger(**arguments.trigger_kwargs))
    assert started.resume(task_context(), event) == there.to_dict()


@pytest.mark.parametrize(
    "arguments",
    [
        {"artifact": "s3://artifacts/{{ ds }}/model.tar.gz"},
        {"artifact": {"uri": "s3://artifacts/model.tar.gz"}},
        {"artifact": "s3://artifacts/model.tar.gz", "newer_than": {"artifact": {}}},
        {"artifact": "s3://artifacts/model.tar.gz", "deferrable": False},
    ],
    ids=["a template", "another task's output", "newer than another task's output", "not deferrable"],
)
def test_what_only_a_worker_knows_starts_on_a_worker(arguments):
    assert not sensor(**{"deferrable": True, "start_from_trigger": True, **arguments}).start_from_trigger
