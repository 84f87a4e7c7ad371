"""``python -m hybrid_provider.rollout``, as a person and as a script use it, on real SSH hosts."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from hybrid_provider.artifacts.store import ReleaseStore
from hybrid_provider.rollout.__main__ import main
from tests.integration.test_artifacts_command import until_closed
from tests.integration.test_deploy_operator import (
    FAST,
    connections,  # noqa: F401 - a fixture
    hosts,  # noqa: F401 - a fixture
    synced,
)

ROOT = Path(__file__).parents[2]
POLICY = json.dumps({**FAST, "bake_time": 0, "lock_wait": 0})


@pytest.fixture
def inventory(hosts, tmp_path):  # noqa: F811 - the fixture
    targets = {
        host.name: {
            "port": host.port,
            "host_key": host.host_key,
            "key_file": str(host.key_file),
            "base_folder": str(host.base),
            "reload_command": host.reload_command,
            "probe_url": f"http://127.0.0.1:{host.http_port}/ping",
        }
        for host in hosts
    }
    file = tmp_path / "hosts.yml"
    file.write_text(yaml.safe_dump({"defaults": {"host": "127.0.0.1", "user": "root"}, "targets": targets}))
    return file


@pytest.fixture
def releases(tmp_path, monkeypatch):
    monkeypatch.setenv("AIRFLOW__HYBRID__STORE_ROOT", str(tmp_path / "store"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return [synced(tmp_path, {"model.onnx": os.urandom(9)}, minute=minute)["release_id"] for minute in (1, 2)]


def arguments(inventory, command, *more):
    policy = [] if command == "pin" else ["--policy", POLICY]
    return [command, "--inventory", str(inventory), *policy, *map(str, more)]


@pytest.fixture
def run(inventory, releases, capsys):
    """Runs a command in this process: its exit code, and what it prints as JSON."""

    def run(*asked):
        code = main([*arguments(inventory, *asked), "--json"])
        return code, json.loads(capsys.readouterr().out)

    return run


def states(said):
    return [target["state"] for target in said["targets"]]


def test_a_fleet_is_deployed_looked_at_pinned_audited_and_taken_back(hosts, run, releases, tmp_path):  # noqa: F811
    first, second = releases
    assert run("deploy", first)[0] == 0
    code, said = run("deploy")
    assert (code, said["state"], states(said)) == (0, "SUCCEEDED", ["SUCCEEDED"] * 2)
    champion = ReleaseStore(tmp_path / "store").channel("digits", "champion")
    assert (champion.current, champion.previous) == (second, first)

    assert run("pin", second, "--target", "edge_02")[0] == 0
    code, said = run("status")
    rows = {row["name"]: row for row in said["targets"]}
    assert (code, rows["edge_01"]["pinned"], rows["edge_02"]["pinned"]) == (0, None, second)
    assert (rows["edge_01"]["release"], rows["edge_01"]["previous"], rows["edge_01"]["healthy"]) == (
        second,
        first,
        True,
    )
    code, said = run("rollback")
    assert (code, states(said)) == (0, ["SUCCEEDED", "PINNED"])
    assert [host.current for host in hosts] == [first, second]
    code, said = run("audit", "--release", second)
    assert (code, [(each["host"], each["kind"]) for each in said["drift"]]) == (
        1,
        [("edge_01", "other_release")],
    )
    code, said = run("audit", "--release", second, "--repair")
    assert (code, said["drift"], said["repaired"]["state"]) == (0, [], "SUCCEEDED")
    assert run("pin", "--off")[0] == 0


def command(inventory, *asked):
    return [sys.executable, "-m", "hybrid_provider.rollout", *arguments(inventory, *asked)]


@pytest.mark.parametrize(
    ("number", "at"),
    [
        (signal.SIGINT, "rollout: PREFLIGHT"),
        # The other host's answer, with its lease, is on the way.
        (signal.SIGINT, ": READY"),
        (signal.SIGINT, "rollout: STAGING"),
        (signal.SIGINT, "edge_01: SOAKING"),
        (signal.SIGHUP, "edge_01: SOAKING"),
    ],
)
def test_ctrl_c_leaves_every_host_on_a_whole_release_and_the_same_command_goes_on(  # noqa: PLR0917 - fixtures
    hosts,  # noqa: F811 - the fixture
    inventory,
    releases,
    run,
    number,
    at,
):
    assert run("deploy", releases[0])[0] == 0
    slow = json.dumps({**FAST, "min_healthy_time": 60, "healthy_deadline": 300, "progress_deadline": 600})
    with subprocess.Popen(
        command(inventory, "deploy", "--policy", slow),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        told = next(process.stderr)
        for line in process.stderr:
            told += line
            if at in line:
                process.send_signal(number)
                break
        printed, more = process.communicate(timeout=60)
    assert (process.returncode, "aborting" in more, "Traceback" in more) == (130, True, False)
    assert [host.current for host in hosts] == [releases[0]] * 2
    assert all(host.leftovers() == [] and host.lock_is_free() for host in hosts)

    (rollout,) = set(re.findall(r"by-hand-[0-9TZ]+-[0-9a-f]{8}", told + printed))
    assert f"to go on: the same command with --rollout {rollout}" in printed
    assert run("deploy", "--rollout", rollout)[0] == 0
    assert [host.current for host in hosts] == [releases[1]] * 2


def test_a_terminal_gets_a_table_and_a_pipe_gets_lines(inventory, releases):
    terminal, other_end = pty.openpty()
    with subprocess.Popen(
        command(inventory, "deploy"),
        stderr=other_end,
        stdout=subprocess.PIPE,
        env=os.environ | {"TERM": "xterm", "COLUMNS": "120", "LINES": "40"},
        text=True,
    ) as process:
        os.close(other_end)
        shown = until_closed(terminal)
        printed, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert all(word in shown for word in ("edge_02", "SUCCEEDED", "deploy"))
    assert "━" in shown
    assert re.search(r"edge_02 +SUCCEEDED", printed)

    done = subprocess.run(command(inventory, "deploy"), capture_output=True, text=True, check=False)
    assert (done.returncode, "edge_02: ALREADY_CURRENT" in done.stderr) == (0, True)


def test_what_failed_is_explained_and_its_exit_code_says_whose_turn_it_is(run, inventory, capsys):
    settings = yaml.safe_load(inventory.read_text())
    settings["targets"]["edge_02"]["port"] = 1
    settings["targets"]["edge_02"]["host_key"] = settings["targets"]["edge_01"]["host_key"]
    inventory.write_text(yaml.safe_dump(settings))
    code, said = run("deploy")
    assert (code, said["state"], states(said)[1]) == (75, "FAILED", "UNREACHABLE")
    assert run("status")[0] == 1
    assert main(arguments(inventory, "deploy")) == 75
    assert re.search(r"(?s)edge_02: UNREACHABLE: .*to go on: the same command", capsys.readouterr().out)


@pytest.mark.parametrize(
    ("asked", "code", "message"),
    [
        (["deploy", "20200101T000000Z-000000000000"], 1, "no release"),
        (["deploy", "--rollout", "deploy-1"], 2, "give the id that the interrupted command printed"),
        (["deploy", "--policy", "{waves: []}"], 2, "waves"),
        (["deploy", "--policy", "[1]"], 2, "is no mapping"),
        (["deploy", "--probe", "none"], 2, "must be proved"),
        (["deploy", "--probe", "{kind: smoke}"], 2, "there are http"),
        (["deploy", "--skip", "edge_09"], 2, "edge_09"),
        (["deploy", "--group", "moon"], 2, "moon"),
        (["status", "--model", "../etc"], 2, "'../etc'"),
        (["status", "--store", "/nonexistent"], 2, "/nonexistent has no model; name the store by --store"),
        (["pin"], 2, "or --off"),
        (["pin", "20200101T000000Z-000000000000"], 1, "is not here"),
    ],
)
def test_a_command_that_cannot_be_right_changes_nothing(hosts, run, asked, code, message):  # noqa: F811
    before = [host.current for host in hosts]
    ran, said = run(*asked)
    assert (ran, message in json.dumps(said)) == (code, True), said
    assert [host.current for host in hosts] == before


def test_every_command_explains_itself(capsys):
    for name in ("deploy", "status", "rollback", "audit", "pin"):
        with pytest.raises(SystemExit) as ended:
            main([name, "--help"])
        assert ended.value.code == 0
        assert "--inventory FILE" in capsys.readouterr().out


def test_the_commands_of_the_documentation_work_as_they_stand(run, inventory, releases, tmp_path):
    (block,) = re.findall(r"```sh\n(.*?)```", (ROOT / "docs/rollout.md").read_text(), flags=re.DOTALL)
    assert run("deploy", releases[0])[0] == 0
    done = subprocess.run(
        ["sh", "-ec", block.replace("/srv/models", str(tmp_path / "store"))],
        cwd=tmp_path,
        env=os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
