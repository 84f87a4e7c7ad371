"""A training cloud whose jobs do what a test says, and Airflow's side of one task instance."""

from __future__ import annotations

import asyncio
import json
import os
import threading
import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from airflow.sdk.exceptions import TaskDeferred

from hybrid_provider.operators.train import SageMakerTrainOperator

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from hybrid_provider.emulator import Emulator
    from hybrid_provider.emulator.sagemaker.container import Container

BUCKET = "training"
IMAGE = "123456789012.dkr.ecr.us-east-1.amazonaws.com/puppet:1"


class Puppet:
    """One container: it says lines and ends when it is told to."""

    def __init__(self, container: Container) -> None:
        self._container = container
        self._over = threading.Event()
        self._status = 0
        read, write = os.pipe()
        self.stdout: Any = os.fdopen(read, "rb")
        self._said: Any = os.fdopen(write, "wb")
        self._lock = threading.Lock()

    @property
    def plan(self) -> str:
        return self._container.request.get("Environment", {}).get("PLAN", "train")

    def say(self, *lines: str) -> None:
        with self._lock:
            for line in lines:
                self._said.write(f"{line}\n".encode())
            self._said.flush()

    def finish(self, status: int = 0, *, model: bool = True, failure: str | None = None) -> None:
        if model:
            (self._container.model_folder / "model.txt").write_text(
                self._container.request["TrainingJobName"]
            )
        if failure:
            (self._container.folder / "output" / "failure").write_text(failure)
        self._close(status)

    def _close(self, status: int) -> None:
        with self._lock:
            if not self._over.is_set():
                self._status = status
                self._over.set()
                self._said.close()

    def checkpoint(self, name: str) -> None:
        """Save a checkpoint."""
        (self._container.checkpoint_folder / name).write_text(name)

    @property
    def checkpoints(self) -> set[str]:
        """The checkpoints that are there."""
        return {file.name for file in self._container.checkpoint_folder.iterdir()}

    # What the emulator calls.

    def wait(self, seconds: float | None = None) -> int | None:
        return self._status if self._over.wait(seconds) else None

    def terminate(self) -> None:
        if self.plan != "stubborn":
            self._close(143)

    def end(self) -> int:
        self._close(137)
        return self._status


class Puppets:
    """All containers by the name of their job. The plan in the job's environment says what one does by itself:

    ``train`` ends well at once, ``fail`` raises, ``empty`` leaves no model, ``wait`` does nothing until it is told, and
    ``stubborn`` does not even end when it is stopped.
    """

    def __init__(self) -> None:
        self._by_job: dict[str, Puppet] = {}
        self._by_host: dict[tuple[str, str], Puppet] = {}
        self._starts: Counter[str] = Counter()
        self._changed = threading.Condition()

    def runner_for(self, _image: str) -> Callable[[Container], Puppet]:
        return self.run

    def run(self, container: Container) -> Puppet:
        puppet = Puppet(container)
        name = container.request["TrainingJobName"]
        puppet.say(f"{name} says hello", "accuracy=0.5;", "accuracy=0.75;")
        if puppet.plan == "train":
            puppet.finish()
        elif puppet.plan == "empty":
            puppet.finish(model=False)
        elif puppet.plan == "fail":
            puppet.say("about to fail")
            puppet.finish(1, failure="ZeroDivisionError: division by zero")
        with self._changed:
            self._by_job[name] = self._by_host[name, container.host] = puppet
            self._starts[name] += 1
            self._changed.notify_all()
        return puppet

    def starts(self, name: str) -> int:
        """How often a job's container was started."""
        return self._starts[name]

    def of(self, name: str) -> Puppet:
        """The newest container of a job, once it runs."""
        with self._changed:
            if not self._changed.wait_for(lambda: name in self._by_job, timeout=60):
                raise TimeoutError(f"{name} was never started")
            return self._by_job[name]

    def on(self, name: str, host: str) -> Puppet:
        """The newest container of a job on one of its hosts, once it runs."""
        with self._changed:
            if not self._changed.wait_for(lambda: (name, host) in self._by_host, timeout=60):
                raise TimeoutError(f"{name} was never started on {host}")
            return self._by_host[name, host]


class Comms:
    """What a trigger's XComs go through: Airflow's own class, without Airflow."""

    def __init__(self, xcoms: Store) -> None:
        self._xcoms = xcoms

    def get_value(self, *, ti_key: object, key: str) -> Any:
        return json.loads(json.dumps(self._xcoms.get(key)))

    def set(self, key: str, value: Any, **_: object) -> None:
        self._xcoms.set(key, value)


class Store(dict[str, Any]):
    """The task state store: JSON in, JSON out."""

    def set(self, key: str, value: Any, *, retention: timedelta | None = None) -> None:
        self[key] = json.loads(json.dumps(value))


