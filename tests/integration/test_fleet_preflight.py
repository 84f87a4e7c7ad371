"""The preflight operator on real SSH hosts: what would stop the deploy is found before there is anything to deploy."""

from __future__ import annotations

import asyncio
import json
from contextlib import ExitStack

import pytest
from airflow.sdk.exceptions import AirflowFailException

from hybrid_provider.exceptions import RolloutPostponed
from hybrid_provider.operators.preflight import FleetPreflightOperator
from hybrid_provider.rollout.policy import RolloutPolicy
from hybrid_provider.rollout.preflight import Preflight
from hybrid_provider.rollout.probe import HttpProbe
from hybrid_provider.targets.target import Placement
from tests.integration.airflow_task import task_context
from tests.integration.sshhosts import sshd
from tests.integration.test_deploy_operator import FAST, connection
from tests.integration.test_rollout import deploy
from tests.releases import make_release
from tests.servers import free_port


@pytest.fixture
def hosts(tmp_path, monkeypatch):
    with ExitStack() as stack:
        started = [stack.enter_context(sshd(tmp_path / name, name)) for name in ("edge_01", "edge_02")]
        for host in started:
            monkeypatch.setenv(f"AIRFLOW_CONN_{host.name.upper()}", connection(host))
        yield started


def ask(targets=("edge_01", "edge_02"), **arguments):
    operator = FleetPreflightOperator(
        task_id="preflight",
        model_name="digits",
        targets=list(targets),
        **{"policy": FAST, **arguments},
    )
    return operator.execute(task_context())


def states(answer):
    return [target["state"] for target in answer["targets"]]


def test_a_fleet_that_could_take_a_release_is_left_as_it_was(hosts):
    assert states(ask()) == ["READY"] * 2
    assert [host.leftovers() for host in hosts] == [[]] * 2
    assert not any((host.model / "releases").exists() for host in hosts)


def test_what_is_live_and_what_is_kept_stays(hosts, tmp_path):
    made = [make_release(tmp_path / "store", {"n": b"%d" % minute}, minute) for minute in range(4)]
    for minute, release in enumerate(made):
        assert str(asyncio.run(deploy(release, hosts, f"r-{minute}", keep_releases=9)).state) == "SUCCEEDED"
    ask(policy={**FAST, "keep_releases": 1})
    for host in hosts:
        assert host.current == made[-1].release_id
        assert len(list((host.model / "releases").iterdir())) == len(made)


def test_a_policy_that_no_rollout_could_follow_and_a_host_that_is_none_are_one_message(hosts):
    with pytest.raises(AirflowFailException) as failure:
        ask(["edge_01", "line_77"], policy={"waves": ["60%", "70%"], "healthy_deadline": 5})
    for said in ("add up to 130%", "no probe could ever pass", "airflow connections add line_77"):
        assert said in str(failure.value)


def test_all_that_each_target_lacks_is_in_one_message(hosts):
    hosts[0].model.parent.mkdir(exist_ok=True)
    hosts[0].model.parent.chmod(0o777)
    hosts[1].base.rename(hosts[1].base.with_name("away"))
    hosts[1].base.write_text("a file, and no folder")
    with pytest.raises(AirflowFailException) as failure:
        ask()
    assert "2 of 2 targets of digits could take no release" in str(failure.value)
    assert "edge_01: anybody may write into" in str(failure.value)
    assert "edge_02: cannot make the folder" in str(failure.value)
    # As the deploy would go on without them.
    assert states(ask(policy={**FAST, "max_failures": 2})) == ["FAILED_NO_CHANGE"] * 2
    hosts[1].base.unlink()
    hosts[1].base.with_name("away").rename(hosts[1].base)


def test_one_place_under_two_names_is_told_of_both(hosts, monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_EDGE_03", connection(hosts[0]))
    with pytest.raises(AirflowFailException) as failure:
        ask(["edge_01", "edge_02", "edge_03"])
    for name in ("edge_01", "edge_03"):
        assert f"  {name}: edge_01 and edge_03 are one place under several names" in str(failure.value)
    assert "  edge_02:" not in str(failure.value)
    assert states(ask(["edge_01", "edge_02", "edge_03"], skip=["edge_03"])) == ["READY"] * 2


def test_a_host_that_does_not_answer_is_asked_again_by_a_retry(hosts, monkeypatch):
    gone = json.loads(connection(hosts[1])) | {"port": free_port()}
    monkeypatch.setenv("AIRFLOW_CONN_EDGE_02", json.dumps(gone))
    with pytest.raises(RolloutPostponed, match=r"edge_02: no connection to"):
        ask()
    assert states(ask(policy={**FAST, "unreachable": "skip"})) == ["READY", "SKIPPED"]
    assert hosts[0].leftovers() == []


def test_a_host_on_which_a_rollout_works_is_not_waited_for(hosts):
    hosts[0].model.mkdir(parents=True, exist_ok=True)
    (hosts[0].model / ".lease").write_text("other 1 99999999999 nonce\n")
    assert states(ask()) == ["LOCKED", "READY"]


async def test_one_that_is_stopped_gives_every_lease_back(hosts):
    """As on_kill does, while one host has answered and another hangs."""
    told = []

    def tell(name, state, _detail):
        told.append((name, str(state)))
        preflight.abort()

    targets = [host.target.open(Placement()) for host in hosts]
    preflight = Preflight(targets, "digits", HttpProbe(), RolloutPolicy.of(FAST), rollout_id="p-1", tell=tell)
    hang = asyncio.Event()
    answered = targets[1].preflight

    async def hangs(order):
        await answered(order)
        await hang.wait()

    targets[1].preflight = hangs
    results = await preflight.run()
    assert told[0] == ("edge_01", "READY")
    assert "the rollout was stopped" in results[1].error
    assert [host.leftovers() for host in hosts] == [[]] * 2
