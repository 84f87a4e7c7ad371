"""The task's log against real CloudWatch lines: of every host, while the job runs, each once, and the last of a failure."""

from __future__ import annotations

import asyncio
import threading
from uuid import uuid4

import pytest
from airflow.sdk.exceptions import AirflowFailException, TaskDeferred
from airflow.sdk.log import _secrets_masker, redact

from tests.training_stage import Instance, environment, rebuilt, train

HOSTS = ("algo-1", "algo-2")


@pytest.fixture(scope="module", autouse=True)
def cloud(puppet_cloud):
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment(puppet_cloud).items():
            patch.setenv(name, value)
        yield puppet_cloud


@pytest.fixture
def task():
    return Instance(run_id=f"manual__{uuid4().hex[:8]}")


@pytest.fixture(params=["synchronous", "deferrable"])
def mode(request):
    return {"deferrable": request.param == "deferrable"}


@pytest.fixture
def on_all_hosts(puppets, new_jobs):
    """Does something with the container of each host of the test's job, in another thread."""

    def do(*steps):
        def go():
            while not new_jobs():
                threading.Event().wait(0.02)
            containers = [puppets.on(new_jobs()[0].name, host) for host in HOSTS]
            for step in steps:
                for host, container in zip(HOSTS, containers, strict=True):
                    step(host, container)

        threading.Thread(target=go, daemon=True).start()

    return do


class Heard:
    """What this process wrote so far."""

    def __init__(self, capfd):
        self._capfd = capfd
        self.lines = []

    def so_far(self):
        self.lines += self._capfd.readouterr().out.splitlines()
        return self.lines

    def count(self, text):
        return sum(text in line for line in self.so_far())


def test_lines_of_all_hosts_are_shown_while_the_job_runs_and_each_once(task, on_all_hosts, capfd, mode):
    heard = Heard(capfd)

    def say(host, container):
        for number in range(30):
            container.say(f"line {number} of {host}.")

    def finish_once_heard(host, container):
        while not heard.count(f"line 29 of {host}."):
            threading.Event().wait(0.02)
        container.say(f"farewell of {host}.")
        container.finish()

    on_all_hosts(say, finish_once_heard)
    task.attempt(train("wait", instance_count=2, **mode))

    for host in HOSTS:
        for line in (*(f"line {number} of {host}." for number in range(30)), f"farewell of {host}."):
            assert heard.count(f"{host} | {line}") == 1, line


@pytest.mark.parametrize("deferrable", [True, False], ids=["deferred", "synchronous"])
def test_secrets_are_masked_by_whoever_shows_the_log(task, puppets, new_jobs, deferrable):
    given = {
        "environment": {"PLAN": "wait", "API_KEY": "in the environment"},
        "hyperparameters": {"API_KEY": "in a hyperparameter", "epochs": "a hundred of them"},
        "config": {"Environment": {"SECRET": "in the request"}},
    }
    operator = train(deferrable=True, **given)
    with pytest.raises(TaskDeferred) as deferred:
        operator.execute(task.new_try())
    puppets.of(new_jobs()[0].name).finish()
    forget_secrets()
    assert redact("in the environment") == "in the environment"

    event = asyncio.run(task.first_event(rebuilt(deferred.value.trigger))) if deferrable else None
    if event is None:
        task.attempt(train(**given))

    texts = ("in the environment", "in a hyperparameter", "in the request", "a hundred of them")
    assert [redact(text) for text in texts] == ["***", "***", "***", "a hundred of them"]
    if event is not None:
        forget_secrets()
        operator.resume(task.context(), event=event)
        assert redact("in the request") == "***"


def forget_secrets():
    """As a new process has none."""
    _secrets_masker().reset_masker()


def test_a_failure_ends_with_the_last_fifty_lines_of_all_hosts(task, on_all_hosts, mode):
    def say_and_fail(host, container):
        for number in range(40):
            container.say(f"line {number} of {host}.")
        if host == HOSTS[-1]:
            container.finish(1, failure="ValueError: the data is upside down")

    on_all_hosts(say_and_fail)
    with pytest.raises(AirflowFailException, match="the data is upside down") as failed:
        task.attempt(train("wait", instance_count=2, **mode))

    heading, *lines = str(failed.value).splitlines()[-51:]
    assert heading == "The last lines of its log:"
    assert all(line.startswith(("algo-1 | ", "algo-2 | ")) for line in lines)
    # Of neither host there are fifty: the newest fifty have the last of both.
    assert {f"{host} | line 39 of {host}." for host in HOSTS} <= set(lines)
