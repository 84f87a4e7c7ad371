"""The deploy operator, given ssh connections and what the sync operator returns, on real SSH hosts."""

from __future__ import annotations

import json
from contextlib import ExitStack
from datetime import UTC, datetime

import pytest

from hybrid_provider.artifacts.store import ReleaseStore
from hybrid_provider.operators.deploy import OnPremDeployOperator
from tests.integration.airflow_task import task_context
from tests.integration.sshhosts import sshd
from tests.releases import make_release

FAST = {
    "bake_time": 0.2,
    "min_healthy_time": 0.1,
    "healthy_deadline": 20,
    "progress_deadline": 30,
    "probe_interval": 0.05,
    "probe_timeout": 2,
}


def connection(host, **extra) -> str:
    fields = {
        "key_file": str(host.key_file),
        "host_key": host.host_key,
        "base_folder": str(host.base),
        "reload_command": host.reload_command,
        "probe_url": f"http://127.0.0.1:{host.http_port}/ping",
    }
    return json.dumps(
        {
            "conn_type": "ssh",
            "host": "127.0.0.1",
            "port": host.port,
            "login": "root",
            "extra": {**fields, **extra},
        }
    )


@pytest.fixture(scope="module")
def hosts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hosts")
    with ExitStack() as stack:
        yield [stack.enter_context(sshd(folder / name, name)) for name in ("edge_01", "edge_02")]


@pytest.fixture(autouse=True)
def connections(hosts, monkeypatch):
    for host in hosts:
        monkeypatch.setenv(f"AIRFLOW_CONN_{host.name.upper()}", connection(host))


def synced(tmp_path, files, minute=0):
    """A release in a store, as the sync operator returns it."""
    made = make_release(tmp_path / "made", files, minute)
    store = ReleaseStore(tmp_path / "store")
    with store.locked("digits"):
        release = store.add(
            "digits",
            made.path,
            made.manifest,
            created=datetime(2026, 11, 23, 18, minute, tzinfo=UTC),
            artifact=None,
            provenance={},
        )
    return release.to_dict(seconds=0.1, reused_bytes=0)


def run(release, tmp_path, targets=("edge_01", "edge_02"), **arguments):
    arguments = {"policy": FAST, "store_root": str(tmp_path / "store"), **arguments}
    operator = OnPremDeployOperator(
        task_id="deploy",
        model_name="digits",
        release=release,
        targets=list(targets) if isinstance(targets, tuple) else targets,
        **arguments,
    )
    return operator.execute(task_context())


def test_it_returns_what_became_of_each_host_and_logs_a_table(hosts, tmp_path, capsys):
    release = synced(tmp_path, {"model.onnx": b"weights of the first"})
    result = run(release, tmp_path)
    assert json.loads(json.dumps(result)) == result
    assert (result["state"], result["release_id"], result["digest"]) == (
        "SUCCEEDED",
        release["release_id"],
        release["digest"],
    )
    assert [target["state"] for target in result["targets"]] == ["SUCCEEDED"] * 2
    assert result["waves"] == [["edge_01"], ["edge_02"]]
    assert [host.current for host in hosts] == [release["release_id"]] * 2
    log = capsys.readouterr().out
    assert "edge_02: SOAKING" in log
    assert "target   state" in log
