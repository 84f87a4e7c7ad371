"""One task instance in a test's own time: its state survives, its processes come and go."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from hybrid_provider.training.lifecycle import STATE_KEY, Identity, Record
from hybrid_provider.training.result import OnStopped
from hybrid_provider.training.run import TrainingRun, Try
from hybrid_provider.training.spec import TrainingSpec
from tests.cloud import Store

SPEC = TrainingSpec(model_name="digits", hyperparameters={"epochs": 3})
CHANGED = replace(SPEC, hyperparameters={"epochs": 4})
IDENTITY = Identity(installation="here", dag_id="retrain", run_id="manual__1", task_id="train")


class Task:
    """One task instance: its state survives, its processes come and go."""

    def __init__(self, cloud, identity=IDENTITY, on_stopped=OnStopped.FAIL):
        self.cloud = cloud
        self.identity = identity
        self.store = Store()
        self.max_tries = 2
        self.is_last = False
        self.on_stopped = on_stopped
        self.reported = []
        self.killed = False
        self.meanwhile = []

    def process(self, backend=None):
        """A new process of the task, which may end at any point."""
        return TrainingRun(
            self.cloud if backend is None else backend,
            self.store,
            Try(
                identity=self.identity,
                max_tries=self.max_tries,
                is_last=self.is_last,
                on_stopped=self.on_stopped,
                check_interval=timedelta(seconds=30),
            ),
            report=self.reported.append,
            pause=self.pause,
            clock=self.cloud.clock,
        )

    def pause(self, span):
        """Time passes, and what the test planned for it happens."""
        self.cloud.clock.now += span
        if self.meanwhile:
            self.meanwhile.pop(0)()
        return self.killed

    def attempt(self, spec=SPEC):
        """A process that starts the job and dies."""
        return self.process().start(spec)

    def deliver(self, started):
        """A process that waits for the job and hands it on."""
        process = self.process()
        with process.never_left_billing():
            started = process.resume(started.ref)
            return process.deliver(started, process.wait(process.watch(started.ref)))

    def clear(self):
        self.max_tries += 3

    @property
    def record(self):
        return Record.from_json(self.store[STATE_KEY])
