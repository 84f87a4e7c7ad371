"""What an ordinary mistake gets: the task fails with one error that names the thing and the remedy, and no host changes."""

from __future__ import annotations

import json
import re
import subprocess
from contextlib import contextmanager
from pathlib import Path

import pytest

from playground.environment import BUCKET, ssh_connection
from tests.e2e.test_hybrid_retrain import CONF
from tests.servers import REQUIRE_ALL, free_port


def disk_of(host):
    """Every file and link of a host's home but its server's own, with what a deploy could change of it."""
    entries = {}
    for path in sorted(Path(host.root, "models").rglob("*")):
        entries[str(path)] = (
            str(path.readlink()) if path.is_symlink() else path.is_file() and path.read_bytes()
        )
    return entries


def own_frames(log):
    """The lines of tracebacks that lie in this provider's code, apart from the one that raises."""
    frames = re.findall(r'File "[^"]*hybrid_provider/([^"]+)"', log)
    return [frame for frame in frames if frame != "_explained.py"]


@pytest.fixture
def failing_run(place, run_dag, monkeypatch):
    """Runs the example DAG, expects its task to fail for the reason, and every host to be as it was."""

    def run(task, *reasons, conf=None, connections=None):
        for name, fields in (connections or {}).items():
            monkeypatch.setenv(f"AIRFLOW_CONN_{name.upper()}", json.dumps(fields))
        before = [disk_of(host) for host in place.emulator.hosts]

        ran = run_dag("hybrid_retrain", CONF | (conf or {}), retries=0)

        assert ran.tasks[task] == "failed", ran.log
        error = ran.log[ran.log.index("Task failed with exception") :]
        for reason in reasons:
            assert reason in error
        assert ran.log.count("Task failed with exception") == 1
        assert own_frames(ran.log) == []
        assert [disk_of(host) for host in place.emulator.hosts] == before

    return run


@pytest.fixture
def edge_01(place):
    """The connection of the first host, to be spoilt."""
    return ssh_connection(place.emulator.hosts[0])


def test_a_missing_connection(failing_run):
    failing_run("deploy", "line_77", "airflow connections add", conf={"hosts": ["edge_01", "line_77"]})


def test_an_unreachable_host(failing_run, edge_01):
    port = free_port()
    failing_run("deploy", "edge_02", str(port), connections={"edge_02": edge_01 | {"port": port}})


def test_a_wrong_host_key(failing_run, place, edge_01):
    other = place.emulator.hosts[1].host_key
    failing_run(
        "deploy",
        "edge_01",
        "host key",
        connections={"edge_01": edge_01 | {"extra": edge_01["extra"] | {"host_key": other}}},
    )


def test_a_connection_that_turns_the_host_key_check_off(failing_run, edge_01):
    extra = edge_01["extra"] | {"no_host_key_check": True}
    failing_run("deploy", "edge_01", "no_host_key_check", connections={"edge_01": edge_01 | {"extra": extra}})


@pytest.mark.parametrize("host", ["../../etc", "edge_01; rm -rf ~", "$(reboot)"])
def test_a_host_name_that_tries_to_be_more(failing_run, host):
    failing_run("deploy", host.replace("'", ""), conf={"hosts": ["edge_01", host]})


def test_a_bucket_that_is_not_there(failing_run):
    failing_run("train", "no-such-bucket-here", conf={"data": "s3://no-such-bucket-here/digits/"})


def test_a_training_channel_without_data(failing_run):
    failing_run("train", f"s3://{BUCKET}/digits/none/", conf={"data": f"s3://{BUCKET}/digits/none/"})


def test_a_training_script_that_raises(failing_run):
    failing_run("train", "invalid int value: 'many'", conf={"hyperparameters": {"epochs": "many"}})


@contextmanager
def small_disk(folder, megabytes):
    """A file system of its own at ``folder``, that is soon full; mounting it takes root."""
    folder.mkdir(parents=True, exist_ok=True)
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", folder],
        check=False,
        capture_output=True,
        text=True,
    )
    if mount.returncode:
        reason = f"mounting a small disk needs root: {mount.stderr.strip()}"
        pytest.fail(reason) if REQUIRE_ALL else pytest.skip(reason)
    try:
        (folder / "ballast").write_bytes(bytes(megabytes * 1_000_000))
        yield
    finally:
        subprocess.run(["umount", folder], check=True)


def test_a_full_disk_of_the_store(failing_run, place, monkeypatch, tmp_path):
    monkeypatch.setenv("AIRFLOW__HYBRID__STORE_ROOT", str(tmp_path / "store"))
    with small_disk(tmp_path / "store", megabytes=1):
        failing_run(
            "sync", str(tmp_path / "store"), "free", conf={"hyperparameters": {"epochs": 3, "hidden": 512}}
        )


def test_a_full_disk_of_a_host(failing_run, place, edge_01):
    host = place.emulator.hosts[0]
    with small_disk(Path(host.root) / "small", megabytes=1):
        extra = edge_01["extra"] | {"base_folder": "small/models"}
        failing_run(
            "deploy",
            "edge_01",
            "free",
            connections={"edge_01": edge_01 | {"extra": extra}},
            conf={"hyperparameters": {"epochs": 3, "hidden": 512}},
        )
