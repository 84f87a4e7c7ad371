"""A task's process is killed at every call that it makes; whatever it did, its retries end with one paid training."""

from __future__ import annotations

from collections import Counter
from uuid import uuid4

import pytest

from hybrid_provider.emulator import Emulator
from tests.boundaries import Boundaries, Boundary
from tests.training_stage import BUCKET, Puppets, environment
from tests.training_worker import Worker


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


@pytest.fixture(scope="module")
def worker(cloud, boundaries):
    running = Worker(boundaries, environment(cloud) | boundaries.environment)
    yield running
    running.close()


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
        print(
            f"\nkilled at {len(planned)} boundaries, hits:",
            *(f"  {at}: {hits[at]}" for at in planned),
            sep="\n",
        )
    assert min(hits.values()) == 1
