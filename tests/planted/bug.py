"""One bug: what is replaced by what, and which tests fail with it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]


class CannotPlant(Exception):
    """The source is no longer as the bug expects, or the tests could not run; either proves nothing."""


@dataclass(frozen=True)
class Bug:
    """What is replaced in a module of ``hybrid_provider``, and the suites of which one must notice."""

    what: str
    module: str
    right: str
    wrong: str
    suites: tuple[str, ...]

    def planted(self) -> str:
        """The module's source with the bug.

        Raises:
            CannotPlant: What it replaces is not there, or more than once.
        """
        source = (ROOT / "hybrid_provider" / self.module).read_text()
        if source.count(self.right) != 1:
            raise CannotPlant(
                f"{self.what}: {self.module} holds {self.right!r} {source.count(self.right)} times; correct the bug"
            )
        return source.replace(self.right, self.wrong)

    def caught_by(self) -> list[str]:
        """The first test that fails with the bug, of each suite in which one does.

        Raises:
            CannotPlant: It cannot be told.
        """
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder)
            for part in ("hybrid_provider", "tests"):
                shutil.copytree(ROOT / part, copy / part, ignore=shutil.ignore_patterns("__pycache__"))
            shutil.copy(ROOT / "pyproject.toml", copy)
            (copy / "hybrid_provider" / self.module).write_text(self.planted())
            failed = [self._first_failure(suite, copy) for suite in self.suites]
        return [test for test in failed if test]

    def _first_failure(self, suite: str, folder: Path) -> str | None:
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "--timeout=120", suite],
            cwd=folder,
            env=os.environ | {"PYTHONPATH": str(folder)},
            capture_output=True,
            text=True,
            check=False,
        )
        lines = done.stdout.splitlines()
        if done.returncode > 1 or any(line.startswith("ERROR") for line in lines):
            raise CannotPlant(
                f"{self.what}: {suite} could not run, which proves nothing\n{done.stdout[-2000:]}"
            )
        failed = [line for line in lines if line.startswith("FAILED")]
        return failed[0].partition("::")[2][:100] if failed else None
