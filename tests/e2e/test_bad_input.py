"""What an ordinary mistake gets: the task fails with one error that names the thing and the remedy, and no host changes."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import subprocess
import tarfile
from contextlib import contextmanager
from pathlib import Path

import pytest

from playground.environment import BUCKET, ssh_connection
from tests.e2e.test_hybrid_retrain import CONF, QUICK
from tests.servers import REQUIRE_ALL, free_port

DEPLOY_ONLY = Path(__file__).parent / "dags" / "deploy_only.py"


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


@pytest.fixture(scope="module")
def artifact(place):
    """The URI of an archive with one file of 2 MB."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        member = tarfile.TarInfo("model.onnx")
        member.size = 2_000_000
        archive.addfile(member, io.BytesIO(os.urandom(member.size)))
    place.emulator.client("s3").put_object(
        Bucket=BUCKET, Key="bad-input/model.tar.gz", Body=packed.getvalue()
    )
    return f"s3://{BUCKET}/bad-input/model.tar.gz"


@pytest.fixture
def failing_run(place, run_dag, monkeypatch):
    """Runs a DAG, expects its task to fail for the reasons, and every host to be as it was."""

    def run(dag_id, task, *reasons, conf, connections=None):
        for name, fields in (connections or {}).items():
            monkeypatch.setenv(f"AIRFLOW_CONN_{name.upper()}", json.dumps(fields))
        before = [disk_of(host) for host in place.emulator.hosts]

        ran = run_dag(dag_id, conf, retries=0)

        assert ran.tasks[task] == "failed", ran.log
        error = ran.log[ran.log.index("Task failed with exception") :]
        for reason in reasons:
            assert reason in error
        assert ran.log.count("Task failed with exception") == 1
        assert own_frames(ran.log) == []
        assert [disk_of(host) for host in place.emulator.hosts] == before
        return ran

    return run


@pytest.fixture
def failing_training(failing_run):
    """A failing task ``train`` of the example DAG."""

    def run(*reasons, conf):
        failing_run("hybrid_retrain", "train", *reasons, conf=CONF | conf)

    return run


@pytest.fixture
def failing_deploy(place, failing_run, artifact):
    """A failing task after training; ``task`` is the one that fails."""
    shutil.copy(DEPLOY_ONLY, place.environment["AIRFLOW__CORE__DAGS_FOLDER"])

    def run(*reasons, hosts=("edge_01", "edge_02"), connections=None, task="deploy"):
        conf = {"artifact": artifact, "hosts": list(hosts), "policy": QUICK}
        failing_run("deploy_only", task, *reasons, conf=conf, connections=connections)

    return run


@pytest.fixture
def edge_01(place):
    """The connection of the first host, to be spoilt."""
    return ssh_connection(place.emulator.hosts[0])


def test_a_missing_connection(failing_deploy):
    failing_deploy("line_77", "airflow connections add", hosts=["edge_01", "line_77"])


def test_an_unreachable_host(failing_deploy, edge_01):
    port = free_port()
    failing_deploy("edge_02", str(port), connections={"edge_02": edge_01 | {"port": port}})


def test_a_wrong_host_key(failing_deploy, place, edge_01):
    other = place.emulator.hosts[1].host_key
    extra = edge_01["extra"] | {"host_key": other}
    failing_deploy("edge_01", "host key", connections={"edge_01": edge_01 | {"extra": extra}})


def test_a_connection_that_turns_the_host_key_check_off(failing_deploy, edge_01):
    extra = edge_01["extra"] | {"no_host_key_check": True}
    failing_deploy("edge_01", "no_host_key_check", connections={"edge_01": edge_01 | {"extra": extra}})


@pytest.mark.parametrize("host", ["../../etc", "edge_01; rm -rf ~", "$(reboot)"])
def test_a_host_name_that_tries_to_be_more(failing_deploy, host):
    failing_deploy(host, "name", hosts=["edge_01", host])


def test_a_bucket_that_is_not_there(failing_training):
    failing_training("no-such-bucket-here", conf={"data": "s3://no-such-bucket-here/digits/"})


def test_a_training_channel_without_data(failing_training):
    failing_training(f"s3://{BUCKET}/digits/none/", conf={"data": f"s3://{BUCKET}/digits/none/"})


@pytest.mark.parametrize(
    ("dag_id", "asked", "reason"),
    [
        ("hybrid_retrain", {"policy": {"waves": ["60%", "70%"]}}, "add up to 130%"),
        ("hybrid_retrain", {"hosts": ["edge_01", "line_77"]}, "airflow connections add line_77"),
        ("hybrid_retrain_with_approval", {"policy": {"bake": 5}}, "no setting is called bake"),
        ("hybrid_multi_site", {"policy": {"healthy_deadline": 5}}, "no probe could ever pass"),
    ],
)
def test_what_no_rollout_could_do_is_found_before_the_training_is_paid_for(
    failing_run, dag_id, asked, reason
):
    ran = failing_run(dag_id, "preflight", reason, conf=CONF | asked)
    assert {state for task, state in ran.tasks.items() if task != "preflight"} == {"upstream_failed"}


def test_a_training_script_that_raises(failing_training):
    failing_training("invalid int value: 'many'", conf={"hyperparameters": {"epochs": "many"}})


@contextmanager
def small_disk(folder):
    """A file system of 1 MB at ``folder``; mounting it takes root."""
    folder.mkdir(parents=True, exist_ok=True)
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder],
        check=False,
        capture_output=True,
        text=True,
    )
    if mount.returncode:
        reason = f"mounting a small disk needs root: {mount.stderr.strip()}"
        pytest.fail(reason) if REQUIRE_ALL else pytest.skip(reason)
    try:
        yield
    finally:
        subprocess.run(["umount", folder], check=True)


def test_a_full_disk_of_the_store(failing_deploy, monkeypatch, tmp_path):
    monkeypatch.setenv("AIRFLOW__HYBRID__STORE_ROOT", str(tmp_path / "store"))
    with small_disk(tmp_path / "store"):
        failing_deploy(str(tmp_path / "store"), "free", task="sync")


def test_a_full_disk_of_a_host(failing_deploy, place, edge_01):
    with small_disk(Path(place.emulator.hosts[0].root) / "small"):
        extra = edge_01["extra"] | {"base_folder": "small/models"}
        failing_deploy("edge_01", "free", connections={"edge_01": edge_01 | {"extra": extra}})