@dataclass
class Instance:
    """One task instance as Airflow keeps it: what it stored stays, its processes come and go."""

    run_id: str
    dag_id: str = "retrain"
    task_id: str = "train"
    max_tries: int = 2
    try_number: int = 0
    store: Store = field(default_factory=Store)
    xcoms: Store = field(default_factory=Store)
    map_index: int = -1
    assets: dict[Any, Any] = field(default_factory=dict)

    def context(self) -> dict[str, Any]:
        """What Airflow gives the next process of the task."""
        ti = SimpleNamespace(
            dag_id=self.dag_id,
            run_id=self.run_id,
            task_id=self.task_id,
            map_index=-1,
            try_number=self.try_number,
            max_tries=self.max_tries,
            xcom_push=self.xcoms.__setitem__,
        )
        ti.xcom_push = lambda key, value: self.xcoms.__setitem__(key, json.loads(json.dumps(value)))
        return {
            "ti": ti,
            "task_state_store": self.store,
            "dag": SimpleNamespace(fileloc=__file__),
            "outlet_events": _Events(self.assets),
        }

    def new_try(self) -> dict[str, Any]:
        """A retry, or the first try: XComs are gone, the state store is not."""
        self.try_number += 1
        self.xcoms.clear()
        return self.context()

    def clear(self, retries: int = 2) -> None:
        """A user clears the task, as Airflow counts it."""
        self.max_tries = self.try_number + retries

    def attempt(self, operator: SageMakerTrainOperator) -> Any:
        """One try from its start to its end, through the trigger where the task defers."""
        context = self.new_try()
        try:
            return operator.execute(context)
        except TaskDeferred as deferred:
            return self.resume(operator, deferred)

    def resume(self, operator: SageMakerTrainOperator, deferred: TaskDeferred) -> Any:
        while True:
            event = asyncio.run(self.first_event(rebuilt(deferred.trigger)))
            try:
                return operator.resume(self.context(), event=event)
            except TaskDeferred as again:
                deferred = again

    async def first_event(self, trigger: Any) -> dict[str, Any]:
        async for event in trigger.run():
            return json.loads(json.dumps(event.payload))
        raise AssertionError("the trigger ended without an event")


class _Events(dict[Any, Any]):
    def __init__(self, assets: dict[Any, Any]) -> None:
        self._assets = assets

    def __getitem__(self, asset: Any) -> Any:
        return self._assets.setdefault(asset, SimpleNamespace(extra={}))


def rebuilt(trigger: Any) -> Any:
    """The trigger as another process makes it from what Airflow stored."""
    path, arguments = trigger.serialize()
    module, _, name = path.rpartition(".")
    return getattr(__import__(module, fromlist=[name]), name)(**json.loads(json.dumps(arguments)))


def train(plan: str = "train", **changes: Any) -> SageMakerTrainOperator:
    """A fresh process's operator."""
    arguments: dict[str, Any] = {
        "task_id": "train",
        "model_name": "puppet",
        "image_uri": IMAGE,
        "instance_type": "ml.m5.large",
        "environment": {"PLAN": plan},
        "metric_definitions": [{"Name": "accuracy", "Regex": r"accuracy=([0-9.]+);"}],
        "max_runtime": timedelta(minutes=10),
        "check_interval": 0.05,
        "deferrable": False,
    }
    return SageMakerTrainOperator(**{**arguments, **changes})


def train_with_amazon(plan: str = "train", **changes: Any) -> Any:
    """The amazon provider's operator for the same job."""
    from airflow.providers.amazon.aws.operators.sagemaker import SageMakerTrainingOperator

    resources = {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 1}
    config = {
        "TrainingJobName": f"amazon-{uuid4().hex[:12]}",
        "AlgorithmSpecification": {"TrainingImage": IMAGE, "TrainingInputMode": "File"},
        "RoleArn": "arn:aws:iam::123456789012:role/hybrid-training",
        "OutputDataConfig": {"S3OutputPath": f"s3://{BUCKET}/amazon"},
        "ResourceConfig": resources,
        "StoppingCondition": {"MaxRuntimeInSeconds": 600},
        "Environment": {"PLAN": plan},
    }
    arguments: dict[str, Any] = {
        "task_id": "train", "check_interval": 1, "deferrable": False, "print_log": False,
    }  # fmt: skip
    config |= changes.pop("config", {})
    return SageMakerTrainingOperator(config=config, **{**arguments, **changes})


def environment(emulator: Emulator) -> dict[str, str]:
    """What the operator needs to know of the emulator, as Airflow takes it."""
    keys = emulator.environment
    aws = {
        "conn_type": "aws",
        "login": keys["AWS_ACCESS_KEY_ID"],
        "password": keys["AWS_SECRET_ACCESS_KEY"],
        "extra": {
            "region_name": keys["AWS_DEFAULT_REGION"],
            "service_config": {
                "sagemaker": {"role": emulator.role_arn, "output_path": f"s3://{BUCKET}/jobs"},
            },
        },
    }
    return {**keys, "AIRFLOW_CONN_AWS_DEFAULT": json.dumps(aws), "AIRFLOW__HYBRID__INSTALLATION_ID": "tests"}


class Weakness(AssertionError):
    """What a test asks of an operator does not hold."""


@contextmanager
def must_hold(*errors: type[Exception]) -> Iterator[None]:
    """What a test is about: only what fails in here, or is one of ``errors``, is the weakness that it shows.

    Whatever goes wrong elsewhere in it is a fault of the test, on either operator.
    """
    try:
        yield
    except (AssertionError, pytest.fail.Exception, *errors) as failure:
        raise Weakness(str(failure)) from failure


ours_and_theirs = pytest.mark.parametrize(
    "make",
    [
        pytest.param(train, id="ours"),
        pytest.param(
            train_with_amazon,
            id="amazon",
            marks=pytest.mark.xfail(
                strict=True, raises=Weakness, reason="the weakness that this test is about"
            ),
        ),
    ],
)
"""Runs a test with this provider's operator, and with the amazon provider's, where :func:`must_hold` must fail."""


HASTE = 100


class HastyTime:
    """The module ``time`` for the amazon provider's hook, which with a log looks every 30 seconds."""

    @staticmethod
    def sleep(seconds: float) -> None:
        time.sleep(seconds / HASTE)

    @staticmethod
    def monotonic() -> float:
        return time.monotonic() * HASTE
