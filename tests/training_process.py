"""Real processes of a training task, forked from one that has imported everything: the program of a worker.

Each line of its input is a task as JSON; each of its output is ``pid <n>``, then ``ok <result>`` or ``error <text>`` by
the task's process, then ``ended <exit code>``. A task's ``part`` is ``whole``, or one of those that Airflow runs in
processes of their own: ``execute`` (its result is the trigger that it deferred to), ``trigger`` (its event), ``resume``.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import urllib.request
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.training_stage import Instance

_TO_THE_TEST = os.dup(1)


class RemoteStore:
    """The task state store behind a URL."""

    def __init__(self, url: str) -> None:
        self._url = url

    def get(self, key: str) -> Any:
        with urllib.request.urlopen(f"{self._url}/{key}") as reply:
            return json.loads(reply.read())

    def set(self, key: str, value: Any, *, retention: object = None) -> None:
        request = urllib.request.Request(f"{self._url}/{key}", json.dumps(value).encode(), method="PUT")
        urllib.request.urlopen(request).close()


def attempt(task: dict[str, Any]) -> None:
    """A part of one try of the task, in this process."""
    from tests.training_stage import Instance, train, train_with_amazon

    os.environ.update(task["environment"])
    instance = Instance(run_id=task["run_id"], try_number=task["try_number"], max_tries=task["max_tries"])
    instance.store = RemoteStore(f"{task['store_url']}/{task['run_id']}")  # type: ignore[assignment]
    operator = (train_with_amazon if task.get("amazon") else train)(**task["arguments"])
    # The handler that Airflow has while a task runs, as far as this task knows it.
    signal.signal(signal.SIGTERM, lambda *_: operator.on_kill())
    say(f"ok {json.dumps(PARTS[task.get('part', 'whole')](task, instance, operator), default=str)}")


def execute(_: dict[str, Any], instance: Instance, operator: Any) -> Any:
    """The worker's part, until it has a result or hands over to a trigger."""
    from airflow.sdk.exceptions import TaskDeferred

    try:
        return operator.execute(instance.new_try())
    except TaskDeferred as deferred:
        return {"trigger": deferred.trigger.serialize()[1]}


def watch(task: dict[str, Any], instance: Instance, _: Any) -> Any:
    """The triggerer's part; the cursor of its log goes where XComs are kept."""
    from hybrid_provider.triggers import training
    from tests.training_stage import Comms

    training.XCom = Comms(instance.store)  # type: ignore[misc,assignment]
    trigger = training.TrainingTrigger(**task["trigger"])
    trigger._task = lambda: instance  # type: ignore[assignment,return-value]
    return asyncio.run(instance.first_event(trigger))


def resume(task: dict[str, Any], instance: Instance, operator: Any) -> Any:
    """The worker's part after the event."""
    return operator.resume(instance.context(), event=task["event"])


PARTS: dict[str, Callable[[dict[str, Any], Instance, Any], Any]] = {
    "whole": lambda _, instance, operator: instance.attempt(operator),
    "execute": execute,
    "trigger": watch,
    "resume": resume,
}


def say(line: str) -> None:
    """Tell the test."""
    os.write(_TO_THE_TEST, f"{line}\n".encode())


def main() -> None:
    # Airflow logs to standard output.
    os.dup2(2, 1)

    import boto3

    import tests.training_stage  # noqa: F401 - what costs seconds is done before the forks
    from tests.botocore_models import read_once

    with read_once():
        session = boto3.Session("key", "secret", region_name="us-east-1")
        for service in ("sagemaker", "logs", "s3", "iam"):
            session.client(service)
        serve()


def serve() -> None:
    """Run a process for each line until there is no more."""
    say("ready")
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            try:
                # The parent has the test's attention before the first call.
                sys.stdin.readline()
                attempt(json.loads(line))
            except BaseException as error:  # noqa: BLE001 - told to the test
                say(f"error {type(error).__name__}: {' '.join(str(error).split())}")
                os._exit(1)
            os._exit(0)
        say(f"pid {pid}")
        _, status = os.waitpid(pid, 0)
        say(f"ended {os.waitstatus_to_exitcode(status)}")


if __name__ == "__main__":
    main()
