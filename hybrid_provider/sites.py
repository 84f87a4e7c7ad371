"""Where tasks run: on the worker of a site, next to its store and its hosts, or anywhere in the cloud."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from airflow.sdk import conf

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator

EDGE = "EdgeExecutor"


def on_site(queue: str) -> dict[str, str]:
    """Arguments of an operator, or ``default_args`` of a task group, that send tasks to a site's worker.

    ::

        sync = ModelArtifactSyncOperator(
            task_id="sync", model_name="digits", artifact=train.output, **on_site("munich")
        )

    A task for an edge worker needs the executor beside the queue, and Airflow refuses a DAG that names an
    executor it does not have: the executor is given where ``[core] executor`` lists it. With Celery alone
    the queue is enough; an executor without queues, such as the LocalExecutor, takes no notice of it.

    Args:
        queue: What the site's worker was started with: ``airflow edge worker --queues munich``.
    """
    edge = _edge_executor()
    return {"queue": queue} if edge is None else {"queue": queue, "executor": edge}


def why_it_stays(task: BaseOperator) -> str | None:
    """Why a task that was told to defer waits on its own worker; None if it may defer.

    A deferred task moves to a triggerer, which stands with the scheduler: what a site's worker reaches (its
    object store, its proxy, its hosts) the triggerer may not.
    """
    if conf.getboolean("triggerer", "queues_enabled", fallback=False):
        # The trigger keeps the task's queue, and a triggerer of that queue stands where its worker does.
        return None
    patterns = [each.strip() for each in conf.get("hybrid", "site_queues", fallback="").split(",")]
    if any(fnmatchcase(task.queue, pattern) for pattern in patterns if pattern):
        belongs = "is one of [hybrid] site_queues"
    elif _is_edge(task.executor or _executors()[0][1]):
        belongs = "is an edge worker's"
    else:
        return None
    return (
        f"deferrable has no effect here: queue {task.queue!r} {belongs}, and a triggerer elsewhere may not "
        "reach what this worker reaches. The task waits on this worker. To defer it, run it on a queue of "
        "the cloud, or set [triggerer] queues_enabled and run on the site: airflow triggerer --queues "
        f"{task.queue}"
    )


def _executors() -> list[tuple[str, str]]:
    """Alias (or the path again) and path of each configured executor, the default one first."""
    found = []
    for entry in re.split(r"[,;]", conf.get("core", "executor", fallback="LocalExecutor")):
        alias, _, path = entry.strip().rpartition("=")[2].rpartition(":")
        found.append((alias or path, path))
    return found


def _edge_executor() -> str | None:
    """The name by which a task asks for the edge executor; None if there is none."""
    return next((name for name, path in _executors() if path.rpartition(".")[2] == EDGE), None)


def _is_edge(executor: str) -> bool:
    return executor.rpartition(".")[2] == EDGE or executor == _edge_executor()
