"""Which queue a task is sent to, and when it may leave it for a triggerer."""

from __future__ import annotations

import pytest
from airflow.sdk import BaseOperator

from hybrid_provider.operators.train import SageMakerTrainOperator
from hybrid_provider.sensors.artifact import ModelArtifactSensor
from hybrid_provider.sites import on_site, why_it_stays

EDGE = "airflow.providers.edge3.executors.EdgeExecutor"
CELERY_AND_EDGE = f"CeleryExecutor,{EDGE}"


@pytest.fixture
def executors(monkeypatch):
    """Sets the executors of this Airflow."""
    return lambda value: monkeypatch.setenv("AIRFLOW__CORE__EXECUTOR", value)


@pytest.mark.parametrize(
    ("configured", "executor"),
    [
        (CELERY_AND_EDGE, EDGE),
        (EDGE, EDGE),
        (f"CeleryExecutor, sites:{EDGE}", "sites"),
        (f"CeleryExecutor;factories={EDGE}", EDGE),
    ],
)
def test_a_task_of_a_site_is_given_the_edge_executor_by_the_name_it_has(executors, configured, executor):
    executors(configured)

    assert on_site("munich") == {"queue": "munich", "executor": executor}


@pytest.mark.parametrize("configured", ["LocalExecutor", "CeleryExecutor"])
def test_without_an_edge_executor_a_task_of_a_site_has_its_queue_alone(executors, configured):
    executors(configured)

    assert on_site("munich") == {"queue": "munich"}


def test_a_task_of_an_edge_worker_does_not_defer_and_the_reason_says_what_to_do(executors):
    executors(CELERY_AND_EDGE)

    reason = why_it_stays(BaseOperator(task_id="wait", **on_site("munich")))

    assert "queue 'munich' is an edge worker's" in reason
    assert "airflow triggerer --queues munich" in reason


def test_a_task_of_a_cloud_worker_defers(executors):
    executors(CELERY_AND_EDGE)

    assert why_it_stays(BaseOperator(task_id="wait")) is None


def test_where_the_edge_executor_is_the_default_no_task_defers(executors):
    executors(f"{EDGE},CeleryExecutor")

    assert why_it_stays(BaseOperator(task_id="wait"))
    assert why_it_stays(BaseOperator(task_id="wait", executor="CeleryExecutor")) is None


def test_a_queue_that_the_configuration_names_as_a_sites_does_not_defer(executors, monkeypatch):
    executors("CeleryExecutor")
    monkeypatch.setenv("AIRFLOW__HYBRID__SITE_QUEUES", "onprem, site-*")

    assert why_it_stays(BaseOperator(task_id="wait", queue="site-munich"))
    assert why_it_stays(BaseOperator(task_id="wait", queue="onprem"))
    assert why_it_stays(BaseOperator(task_id="wait", queue="default")) is None


def test_with_a_triggerer_for_each_queue_every_task_defers(executors, monkeypatch):
    executors(CELERY_AND_EDGE)
    monkeypatch.setenv("AIRFLOW__TRIGGERER__QUEUES_ENABLED", "True")

    assert why_it_stays(BaseOperator(task_id="wait", **on_site("munich"))) is None


def test_a_sensor_on_a_site_does_not_start_in_the_triggerer(executors):
    executors(CELERY_AND_EDGE)
    waiting = {"artifact": "s3://bucket/model.tar.gz", "deferrable": True, "start_from_trigger": True}

    assert ModelArtifactSensor(task_id="in_the_cloud", **waiting).start_from_trigger
    assert not ModelArtifactSensor(task_id="on_site", **waiting, **on_site("munich")).start_from_trigger


def test_a_training_on_a_site_waits_there(executors):
    executors(CELERY_AND_EDGE)

    assert SageMakerTrainOperator(task_id="in_the_cloud", deferrable=True)._defers()
    assert not SageMakerTrainOperator(task_id="on_site", deferrable=True, **on_site("munich"))._defers()
