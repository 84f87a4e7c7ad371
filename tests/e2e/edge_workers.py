"""Workers of sites: real Airflow edge workers, which ask the API server for their tasks and see no database."""

from __future__ import annotations

import os
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from playground.airflow_services import api_settings, stop

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from playground.environment import Playground


@dataclass(frozen=True)
class EdgeWorker:
    """One worker of one site or several.

    Attributes:
        queues: It takes the tasks of these.
        folder: Its Airflow home, with its log in it.
        store: Its own store of releases.
    """

    queues: tuple[str, ...]
    folder: Path
    store: Path

    @property
    def log(self) -> str:
        """What it wrote so far."""
        return (self.folder / "worker.log").read_text(errors="replace")


def edge_settings(url: str) -> dict[str, str]:
    """What an Airflow with edge workers needs beside its own settings."""
    return {
        "AIRFLOW__CORE__EXECUTOR": "LocalExecutor,airflow.providers.edge3.executors.EdgeExecutor",
        "AIRFLOW__EDGE__API_ENABLED": "True",
        "AIRFLOW__EDGE__API_URL": f"{url}/edge_worker/v1/rpcapi",
        "AIRFLOW__EDGE__JOB_POLL_INTERVAL": "1",
        "AIRFLOW__EDGE__HEARTBEAT_INTERVAL": "5",
        # A worker starts beside the API server, and asks again soon.
        "AIRFLOW__EDGE__API_RETRIES": "60",
        "AIRFLOW__EDGE__API_RETRY_WAIT_MAX": "2",
    }


@contextmanager
def edge_workers(
    place: Playground, url: str, sites: Mapping[str, tuple[str, ...]]
) -> Iterator[list[EdgeWorker]]:
    """Start a worker of each name for its queues; each has a home and a store of its own."""
    workers, running = [], []
    try:
        for name, queues in sites.items():
            folder = place.folder / "workers" / name
            folder.mkdir(parents=True)
            worker = EdgeWorker(queues, folder, folder / "store")
            own = {
                "AIRFLOW_HOME": str(folder),
                # It could not open it: what it needs of Airflow comes over HTTP.
                "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": "sqlite:////nonexistent/airflow.db",
                "AIRFLOW__HYBRID__STORE_ROOT": str(worker.store),
            }
            with (folder / "worker.log").open("wb") as log:
                running.append(
                    subprocess.Popen(
                        place.airflow(
                            *("edge", "worker", "--queues", ",".join(queues), "--edge-hostname", name),
                            *("--concurrency", "2"),
                        ),
                        env=os.environ | place.environment | api_settings(url) | edge_settings(url) | own,
                        stdin=subprocess.DEVNULL,
                        stdout=log,
                        stderr=subprocess.STDOUT,
                        start_new_session=True,
                    )
                )
            workers.append(worker)
        yield workers
    finally:
        stop(running)
