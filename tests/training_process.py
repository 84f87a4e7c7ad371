"""Real processes of a training task, forked from one that has imported everything: the program of a worker.

Each line of its input is a task as JSON; each of its output is ``pid <n>``, then ``ok <result>`` or ``error <text>`` by
the task's process, then ``ended <exit code>``.
"""

from __future__ import annotations

import json
import os
import sys
import urllib.request
from typing import Any

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
    """One try of the task, in this process."""
    from tests.training_stage import Instance, train, train_with_amazon

    os.environ.update(task["environment"])
    instance = Instance(run_id=task["run_id"], try_number=task["try_number"], max_tries=task["max_tries"])
    instance.store = RemoteStore(f"{task['store_url']}/{task['run_id']}")  # type: ignore[assignment]
    operator = (train_with_amazon if task.get("amazon") else train)(**task["arguments"])
    say(f"ok {json.dumps(instance.attempt(operator), default=str)}")


def say(line: str) -> None:
    """Tell the test."""
    os.write(_TO_THE_TEST, f"{line}\n".encode())


def main() -> None:
    # Airflow logs to standard output.
    os.dup2(2, 1)

    import boto3

    import tests.training_stage  # noqa: F401 - what costs seconds is imported before the forks

    boto3.Session(region_name="us-east-1").client("sagemaker", endpoint_url="http://127.0.0.1:1")
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
