"""What the pages' blocks find: the embedded cloud, two SSH hosts, and stand-ins of some commands."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tarfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

from hybrid_provider.emulator import Emulator
from playground.environment import aws_connection
from tests.docs.commands import ROOT, stand_ins
from tests.integration.sshhosts import sshd
from tests.integration.test_deploy_operator import connection

if TYPE_CHECKING:
    from tests.integration.sshhosts import Host

BIN = Path(sys.executable).parent
BUCKETS = ("artifacts", "your-bucket", "hybrid-models", "bucket")
EDGE = "CeleryExecutor,airflow.providers.edge3.executors.EdgeExecutor"


@dataclass(frozen=True)
class Stand:
    """The servers that all pages share.

    Attributes:
        hosts: Two SSH hosts with a model's service each.
        database: Airflow's, new; to be copied.
        environment: Environment variables that know all of it.
    """

    hosts: list[Host]
    database: Path
    environment: dict[str, str]

    def inventory(self) -> str:
        """The hosts as an inventory."""
        targets = {
            host.name: {
                "port": host.port,
                "host_key": host.host_key,
                "key_file": str(host.key_file),
                "base_folder": str(host.base),
                "reload_command": host.reload_command,
                "probe_url": f"http://127.0.0.1:{host.http_port}/ping",
            }
            for host in self.hosts
        }
        return yaml.safe_dump({"defaults": {"host": "127.0.0.1", "user": "root"}, "targets": targets})


@pytest.fixture(scope="session")
def stand(tmp_path_factory):
    folder = tmp_path_factory.mktemp("docs")
    with ExitStack() as stack:
        database = stack.enter_context(migrated(folder / "airflow.db"))
        emulator = stack.enter_context(Emulator(folder / "cloud", hosts=0))
        hosts = [stack.enter_context(sshd(folder / name, name)) for name in ("edge_01", "edge_02")]
        s3 = emulator.client("s3")
        for bucket in BUCKETS:
            s3.create_bucket(Bucket=bucket)
        for bucket, key in (("artifacts", "docs/model.tar.gz"), ("bucket", "model.tar.gz")):
            s3.put_object(Bucket=bucket, Key=key, Body=archive("config.json", b"{}"))
        aws = aws_connection(emulator.environment, emulator.role_arn)
        assert database.wait() == 0, "airflow db migrate failed"
        yield Stand(
            hosts,
            folder / "airflow.db",
            os.environ
            | emulator.environment
            | {
                "AIRFLOW_CONN_AWS_DEFAULT": json.dumps(aws),
                **{f"AIRFLOW_CONN_{host.name.upper()}": connection(host) for host in hosts},
                "AIRFLOW__CORE__EXECUTOR": EDGE,
                "PATH": f"{stand_ins(folder / 'bin', hosts[0].port)}:{BIN}:{os.environ['PATH']}",
                "PYTHONPATH": str(ROOT),
            },
        )


def migrated(database: Path) -> subprocess.Popen[bytes]:
    """Airflow's own command at work on a new database, while the servers start."""
    settings = {"AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{database}"}
    log = database.with_suffix(".log").open("wb")
    return subprocess.Popen(
        [BIN / "airflow", "db", "migrate"], env=os.environ | settings, stdout=log, stderr=log
    )


def archive(name: str, content: bytes) -> bytes:
    """One file as a tar.gz."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        member = tarfile.TarInfo(name)
        member.size = len(content)
        tar.addfile(member, io.BytesIO(content))
    return packed.getvalue()
