"""The deploy operator, given ssh connections and what the sync operator returns, on real SSH hosts."""

from __future__ import annotations

import json
from contextlib import ExitStack

import pytest
from airflow.sdk.exceptions import AirflowFailException

from hybrid_provider.artifacts.store import ReleaseStore
from hybrid_provider.exceptions import RolloutPostponed, StoreError
from hybrid_provider.operators.deploy import OnPremDeployOperator
from tests.integration.airflow_task import task_context
from tests.integration.sshhosts import sshd
from tests.releases import stored_release
from tests.servers import free_port

FAST = {
    "bake_time": 0.2,
    "min_healthy_time": 0.1,
    "healthy_deadline": 20,
    "progress_deadline": 30,
    "probe_interval": 0.05,
    "probe_timeout": 2,
}


KEYS = {"model", "release_id", "digest", "state", "targets", "waves", "seconds"}
TARGET_KEYS = {
    *("name", "state", "from_release", "to_release"),
    *("seconds", "bytes_sent", "bytes_linked", "error"),
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
    release = stored_release(tmp_path / "made", tmp_path / "store", files, minute)
    return release.to_dict(seconds=0.1, reused_bytes=0)


def run(release, tmp_path, targets=("edge_01", "edge_02"), context=None, **arguments):
    arguments = {"policy": FAST, "store_root": str(tmp_path / "store"), **arguments}
    operator = OnPremDeployOperator(
        task_id="deploy",
        model_name="digits",
        release=release,
        targets=list(targets) if isinstance(targets, tuple) else targets,
        **arguments,
    )
    return operator.execute(context or task_context())


def fails(named, *arguments, **more):
    """The task fails at once, with one message that names all of this and carries no traceback of ours."""
    with pytest.raises(AirflowFailException) as failure:
        run(*arguments, **more)
    for name in named:
        assert name in str(failure.value)
    assert failure.value.__cause__ is None
    assert failure.value.__context__ is None
    return str(failure.value)


def test_it_returns_what_became_of_each_host_and_logs_a_table(hosts, tmp_path, capsys):
    release = synced(tmp_path, {"model.onnx": b"weights of the first"})
    result = run(release, tmp_path)
    assert json.loads(json.dumps(result)) == result
    assert result.keys() == KEYS
    assert [target.keys() for target in result["targets"]] == [TARGET_KEYS] * 2
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


@pytest.fixture
def release(tmp_path):
    return synced(tmp_path, {"model.onnx": b"weights"}, minute=1)


def test_each_activation_is_in_the_evidence_before_it_begins_and_at_its_end(hosts, tmp_path, release):
    run(release, tmp_path, approved_by="ada")
    chain = ReleaseStore(tmp_path / "store").evidence
    entries = list(chain.entries())
    assert [(entry.kind, entry.facts.get("target"), entry.facts.get("state")) for entry in entries] == [
        ("transfer", None, None),
        ("activation", "edge_01", None),
        ("activated", "edge_01", "SUCCEEDED"),
        ("activation", "edge_02", None),
        ("activated", "edge_02", "SUCCEEDED"),
    ]
    assert {entry.facts["digest"] for entry in entries} == {release["digest"]}
    assert entries[1].facts["approved_by"] == "ada"
    assert entries[1].facts["run"]["task_id"]


def test_where_no_evidence_can_be_kept_nothing_goes_live(hosts, tmp_path):
    # One that no test before has brought to the hosts: what serves already needs no evidence.
    release = synced(tmp_path, {"model.onnx": b"weights without evidence"}, minute=2)
    before = [host.current for host in hosts]
    chain = ReleaseStore(tmp_path / "store").evidence
    chain.path.unlink()
    chain.path.mkdir()
    with pytest.raises(StoreError, match="nothing goes live"):
        run(release, tmp_path)
    assert [host.current for host in hosts] == before
    assert [host.leftovers() for host in hosts] == [[], []]


def test_a_direction_that_the_site_does_not_open_is_refused_before_anything_is_sent(
    hosts, tmp_path, release, monkeypatch
):
    policy = tmp_path / "directions.yml"
    monkeypatch.setenv("AIRFLOW__HYBRID__DIRECTION_POLICY", str(policy))
    fails(["cannot be read, so nothing may go anywhere"], release, tmp_path)
    policy.write_text("- from: s3://factory/\n  to: '*'\n")
    fails(["no rule of the direction policy", "edge_01 (group none)"], release, tmp_path)


@pytest.mark.parametrize(
    "render", [str, json.dumps, lambda value: value["release_id"], lambda value: "latest"]
)
def test_what_jinja_made_a_string_is_the_same_release_and_fleet(hosts, tmp_path, release, render):
    result = run(render(release), tmp_path, targets="['edge_01', 'edge_02']", policy=json.dumps(FAST))
    assert {host.current for host in hosts} == {release["release_id"]}
    assert result["state"] == "SUCCEEDED"


def test_targets_that_are_no_list_are_explained(tmp_path, release):
    fails(["edge_01, edge_02", "give a list"], release, tmp_path, targets="edge_01, edge_02")


@pytest.mark.parametrize("name", ["../../etc", "edge_01; rm -rf ~", "$(reboot)"])
def test_a_host_name_that_tries_to_be_more_is_refused(hosts, tmp_path, release, name):
    before = [host.current for host in hosts]
    fails([name, "use letters, digits"], release, tmp_path, targets=["edge_01", name])
    assert [host.current for host in hosts] == before


def test_all_that_is_wrong_with_the_fleet_is_in_one_message(tmp_path, release, hosts, monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_EDGE_01", connection(hosts[0], no_host_key_check=True))
    monkeypatch.setenv("AIRFLOW_CONN_EDGE_02", connection(hosts[1], host_key=None, known_hosts="/nowhere"))
    fails(
        [
            "'edge_01' sets no_host_key_check",
            "'edge_02' has no host_key",
            "ssh-keyscan -p",
            "airflow connections add nobody",
        ],
        release,
        tmp_path,
        targets=["edge_01", "edge_02", "nobody"],
    )


def test_an_unreachable_host_stops_all_before_anything_is_switched_and_a_retry_may_help(
    hosts, tmp_path, release, monkeypatch
):
    before = [host.current for host in hosts]
    gone = json.loads(connection(hosts[1])) | {"port": free_port()}
    monkeypatch.setenv("AIRFLOW_CONN_EDGE_02", json.dumps(gone))
    other = synced(tmp_path, {"model.onnx": b"other weights"}, minute=2)
    with pytest.raises(
        RolloutPostponed, match=r"(?s)nothing was switched.*edge_02: UNREACHABLE: no connection to"
    ):
        run(other, tmp_path)
    assert [host.current for host in hosts] == before
    assert all(host.leftovers() == [] for host in hosts)


def test_another_host_key_is_refused(hosts, tmp_path, release, monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_EDGE_01", connection(hosts[0], host_key=hosts[1].host_key))
    other = synced(tmp_path, {"model.onnx": b"other weights"}, minute=2)
    fails(["edge_01", "another host key", "SHA256:", "ssh-keygen -lf"], other, tmp_path)


def test_a_release_that_fails_its_probe_fails_the_task_with_the_reason(hosts, tmp_path, release):
    run(release, tmp_path)
    bad = synced(tmp_path, {"model.onnx": b"bad", "broken": b"1"}, minute=3)
    fails(
        ["PAUSED", "0 of 2 targets serve it", "edge_01: REVERTED", "HTTP 500"],
        bad,
        tmp_path,
        policy={**FAST, "healthy_deadline": 3, "probe_timeout": 1},
    )
    assert [host.current for host in hosts] == [release["release_id"]] * 2


@pytest.mark.parametrize("on_breach", ["pause", "rollback"])
def test_what_was_switched_before_a_breach_stays_or_goes_back_as_it_was_asked_for(
    hosts, tmp_path, release, monkeypatch, on_breach
):
    run(release, tmp_path)
    other = synced(tmp_path, {"model.onnx": on_breach.encode()}, minute=4)
    nobody = f"http://127.0.0.1:{free_port()}/ping"
    monkeypatch.setenv("AIRFLOW_CONN_EDGE_02", connection(hosts[1], probe_url=nobody))
    policy = {**FAST, "healthy_deadline": 4}
    ends = {"pause": "PAUSED", "rollback": "ROLLED_BACK"}[on_breach]
    fails([ends, "edge_02: REVERTED"], other, tmp_path, on_breach=on_breach, policy=policy)
    canary = other if on_breach == "pause" else release
    assert [host.current for host in hosts] == [canary["release_id"], release["release_id"]]


def test_a_channel_names_the_release(hosts, tmp_path, release):
    ReleaseStore(tmp_path / "store").point("digits", "candidate", release["release_id"])
    synced(tmp_path, {"model.onnx": b"newer, and in no channel"}, minute=5)
    assert run("candidate", tmp_path)["release_id"] == release["release_id"]


def test_a_policy_with_faults_names_them_all(tmp_path, release):
    fails(
        ["waves", "max_failures -1", "bake_time"],
        release,
        tmp_path,
        policy={"waves": [], "max_failures": -1, "bake_time": "long"},
    )


def test_a_host_key_as_ssh_keyscan_prints_it_is_taken(hosts, tmp_path, release, monkeypatch):
    host = hosts[0]
    scanned = f"# 127.0.0.1:{host.port} SSH-2.0-OpenSSH\n[127.0.0.1]:{host.port} {host.host_key}\n"
    monkeypatch.setenv("AIRFLOW_CONN_EDGE_01", connection(host, host_key=scanned))
    assert run(release, tmp_path, targets=["edge_01"])["state"] == "SUCCEEDED"


def test_the_key_of_a_known_hosts_file_is_taken(hosts, tmp_path, release, monkeypatch):
    host = hosts[0]
    known_hosts = tmp_path / "known_hosts"
    known_hosts.write_text(f"[127.0.0.1]:{host.port} {host.host_key}\n")
    monkeypatch.setenv("AIRFLOW_CONN_EDGE_01", connection(host, host_key=None, known_hosts=str(known_hosts)))
    assert run(release, tmp_path, targets=["edge_01"])["state"] == "SUCCEEDED"
