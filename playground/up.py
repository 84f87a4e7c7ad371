"""`make up`: Airflow's UI with the example DAGs, the embedded cloud and the hosts, until Ctrl-C."""

from __future__ import annotations

import argparse
import socket
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from playground.airflow_services import airflow_services
from playground.command import run
from playground.environment import ROOT, playground

if TYPE_CHECKING:
    from playground.airflow_services import AirflowServices
    from playground.environment import Playground

console = Console(highlight=False, soft_wrap=True)


def main() -> int:
    """Start everything, say where it is, and wait."""
    parser = argparse.ArgumentParser(prog="make up", description=__doc__)
    parser.add_argument("--port", type=int, default=8080, help="of Airflow's UI (default: 8080)")
    parser.add_argument("--hosts", type=int, default=2, help="number of on-prem hosts (default: 2)")
    parser.add_argument(
        "--folder", type=Path, default=ROOT / ".up", help="keeps Airflow's home (default: .up)"
    )
    arguments = parser.parse_args()
    if port_is_taken(arguments.port):
        console.print(
            f"port {arguments.port} is in use; end what listens there, or choose another: make up PORT=8081",
            style="red",
        )
        return 1
    console.print("Starting the embedded cloud, the hosts and Airflow; about half a minute …")
    with (
        playground(arguments.folder, arguments.hosts) as place,
        airflow_services(place, arguments.port) as airflow,
    ):
        airflow.wait_until_healthy()
        introduce(place, airflow)
        # Ctrl-C is how it ends: no failure, of which make would tell.
        with suppress(KeyboardInterrupt):
            while True:
                airflow.check()
                time.sleep(1)
    console.print("Stopped; nothing is left running.")
    return 0


def introduce(place: Playground, airflow: AirflowServices) -> None:
    """Where things are, and what to do first."""
    console.print(f"\n[bold]Airflow is at {airflow.url}[/] (no login: it listens on this machine only)")
    console.print("  Open the DAG hybrid_retrain, press Trigger, and watch its five tasks.")
    console.print("  Browse, Model fleet shows the hosts while they move to the release.\n")
    for host in place.emulator.hosts:
        ssh = f"ssh -i {host.key_file} -p {host.port} {host.user}@{host.address}"
        console.print(f"  {host.name} serves at {host.model_server_url}/ping   {ssh}", markup=False)
    console.print(f"\n  Logs: {airflow.logs}\n  Ctrl-C stops all of it.", markup=False)


def port_is_taken(port: int) -> bool:
    """Whether something listens on the port of this machine's loopback."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


if __name__ == "__main__":
    run(main)
