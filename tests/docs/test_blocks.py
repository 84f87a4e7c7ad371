"""Every code block of README.md and of each page, run in its order: shell by a shell, Python by Python, DAGs as DAGs.

The blocks of a page share one folder, the shell's variables and Python's names, as a reader's do. Python goes on
from the README's DAG, so that a page may speak of `train` and `sync`.
"""

from __future__ import annotations

import configparser
import json
import os
import re
import shutil
import subprocess
import warnings
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import yaml
from airflow import settings
from airflow.cli.cli_parser import get_parser
from airflow.configuration import conf
from airflow.executors.executor_loader import ExecutorLoader
from airflow.models.connection import Connection
from airflow.sdk import DAG
from airflow.sdk.module_loading import import_string
from airflow.utils.session import create_session
from sqlalchemy import select

from hybrid_provider.artifacts.__main__ import main as artifacts
from hybrid_provider.artifacts.store import ReleaseStore
from hybrid_provider.hooks.docker_engine import docker_target
from hybrid_provider.hooks.ssh import ssh_target
from hybrid_provider.rollout.__main__ import main as rollout
from hybrid_provider.rollout.direction import DirectionPolicy
from hybrid_provider.rollout.golden import read_cases
from tests.docs.commands import ASKED
from tests.docs.pages import PAGES, blocks_of
from tests.integration.airflow_task import task_context
from tests.integration.sshhosts import make_key
from tests.servers import require_program

RUN = [page for page in PAGES if any(block.no_run is None for block in blocks_of(page))]
QUICK = "{bake_time: 0, min_healthy_time: 0.1, probe_interval: 0.05}"


class Reader:
    """Somebody who types in a page's blocks."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.folder = folder
        self.environment = environment
        self.names: dict[str, Any] = {}

    def run(self, language: str, code: str) -> None:
        # What a page calls by the absolute path of a real site is in the reader's folder.
        here = code.replace("/srv/models", str(self.folder / "srv")).replace(
            "/etc/airflow", str(self.folder / "etc")
        )
        getattr(self, language)(here)

    def sh(self, code: str) -> None:
        """Run it; what it exported stays."""
        script = f"{code}\nenv -0 > .environment\n"
        done = subprocess.run(
            ["sh", "-ec", script],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{code}\n{done.stdout}\n{done.stderr}"
        pairs = (self.folder / ".environment").read_text().split("\0")
        self.environment = dict(pair.split("=", 1) for pair in pairs if pair)
        for arguments in asked_of_airflow():
            connect(arguments)

    def python(self, code: str) -> None:
        self.names["__file__"] = str(self.folder / "dag.py")
        exec(code, self.names)  # noqa: S102 - the page's own text
        for dag in [value for value in self.names.values() if isinstance(value, DAG)]:
            dag.check_cycle()
            assert dag.tasks, f"{dag.dag_id} has no tasks"

    def yaml(self, code: str) -> None:
        """A direction policy; the pages have no other YAML."""
        assert DirectionPolicy.of(yaml.safe_load(code)).directions

    def json(self, code: str) -> None:
        """Golden cases; the pages have no other JSON."""
        assert read_cases(code, "golden.json")

    def ini(self, code: str) -> None:
        """Settings of Airflow's, each one that Airflow or an installed provider knows."""
        given = configparser.ConfigParser()
        given.read_string(code)
        for section in given.sections():
            known = conf.configuration_description[section]["options"]
            assert given[section].keys() <= known.keys()
        celery, edge = given["core"]["executor"].split(",")
        assert celery in ExecutorLoader.executors
        assert import_string(edge)

    def authorized_keys(self, code: str) -> None:
        """Lines whose options sshd knows; the key in them is nobody's."""
        key = make_key(self.folder / "nobody")
        (self.folder / "keys").write_text(re.sub(r"ssh-ed25519 \S+", key, code))
        subprocess.run(["ssh-keygen", "-l", "-f", self.folder / "keys"], check=True, capture_output=True)

    def sshd_config(self, code: str) -> None:
        """What sshd takes; test_ssh_hardening.py has it do what it says."""
        (self.folder / "sshd_config").write_text(f"HostKey {self.folder}/nobody\n{code}")
        sshd = require_program("sshd", "openssh-server")
        subprocess.run([sshd, "-t", "-f", self.folder / "sshd_config"], check=True, capture_output=True)

    def text(self, code: str) -> None:
        """A picture, or a tree."""


def asked_of_airflow():
    """The arguments of each `airflow` command since the last look."""
    if not (asked := Path(ASKED)).exists():
        return []
    lines = asked.read_text().splitlines()
    asked.unlink()
    return map(json.loads, lines)


