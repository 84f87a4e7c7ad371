"""docs/where-tasks-run.md: its DAGs are DAGs, and what its commands set is what the compose file reads."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "where-tasks-run.md").read_text()
COMPOSE = (ROOT / "docker-compose.airflow.yml").read_text()
EDGE = "airflow.providers.edge3.executors.EdgeExecutor"
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", PAGE, flags=re.DOTALL)


@pytest.fixture(autouse=True)
def celery_and_edge(monkeypatch):
    (settings,) = [text for kind, text in BLOCKS if kind == "ini"]
    executors = re.search(r"^executor = (.*)$", settings, flags=re.MULTILINE)[1]
    monkeypatch.setenv("AIRFLOW__CORE__EXECUTOR", executors)


@pytest.mark.parametrize("example", [text for kind, text in BLOCKS if kind == "python"])
def test_in_each_example_what_needs_the_site_runs_on_it_and_nothing_else_does(example):
    names: dict[str, object] = {}
    exec(example, names)  # noqa: S102 - the page's own examples
    assert names["sync"].dag.tasks

    for task in names["sync"].dag.tasks:
        on_site = task.task_id.endswith(("sync", "deploy"))
        assert (task.queue != "default", task.executor) == (on_site, EDGE if on_site else None)


@pytest.mark.parametrize("command", [text for kind, text in BLOCKS if kind == "sh"])
def test_what_each_command_sets_is_read_by_the_compose_file_or_by_compose_itself(command):
    known = {*re.findall(r"\$\{(\w+):-", COMPOSE), "COMPOSE_PROFILES"}

    assert "docker compose -f docker-compose.airflow.yml" in command
    assert set(re.findall(r"\b([A-Z_]+)=", command)) <= known
