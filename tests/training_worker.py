"""A worker: tries of tasks, each in a process of its own that may be killed at any call."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


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

    def close(self):
        """End the program; it has no children between tries."""
        self.program.stdin.close()
        self.program.wait()
