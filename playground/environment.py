"""An Airflow home beside an embedded cloud and hosts: what `make demo`, `make up` and the e2e tests share."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hybrid_provider.emulator import Emulator
from playground import dataset

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from hybrid_provider.emulator import EmulatedHost

ROOT = Path(__file__).parent.parent
BUCKET = "hybrid-models"
MODEL = "digits"


@dataclass(frozen=True)
class Playground:
    """A running emulator and the Airflow home that knows it.

    Attributes:
        emulator: The embedded cloud and hosts.
        folder: Holds the Airflow home, the store and everything of the emulator's.
        environment: Environment variables for any Airflow process of this home.
    """

    emulator: Emulator
    folder: Path
    environment: dict[str, str]

    @property
    def hosts(self) -> dict[str, EmulatedHost]:
        """The hosts by the id of their ssh connection."""
        return {connection_id(host): host for host in self.emulator.hosts}

    def airflow(self, *arguments: str) -> list[str]:
        """The command line of an `airflow` command."""
        return [str(Path(sys.executable).parent / "airflow"), *arguments]


@contextmanager
def playground(folder: Path, hosts: int = 2) -> Iterator[Playground]:
    """Start the emulator, upload the training data and migrate Airflow's database, side by side."""
    home = folder / "airflow"
    home.mkdir(parents=True, exist_ok=True)
    settings = os.environ | airflow_settings(home, folder / "store")
    migration = subprocess.Popen(
        [Path(sys.executable).parent / "airflow", "db", "migrate"],
        env=settings,
        stdout=(home / "migrate.log").open("wb"),
        stderr=subprocess.STDOUT,
    )
    try:
        with Emulator(folder / "cloud", hosts=hosts, model=MODEL) as emulator:
            s3 = emulator.client("s3")
            s3.create_bucket(Bucket=BUCKET)
            dataset.upload(s3, BUCKET)
            if migration.wait() != 0:
                raise SystemExit(f"airflow db migrate failed; its output is in {home / 'migrate.log'}")
            yield Playground(emulator, folder, settings | emulator.environment | connections(emulator))
    finally:
        if migration.poll() is None:
            migration.terminate()
            migration.wait()


def airflow_settings(home: Path, store: Path) -> dict[str, str]:
    """An Airflow of its own that knows only this project's DAGs."""
    return {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "dags"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__FERNET_KEY": "",
        "AIRFLOW__API_AUTH__JWT_SECRET": secrets.token_hex(32),
        "AIRFLOW__HYBRID__STORE_ROOT": str(store),
        "AIRFLOW__HYBRID__INSTALLATION_ID": "playground",
        "AIRFLOW__SCHEDULER__ENABLE_HEALTH_CHECK": "False",
    }


def connections(emulator: Emulator) -> dict[str, str]:
    """The connections that ``dags/hybrid_retrain.py`` reads, as Airflow takes them from the environment."""
    aws = aws_connection(emulator.environment, emulator.role_arn)
    ssh = {connection_id(host): ssh_connection(host) for host in emulator.hosts}
    return {
        f"AIRFLOW_CONN_{name.upper()}": json.dumps(fields)
        for name, fields in {"aws_default": aws, **ssh}.items()
    }


def aws_connection(environment: Mapping[str, str], role_arn: str) -> dict[str, Any]:
    """An ordinary ``aws`` connection: credentials, region, execution role, and where jobs leave output."""
    return {
        "conn_type": "aws",
        "login": environment["AWS_ACCESS_KEY_ID"],
        "password": environment["AWS_SECRET_ACCESS_KEY"],
        "extra": {
            "region_name": environment["AWS_DEFAULT_REGION"],
            "service_config": {
                "sagemaker": {"role": role_arn, "output_path": f"s3://{BUCKET}/{MODEL}/jobs"},
            },
        },
    }


def connection_id(host: EmulatedHost) -> str:
    """``edge-01`` as an id that an environment variable can carry: ``edge_01``."""
    return host.name.replace("-", "_")


def ssh_connection(host: EmulatedHost) -> dict[str, Any]:
    """An ordinary ``ssh`` connection, with this provider's three extras."""
    return {
        "conn_type": "ssh",
        "host": host.address,
        "port": host.port,
        "login": host.user,
        "extra": {
            "key_file": str(host.key_file),
            "host_key": host.host_key,
            "base_folder": "models",
            "reload_command": host.reload_command,
            "probe_url": f"{host.model_server_url}/ping",
        },
    }
