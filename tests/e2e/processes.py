"""The processes of an Airflow that runs on this machine."""

from __future__ import annotations

import subprocess


def process_of(task_instance_id: str) -> int:
    """The process that runs a task, by the title that Airflow gives it."""
    found = subprocess.run(["ps", "-eo", "pid=,args="], capture_output=True, text=True, check=True).stdout
    (pid,) = [row.split()[0] for row in found.splitlines() if row.endswith(f"worker -- {task_instance_id}")]
    return int(pid)


def children_of(process: int) -> list[int]:
    """The processes that one has started."""
    found = subprocess.run(["ps", "-eo", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    return [int(pid) for pid, parent in map(str.split, found.splitlines()) if int(parent) == process]
