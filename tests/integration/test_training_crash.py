"""A task's process is killed at every call that it makes; whatever it did, its retries end with one paid training.

Where the task defers, the worker's and the triggerer's parts are processes of their own, and each is killed.
"""

from __future__ import annotations

import os
import signal
import threading
from uuid import uuid4

import pytest

from tests.boundaries import Boundaries, Boundary
from tests.training_stage import environment
from tests.training_worker import Worker

# How often a call comes that comes at each look is the clock's choice: it is cut at its first.
AT_EACH_LOOK = {"DescribeLogStreams", "GetLogEvents"}


@pytest.fixture(scope="module")
def boundaries(puppet_cloud):
    between = Boundaries(puppet_cloud.environment)
    yield between
    between.close()


@pytest.fixture(scope="module")
def worker(puppet_cloud, boundaries):
    running = Worker(boundaries, environment(puppet_cloud) | boundaries.environment)
    yield running
    running.close()


class Life:
    """One task from its first try to its success; the process of one part of one try is killed on the way."""

    def __init__(self, worker, cloud, puppets, folder, plan, **arguments):
        self.worker, self.cloud, self.puppets = worker, cloud, puppets
        run_id = uuid4().hex
        script = folder / f"{run_id}.py"
        # A source of its own, so that each has an upload, and a role to look up.
        script.write_text(f"# {run_id}\n")
        self.task = {
            "run_id": run_id, "try_number": 0, "max_tries": 9, "store_url": worker.boundaries.store_url,
            "environment": worker.environment,
            "arguments": {"plan": plan, "entry_point": str(script), "role": "hybrid-training", **arguments},
        }  # fmt: skip
        self.calls = {}

    @property
    def jobs(self):
        return [job for job in self.cloud.ledger.entries if job.tags.get("hybrid:run") == self.task["run_id"]]

    def process(self, part, crash_at=None, **more):
        """What a process comes to, None if it was killed."""
        result = self.worker.attempt(self.task | {"part": part} | more, crash_at)
        self.calls[part] = list(self.worker.boundaries.calls)
        if result is None:
            self.task["try_number"] += part != "trigger"
        return result

    def waits_by_itself(self, part=None, crash_at=None):
        """``part`` is the number of the try that is killed."""
        for number in range(5):
            result = self.process("whole", crash_at if str(number) == part else None)
            if result is not None:
                return result
        raise AssertionError("killed too often")

    def defers(self, part=None, crash_at=None):
        """``part`` is the part that is killed, once."""
        crashes = {part: crash_at}
        while True:
            begun = self.process("execute", crashes.pop("execute", None))
            if begun is None:
                continue
            self.finish()
            event = None
            while event is None and "trigger" in begun:
                event = self.process("trigger", crashes.pop("trigger", None), trigger=begun["trigger"])
            number = self.task["try_number"] + 1
            done = (
                self.process("resume", crashes.pop("resume", None), event=event, try_number=number)
                if event
                else begun
            )
            if done is not None:
                return done

    def finish(self):
        """Have the job end well if it runs, with a line in its log that was not there before it was deferred to."""
        puppet = self.puppets.of(self.jobs[-1].name)
        if self.jobs[-1].running:
            puppet.say("the end")
        puppet.finish()
        while self.jobs[-1].running:
            threading.Event().wait(0.01)

    def ended_with_one_paid_training(self, result, crash_at):
        jobs = self.jobs
        assert [job.name for job in jobs if job.status == "Completed"] == [result["job"]], crash_at
        assert not any(job.running for job in jobs), crash_at
        assert result["billable_seconds"] == sum(job.billed_seconds for job in jobs), crash_at
        assert result["artifact"]["size_bytes"] > 0
        return jobs


@pytest.fixture
def new_life(worker, puppet_cloud, puppets, tmp_path):
    return lambda plan, **arguments: Life(worker, puppet_cloud, puppets, tmp_path, plan, **arguments)


def sides(calls, but=frozenset()):
    """Both sides of every call."""
    for call, occurrence in calls:
        if call not in but and (call not in AT_EACH_LOOK or occurrence == 1):
            yield Boundary(call, occurrence, "before")
            yield Boundary(call, occurrence, "after")


def calls_of(planned):
    return {at.call for _, at in planned}


