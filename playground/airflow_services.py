"""Airflow's own processes for one home: started side by side, healthy or explained, all ended."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import httpx

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping
    from pathlib import Path

    from playground.environment import Playground

# A server on two busy cores was healthy after 21 s.
START_SECONDS = 180
STOP_SECONDS = 20


class AirflowDown(Exception):
    """A component ended by itself, or did not become healthy; the message holds the end of its log."""


@dataclass(frozen=True)
class AirflowServices:
    """The running components.

    Attributes:
        url: Of the UI and the REST API.
        components: Name to process; each leads a process group of its own.
        logs: The folder of their logs, one file a component.
        start: Starts the component of a name.
    """

    url: str
    components: Mapping[str, subprocess.Popen[bytes]]
    logs: Path
    start: Callable[[str], None]

    def restart(self, name: str) -> None:
        """End one component and start it anew."""
        stop([self.components[name]])
        self.start(name)

    def check(self) -> None:
        """Raise ``AirflowDown`` if a component has ended."""
        for name, process in self.components.items():
            if process.poll() is not None:
                raise AirflowDown(f"airflow {name} ended with code {process.returncode}:\n{self._tail(name)}")

    def wait_until_healthy(self) -> None:
        """Wait for the API server, the scheduler, the DAG processor and the triggerer.

        Raises:
            AirflowDown: One ended, or they were not healthy in time.
        """
        deadline = time.monotonic() + START_SECONDS
        while not self._is_healthy():
            self.check()
            if time.monotonic() > deadline:
                raise AirflowDown(
                    f"Airflow is not healthy after {START_SECONDS} s; its logs are in {self.logs}"
                )
            time.sleep(0.5)

    def _is_healthy(self) -> bool:
        try:
            health = httpx.get(f"{self.url}/api/v2/monitor/health", timeout=5).json()
        except (httpx.HTTPError, ValueError):
            return False
        return all(
            health.get(part, {}).get("status") == "healthy"
            for part in ("metadatabase", "scheduler", "dag_processor", "triggerer")
        )

    def _tail(self, name: str) -> str:
        return "\n".join((self.logs / f"{name}.log").read_text(errors="replace").splitlines()[-15:])


@contextmanager
def airflow_services(
    place: Playground, port: int, settings: dict[str, str] | None = None
) -> Iterator[AirflowServices]:
    """Start the components of Airflow on loopback; they may still be starting when this yields.

    Args:
        place: The Airflow home.
        port: Of the API server.
        settings: Further environment variables of all components.
    """
    url = f"http://127.0.0.1:{port}"
    environment = place.environment | api_settings(url) | (settings or {})
    logs = place.folder / "airflow" / "services"
    logs.mkdir(parents=True, exist_ok=True)
    commands = {
        "api-server": ["api-server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"],
        "scheduler": ["scheduler", "--skip-serve-logs"],
        "dag-processor": ["dag-processor"],
        "triggerer": ["triggerer", "--skip-serve-logs"],
    }
    running: dict[str, subprocess.Popen[bytes]] = {}

    def start(name: str) -> None:
        with (logs / f"{name}.log").open("ab") as log:
            running[name] = subprocess.Popen(
                place.airflow(*commands[name]),
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    try:
        for name in commands:
            start(name)
        yield AirflowServices(url, running, logs, start)
    finally:
        stop(running.values())


def api_settings(url: str) -> dict[str, str]:
    """Everyone who reaches this machine's loopback is admin, as a playground wants it."""
    return {
        "AIRFLOW__API__BASE_URL": url,
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{url}/execution/",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
        # A click on Trigger is to run, not to wait for the DAG to be unpaused.
        "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
        "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
        "AIRFLOW__CORE__PARALLELISM": "4",
        "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "10",
    }


def stop(processes: Collection[subprocess.Popen[bytes]]) -> None:
    """End each process with its whole group: first asked, then made to."""
    for process in processes:
        _signal_group(process, signal.SIGTERM)
    deadline = time.monotonic() + STOP_SECONDS
    for process in processes:
        with suppress(subprocess.TimeoutExpired):
            process.wait(max(0.1, deadline - time.monotonic()))
        _signal_group(process, signal.SIGKILL)
        process.wait()


def _signal_group(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    try:
        os.killpg(process.pid, number)
    except ProcessLookupError:
        # The whole group has ended.
        return
