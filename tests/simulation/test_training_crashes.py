"""Two hundred lives of a task, each crashing where its seed says, in a time of their own."""

from __future__ import annotations

import random
from collections import Counter
from datetime import timedelta

from hybrid_provider.exceptions import HybridError, TrainingFailed
from hybrid_provider.training.backend import FailureClass, JobState
from hybrid_provider.training.lifecycle import STATE_KEY
from tests.cloud import Clock, Cloud, Store
from tests.training_task import SPEC, Task

SEEDS = range(200)
BACKEND_CALLS = ("submit", "find", "status", "logs", "artifact", "metrics", "cancel", "last_lines")
STORE_CALLS = ("get", "set")


class Crash(BaseException):
    """The process is gone."""


class Chaos:
    """Crashes before or after calls; a life has a few crashes and no more."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.left = self.random.randint(1, 6)
        self.hits = Counter()

    def around(self, owner, names):
        """Make calls of ``owner`` end the process now and then."""
        for name in names:
            setattr(owner, name, self._risky(name, getattr(owner, name)))

    def _risky(self, name, call):
        def risky(*arguments, **named):
            self._maybe(f"before {name}")
            answer = call(*arguments, **named)
            self._maybe(f"after {name}")
            return answer

        return risky

    def _maybe(self, where):
        if self.left and self.random.random() < 0.12:
            self.left -= 1
            self.hits[where] += 1
            raise Crash(where)


class Life:
    """One task instance and the world around it."""

    def __init__(self, seed):
        self.chaos = Chaos(seed)
        self.random = self.chaos.random
        self.cloud = Cloud(Clock())
        self.task = Task(self.cloud)
        self.submitted = Counter()
        submit = self.cloud.submit

        def counted(spec, name, tags):
            ref = submit(spec, name, tags)
            self.submitted[name] += 1
            return ref

        self.cloud.submit = counted
        self.task.store = Store()
        self.task.pause = self.pause
        self.chaos.around(self.cloud, BACKEND_CALLS)
        self.chaos.around(self.task.store, STORE_CALLS)
        self.bad_ends = self.random.randint(0, 3)
        self.kills = self.random.randint(0, 2)
        self.delivered = []

    def pause(self, span):
        """The world goes on: a job may end, well or badly, or a user kills the task."""
        self.cloud.clock.now += span
        for name in self.cloud.running:
            if self.random.random() < 0.4:
                self._end(name)
        killed = self.kills > 0 and self.random.random() < 0.2
        self.kills -= killed
        return killed

    def _end(self, name):
        stopping = self.cloud.jobs[name].status.state is JobState.STOPPING
        if stopping:
            self.cloud.end(name, JobState.STOPPED)
        elif self.bad_ends and self.random.random() < 0.5:
            self.bad_ends -= 1
            kind = self.random.choice(["script", "cloud", "stopped", "empty"])
            if kind == "script":
                self.cloud.end(name, JobState.FAILED)
            elif kind == "cloud":
                self.cloud.end(
                    name, JobState.FAILED, failure=FailureClass.CLOUD, reason="InternalServerError"
                )
            elif kind == "stopped":
                self.cloud.end(name, JobState.STOPPED)
            else:
                self.cloud.end(name, artifact=False)
        else:
            self.cloud.end(name)

    def until_delivered(self):
        """Retries, and clears where Airflow would not retry, until the task has succeeded."""
        for _ in range(60):
            try:
                self.delivered.append(self._attempt())
            except Crash:
                # The worker is gone and the world goes on without it.
                self.pause(self.random_span())
            except HybridError as error:
                if not error.retryable:
                    self.task.clear()
            else:
                return
        raise AssertionError("the task never succeeded")

    def random_span(self):
        return timedelta(seconds=self.random.randint(1, 7200))

    def _attempt(self):
        process = self.task.process()
        with process.never_left_billing():
            started = process.start(SPEC)
            watched = process.wait(process.watch(started.ref))
            if process.starts_again(started, watched):
                started = process.start(SPEC)
                watched = process.wait(process.watch(started.ref))
            return process.deliver(started, watched)


def completed_with_artifact(cloud):
    return [
        name
        for name, job in cloud.jobs.items()
        if job.status.state is JobState.COMPLETED and job.has_artifact
    ]


def test_two_hundred_crashing_lives_end_with_one_successful_job_each_and_pay_for_no_other(capsys):
    hits = Counter()
    for seed in SEEDS:
        life = Life(seed)
        life.until_delivered()

        assert completed_with_artifact(life.cloud) == [life.delivered[0]["job"]], seed
        assert life.cloud.running == [], seed
        assert set(life.submitted.values()) == {1}, seed
        generations = life.task.store[STATE_KEY]["generation"]
        assert len(life.cloud.jobs) == generations, seed

        # A user clears the task after its success: one more training, whatever crashes.
        life.task.clear()
        life.until_delivered()
        assert len(completed_with_artifact(life.cloud)) == 2, seed
        assert life.delivered[1]["job"] != life.delivered[0]["job"], seed
        assert life.cloud.running == [], seed
        hits += life.chaos.hits

    expected = [f"{side} {call}" for call in (*BACKEND_CALLS, *STORE_CALLS) for side in ("before", "after")]
    with capsys.disabled():
        report = [f"{boundary}: {hits[boundary]}" for boundary in expected]
        print(f"\ncrashes in {len(SEEDS)} lives:", *report, sep="\n  ")
    assert min(hits[boundary] for boundary in expected) > 0


def test_a_training_that_always_fails_is_paid_once_a_try():
    life = Life(0)
    life.chaos.left = 0
    life.bad_ends = 10**6
    life.random.random = lambda: 0.0
    life.random.choice = lambda _: "script"
    ended = 0
    for _ in range(5):
        try:
            life._attempt()
        except TrainingFailed:
            ended += 1

    assert ended == len(life.cloud.jobs) == 5