WITHOUT_A_JOB = {"store get", "store set", "GetRole", "s3 HEAD source", "s3 PUT source"}
TO_START = WITHOUT_A_JOB | {"CreateTrainingJob"}
TO_WATCH = {"DescribeTrainingJob", "DescribeLogStreams", "GetLogEvents"}
TO_DELIVER = {"DescribeTrainingJob", "s3 HEAD artifact", "store set"}


def told(planned, hits, capsys):
    """Print how often each boundary was hit, and hold that each was."""
    with capsys.disabled():
        print(f"\nkilled at {len(planned)} boundaries, hits:")
        print(*(f"  {part}, {at}: {hits.count((part, at))}" for part, at in planned), sep="\n")
    assert sorted(map(str, hits)) == sorted(map(str, planned))


def test_a_process_killed_at_any_call_leaves_one_paid_training(new_life, worker, capsys):
    rehearsal = new_life("train", deferrable=False)
    rehearsal.waits_by_itself()
    planned = [("0", at) for at in sides(rehearsal.calls["whole"])]
    assert calls_of(planned) == TO_START | TO_WATCH | TO_DELIVER

    hits = []
    for part, at in planned:
        life = new_life("train", deferrable=False)
        result = life.waits_by_itself(part, at)
        hits += [(part, hit) for hit in worker.boundaries.taken_hits()]
        assert len(life.ended_with_one_paid_training(result, at)) == 1, at
    told(planned, hits, capsys)


def test_a_retry_that_is_killed_at_any_call_leaves_one_paid_training(new_life, worker, capsys):
    submitted = Boundary("CreateTrainingJob", 1, "after")

    def killed_once():
        life = new_life("train", deferrable=False)
        assert life.process("whole", submitted) is None
        worker.boundaries.taken_hits()
        return life

    rehearsal = killed_once()
    rehearsal.waits_by_itself()
    planned = [("0", at) for at in sides(rehearsal.calls["whole"])]
    assert calls_of(planned) == {"store get", "ListTags"} | TO_WATCH | TO_DELIVER

    hits = []
    for part, at in planned:
        life = killed_once()
        result = life.waits_by_itself(part, at)
        hits += [(part, hit) for hit in worker.boundaries.taken_hits()]
        assert len(life.ended_with_one_paid_training(result, at)) == 1, at
    told(planned, hits, capsys)


def test_a_worker_or_a_triggerer_killed_at_any_call_of_a_deferred_task_leaves_one_paid_training(
    new_life, worker, capsys
):
    rehearsal = new_life("wait", deferrable=True)
    rehearsal.defers()
    planned = [
        # Whether its log begins before the first look is the job's choice.
        *(("execute", at) for at in sides(rehearsal.calls["execute"], but={"GetLogEvents"})),
        *(("trigger", at) for at in sides(rehearsal.calls["trigger"])),
        *(("resume", at) for at in sides(rehearsal.calls["resume"])),
    ]
    assert calls_of(planned) == TO_START | TO_WATCH | TO_DELIVER
    assert calls_of([(part, at) for part, at in planned if part == "trigger"]) == TO_WATCH | {
        "store get",
        "store set",
    }

    hits = []
    for part, at in planned:
        life = new_life("wait", deferrable=True)
        result = life.defers(part, at)
        hits += [(part, hit) for hit in worker.boundaries.taken_hits()]
        assert len(life.ended_with_one_paid_training(result, at)) == 1, at
    told(planned, hits, capsys)


@pytest.mark.parametrize("side", ["before", "after"])
def test_a_worker_that_dies_as_it_stops_its_job_leaves_nothing_running_and_one_training(
    new_life, worker, side
):
    life = new_life("wait", deferrable=False)
    at = Boundary("StopTrainingJob", 1, side)

    def a_user_kills_the_task():
        while not life.jobs:
            threading.Event().wait(0.01)
        life.puppets.of(life.jobs[0].name)
        os.kill(worker.boundaries.pid, signal.SIGTERM)

    threading.Thread(target=a_user_kills_the_task, daemon=True).start()
    assert life.process("whole", at) is None
    assert worker.boundaries.taken_hits() == [at]

    def its_job_ends():
        while len(life.jobs) < (1 if side == "before" else 2):
            threading.Event().wait(0.01)
        life.puppets.of(life.jobs[-1].name).finish()

    threading.Thread(target=its_job_ends, daemon=True).start()
    result = life.waits_by_itself()

    statuses = [job.status for job in life.jobs]
    assert statuses == (["Completed"] if side == "before" else ["Stopped", "Completed"])
    assert result["job"] == life.jobs[-1].name
