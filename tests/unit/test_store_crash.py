"""A process killed at any of its file operations leaves no release or the whole one, and the next one finishes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

CHILD = Path(__file__).with_name("store_crash_child.py")


def outcomes_of(part: str, folder: Path) -> dict[str, int]:
    root = Path(__file__).parents[2]
    ran = subprocess.run(
        [sys.executable, CHILD, part, folder],
        env=os.environ | {"PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return {name: int(number) for name, number in map(str.split, ran.stdout.splitlines())}


def test_a_kill_at_any_file_operation_leaves_no_release_or_the_whole_one(tmp_path):
    outcomes = outcomes_of("add", tmp_path)
    assert outcomes["kills"] > 50
    assert outcomes["none"] > 0
    assert outcomes["whole"] > 0


def test_a_kill_while_files_are_shared_or_pruned_leaves_each_release_whole_or_gone(tmp_path):
    outcomes = outcomes_of("prune", tmp_path)
    assert outcomes["kills"] > 30
    assert outcomes["2_releases"] > 0
    assert outcomes["3_releases"] > 0