def connect(arguments):
    """Have Airflow's own command add it to a database, and read what is there then as the provider does."""
    assert arguments[:2] == ["connections", "add"]
    given = get_parser().parse_args(arguments)
    with warnings.catch_warnings(action="ignore"):  # of what Airflow itself imports
        given.func(given)
    with create_session() as session:
        added = session.scalar(select(Connection).where(Connection.conn_id == given.conn_id))
        # A type that no installed provider has becomes a generic one, with a warning alone.
        assert added.conn_type == given.conn_type
        os.environ[f"AIRFLOW_CONN_{given.conn_id.upper()}"] = added.as_json()
        extra = added.extra_dejson
    if given.conn_type == "ssh":
        assert ssh_target(given.conn_id).address.host_keys
    elif given.conn_type == "docker_engine":
        assert docker_target(given.conn_id, {"image": "server:1"}).serving
    else:
        assert extra["service_config"]["sagemaker"].keys() == {"role", "output_path"}


@pytest.fixture
def database(stand, tmp_path, monkeypatch):
    """Airflow's database, as yet without a connection."""
    shutil.copy(stand.database, tmp_path / "airflow.db")
    before = conf.get("database", "sql_alchemy_conn")
    monkeypatch.setenv("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", f"sqlite:///{tmp_path / 'airflow.db'}")
    settings.configure_vars()
    settings.configure_orm()
    yield
    settings.dispose_orm()
    monkeypatch.setenv("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", before)
    settings.configure_vars()


@pytest.fixture
def reader(stand, database, tmp_path, monkeypatch):
    """In a folder with a training script, an inventory, and a store with two releases, the older one live."""
    environment = stand.environment | {"AIRFLOW__HYBRID__STORE_ROOT": str(tmp_path / "srv")}
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    for file in ("train.py", "digits/train.py", "model/config.json"):
        Path(file).parent.mkdir(exist_ok=True)
        Path(file).write_text('{"classes": 10}' if file.endswith(".json") else "print('accuracy=0.9;')")
    Path("hosts.yml").write_text(stand.inventory())
    Path("etc").mkdir()
    reader = Reader(tmp_path, environment)
    (dag,) = [block.code for block in blocks_of(Path("README.md")) if block.language == "python"]
    # A page brings the deploy that it is about.
    reader.python(dag.partition("    OnPremDeployOperator(")[0])
    with patch.dict(os.environ):
        yield reader


@pytest.fixture
def fleet(reader, stand):
    """A release that is live, and a newer one in the store."""
    for day in ("2026-11-01T00:00:00Z", "2026-11-02T00:00:00Z"):
        Path("model/config.json").write_text(json.dumps({"day": day}))
        assert artifacts(["import", "model", "--model", "digits", "--created", day]) == 0
        if day.startswith("2026-11-01"):
            assert rollout(["deploy", "--inventory", "hosts.yml", "--policy", QUICK]) == 0
    return stand.hosts


@pytest.mark.parametrize("page", RUN, ids=str)
def test_the_blocks_of_a_page_work_in_their_order(page, reader, request):
    blocks = [block for block in blocks_of(page) if block.no_run is None]
    if any(
        "hybrid_provider.rollout" in block.code or "hybrid_provider.evidence" in block.code
        for block in blocks
    ):
        request.getfixturevalue("fleet")
    for block in blocks:
        try:
            reader.run(block.language, block.code)
        except Exception as error:
            error.add_note(f"{page}:{block.line}\n{block.code}")
            raise
    AFTERWARDS.get(str(page), lambda _: None)(reader)


def the_sync_and_the_store_hold_what_they_promise(reader):
    reader.names["sync"].execute(task_context())
    store = ReleaseStore(reader.folder / "store")
    assert len(store.releases("digits")) == 3
    assert all(store.verify(release) == () for release in store.releases("digits"))


def the_operators_move_the_fleet(reader):
    """Those of the page as they stand, but for how long they wait, and for addresses that are nobody's."""
    names = reader.names
    smoke_test = reader.folder / "srv/smoke-test"
    smoke_test.write_text('#!/bin/sh\ntest -n "$RELEASE_ID"\n')
    smoke_test.chmod(0o755)
    fleet = names["deploy"].targets

    def run(name):
        operator = names[name]
        operator.targets = fleet
        operator.policy = {**(operator.policy or {}), **yaml.safe_load(QUICK)}
        context = task_context()
        context["ti"].task_id = name
        return operator.execute(context)

    names["deploy"].policy["bake_time"] = 0
    assert run("deploy")["state"] == "SUCCEEDED"
    assert run("back")["state"] == "ROLLED_BACK"
    assert run("canary")["state"] == "PAUSED"
    assert [target["release"] for target in run("audit")["targets"]]
    assert names["audit"].rehash


AFTERWARDS = {
    "docs/rollout.md": the_operators_move_the_fleet,
    "docs/artifacts.md": the_sync_and_the_store_hold_what_they_promise,
}
