"""A task's process is killed at every call that it makes; whatever it did, its retries end with one paid training."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from uuid import uuid4

import pytest

from hybrid_provider.emulator import Emulator
from tests.boundaries import Boundaries, Boundary
from tests.training_stage import BUCKET, Puppets, environment

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def cloud(tmp_path_factory):
    with Emulator(tmp_path_factory.mktemp("cloud"), hosts=0, runner_for=Puppets().runner_for) as emulator:
        emulator.client("s3").create_bucket(Bucket=BUCKET)
        yield emulator


@pytest.fixture(scope="module")
def boundaries(cloud):
    between = Boundaries(cloud.environment)
    yield between
    between.close()


class Worker:
    """Runs tries of tasks, each in a process of its own."""

    def __init__(self, boundaries, environment):
        self.boundaries = boundaries
        self.environment = environment
        self.program = subprocess.Popen(
            [sys.executable, "-m", "tests.training_process"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=ROOT,
        )  # fmt: skip
        assert self.program.stdout.readline() == "ready\n"

    def attempt(self, task, crash_at=None):
        """The result, or None if the process was killed."""
        self.boundaries.attempt(crash_at)
        self._say(json.dumps(task))
        self.boundaries.pid = int(self._hear().removeprefix("pid "))
        self._say("go")
        result = None
        while not (said := self._hear()).startswith("ended "):
            if said.startswith("error "):
                pytest.fail(f"{crash_at}: {said}")
            result = json.loads(said.removeprefix("ok "))
        return result if said == "ended 0" else None

    def _say(self, line):
        self.program.stdin.write(f"{line}\n")
        self.program.stdin.flush()

    def _hear(self):
        line = self.program.stdout.readline()
        assert line, "the worker has died"
        return line.rstrip("\n")


@pytest.fixture(scope="module")
def worker(cloud, boundaries):
    running = Worker(boundaries, environment(cloud) | boundaries.environment)
    yield running
    running.program.stdin.close()
    running.program.wait()


@pytest.fixture
def new_task(worker, boundaries, tmp_path):
    """A task with a source of its own, so that each has an upload."""

    def new(*, deferrable):
        run_id = uuid4().hex
        script = tmp_path / f"{run_id}.py"
        script.write_text(f"# {run_id}\n")
        return {
            "run_id": run_id,
            "try_number": 0,
            "max_tries": 9,
            "store_url": boundaries.store_url,
            "environment": worker.environment,
            "arguments": {"entry_point": str(script), "deferrable": deferrable},
        }

    return new


# A call that comes at each look is cut at its first: how many looks there are is the clock's choice.
AT_EACH_LOOK = {"DescribeLogStreams", "GetLogEvents"}


def boundaries_of(calls):
    """Every call's both sides; Describe comes at least three times: the look, the artifact, the metrics."""
    for call, occurrence in calls:
        most = 1 if call in AT_EACH_LOOK else 3 if call == "DescribeTrainingJob" else 99
        if occurrence <= most:
            yield Boundary(call, occurrence, "before")
            yield Boundary(call, occurrence, "after")


@pytest.mark.parametrize("deferrable", [False, True], ids=["synchronous", "deferrable"])
def test_a_process_killed_at_any_call_leaves_one_paid_training(cloud, worker, new_task, deferrable, capsys):
    assert worker.attempt(new_task(deferrable=deferrable)) is not None
    planned = list(boundaries_of(worker.boundaries.calls))
    hits = Counter()

    for crash_at in planned:
        task = new_task(deferrable=deferrable)
        before = set(cloud.ledger.started)
        assert worker.attempt(task, crash_at) is None, crash_at
        hits[crash_at] += 1
        result = worker.attempt(task | {"try_number": 1})

        jobs = [entry for entry in cloud.ledger.entries if entry.name not in before]
        assert [(job.name, job.status) for job in jobs] == [(result["job"], "Completed")], crash_at
        assert result["artifact"]["size_bytes"] > 0

    assert cloud.ledger.running == ()
    assert {at.call for at in planned} == {
        "store get", "store set", "s3 HEAD source", "s3 PUT source", "CreateTrainingJob", "DescribeTrainingJob",
        "DescribeLogStreams", "GetLogEvents", "s3 HEAD artifact",
    }  # fmt: skip
    with capsys.disabled():
        print(  # noqa: T201 - the report that this test is to give
            f"\nkilled at {len(planned)} boundaries, hits:",
            *(f"  {at}: {hits[at]}" for at in planned),
            sep="\n",
        )
    assert min(hits.values()) == 1
