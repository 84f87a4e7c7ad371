"""A process killed at any of its file operations leaves no release or the whole one, and the next one finishes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

CHILD = Path(__file__).with_name("store_crash_child.py")


def test_a_kill_at_any_file_operation_leaves_no_release_or_the_whole_one(tmp_path):
    root = Path(__file__).parents[2]
    ran = subprocess.run(
        [sys.executable, CHILD, tmp_path],
        env=os.environ | {"PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    outcomes = dict(line.split() for line in ran.stdout.splitlines())
    assert int(outcomes["kills"]) > 50
    assert int(outcomes["none"]) > 0
    assert int(outcomes["whole"]) > 0
