"""Deploy, bake, roll back and audit by the operators on real SSH hosts, with the fleet's state beside it."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
import yaml
from airflow.sdk.exceptions import AirflowFailException, TaskDeferred

from hybrid_provider.artifacts.importing import import_release
from hybrid_provider.artifacts.store import ReleaseStore
from hybrid_provider.fleet.assets import model_asset
from hybrid_provider.operators.audit import FleetAuditOperator
from hybrid_provider.operators.pin import OnPremPinOperator
from hybrid_provider.operators.rollback import OnPremRollbackOperator
from hybrid_provider.training.gate import Champion, champion_of
from tests.fleets import ended, trained
from tests.integration.airflow_task import task_context
from tests.integration.test_deploy_operator import (
    FAST,
    connections,  # noqa: F401 - a fixture
    hosts,  # noqa: F401 - a fixture
    run,
    synced,
)
from tests.servers import free_port

TARGETS = ["edge_01", "edge_02"]
POLICY = {**FAST, "drain": 0}
# Both hosts in one wave, where its order is not what a test is about.
AT_ONCE = {**POLICY, "waves": ["100%"], "max_unavailable": "100%", "bake_time": 0, "min_healthy_time": 0}


def roll_back(tmp_path, context, **more):
    operator = OnPremRollbackOperator(
        task_id="rollback",
        model_name="digits",
        targets=TARGETS,
        policy=AT_ONCE,
        store_root=str(tmp_path / "store"),
        **more,
    )
    return operator.execute(context)


def look(tmp_path, context, **more):
    arguments = {"targets": TARGETS, "policy": AT_ONCE, "store_root": str(tmp_path / "store"), **more}
    operator = FleetAuditOperator(task_id="audit", model_name="digits", **arguments)
    return operator.execute(context)


def deployed(release, accuracy):
    """The event of a deploy of a release with a metric."""
    return ended(release["release_id"], {}, training=trained("job", accuracy=accuracy))


def without(row, *path):
    """A row in which one thing is not said."""
    key, *rest = path
    return {**row, key: without(row[key], *rest) if rest and row[key] else None}


def rows_in(rows, *, timed=False):
    """All rows, without what is a later audit's own: when it looked, at the hosts' probes and at all."""
    found = {key: rows.get(key) for key in sorted(rows.values)}
    for key, row in found.items():
        if key == "audit":
            found[key] = without(row, "at")
        elif key.startswith("host/"):
            found[key] = without(row if timed else without(row, "since"), "probe", "at")
    return found


class Events(dict):
    """``context["inlet_events"]`` of events that tasks have put out, the newest last."""

    def __init__(self, *put_out):
        super().__init__()
        self.extras = [events[model_asset("digits")].extra for events in put_out]

    def __getitem__(self, asset):
        return self

    def ascending(self, *, ascending):
        return self

    def limit(self, number):
        return [SimpleNamespace(extra=extra) for extra in self.extras[::-1][:number]]


def as_task(context, task_id):
    """The same asset state, another task."""
    fresh = task_context(asset_state_store=context["asset_state_store"])
    fresh["ti"].task_id = task_id
    return fresh


@pytest.fixture
def fleet(hosts, tmp_path):  # noqa: F811 - the fixture
    """Both hosts moved from a first release to a second."""
    context = task_context()
    first = synced(tmp_path, {"model.onnx": b"first"}, minute=10)
    second = synced(tmp_path, {"model.onnx": b"second"}, minute=11)
    run(first, tmp_path, context=context, policy=AT_ONCE)
    run(second, tmp_path, context=as_task(context, "again"), policy=AT_ONCE)
    return context, first, second


def test_a_rollback_takes_each_host_to_what_it_served_before_and_the_champion_with_it(fleet, hosts, tmp_path):  # noqa: F811
    context, first, second = fleet
    store = ReleaseStore(tmp_path / "store")
    assert store.channel("digits", "champion").current == second["release_id"]

    task = as_task(context, "rollback")
    result = roll_back(tmp_path, task)

    assert result["state"] == "ROLLED_BACK"
    assert [host.current for host in hosts] == [first["release_id"]] * 2
    assert store.channel("digits", "champion").current == first["release_id"]
    rows = context["asset_state_store"].of()
    assert rows.get("host/edge_01")["release"] == first["release_id"]
    assert (rows.get("rollout")["kind"], rows.get("rollout")["state"]) == ("rollback", "ROLLED_BACK")
    extra = task["outlet_events"][model_asset("digits")].extra
    assert extra["evidence"] == store.evidence.head().to_dict()
    assert (extra["kind"], extra["release"], extra["digest"]) == (
        "rollback",
        first["release_id"],
        first["digest"],
    )
    events = [deployed(first, 0.9), deployed(second, 0.8), extra]
    assert champion_of(events) == Champion(release=first["release_id"], metrics={"accuracy": 0.9})


def test_rows_that_are_lost_after_a_rollout_are_written_again_as_they_were_by_an_audit(fleet, tmp_path):
    context, first, _ = fleet
    back = as_task(context, "rollback")
    roll_back(tmp_path, back)
    rows = context["asset_state_store"].of()
    before, times = rows_in(rows), {name: rows.get(f"host/{name}")["since"] for name in TARGETS}
    assert before.keys() == {"host/edge_01", "host/edge_02", "rollout"}
    assert before["host/edge_01"]["release"] == first["release_id"]

    task = as_task(context, "audit") | {
        "inlet_events": Events(context["outlet_events"], back["outlet_events"])
    }
    task["ti"].run_id = "of the audit"
    rows.values.clear()
    look(tmp_path, task)
    after = rows_in(rows)
    assert after.pop("audit")["drift"] == []
    assert after == before
    # The rollout took the worker's clock where it saw the host proved; the host has its own, to the second.
    for name, seen in times.items():
        proved = datetime.fromisoformat(rows.get(f"host/{name}")["since"])
        assert abs(datetime.fromisoformat(seen) - proved) <= timedelta(
            seconds=before["rollout"]["seconds"] + 2
        )


def test_all_rows_are_a_cache_and_come_back_equal_also_of_what_failed(fleet, tmp_path):
    context, _, second = fleet
    third = synced(tmp_path, {"model.onnx": b"sick"}, minute=16)
    sick = {**AT_ONCE, "healthy_deadline": 1, "probe_timeout": 0.5}
    with pytest.raises(AirflowFailException, match="REVERTED"):
        run(
            third,
            tmp_path,
            context=as_task(context, "failing"),
            policy=sick,
            probe={"kind": "command", "command": "false"},
            approved_by="ada",
        )
    nightly = as_task(context, "audit")
    events = [context["outlet_events"]]
    look(tmp_path, nightly | {"inlet_events": Events(*events)}, release=second)
    rows = context["asset_state_store"].of()
    before = rows_in(rows, timed=True)
    assert before.keys() == {"host/edge_01", "host/edge_02", "rollout", "failed", "audit"}
    assert (before["rollout"]["state"], before["rollout"]["release"]) == ("PAUSED", third["release_id"])
    assert [one["approved_by"] for one in before["failed"]["rollouts"]] == ["ada"]
    events.append(nightly["outlet_events"])

    rows.values.clear()
    again = as_task(context, "audit") | {"inlet_events": Events(*events)}
    look(tmp_path, again, release=second)
    assert rows_in(rows, timed=True) == before
    # What the events before tell, no event tells again.
    assert again["outlet_events"][model_asset("digits")].extra["rows"] == {}


def test_a_host_that_does_not_answer_is_shown_so_also_where_nothing_was_known_of_it(fleet, hosts, tmp_path):  # noqa: F811
    context, _, _ = fleet
    rows = context["asset_state_store"].of()
    rows.values.clear()
    nobody = free_port()
    gone = inventory_of(hosts)["targets"]["edge_01"] | {"port": nobody}
    with pytest.raises(AirflowFailException, match="unreachable"):
        look(tmp_path, as_task(context, "audit"), targets={"inventory": {"targets": {"gone": gone}}})
    row = rows.get("host/gone")
    assert (row["state"], row["release"]) == ("UNREACHABLE", None)
    assert str(nobody) in row["error"]


def test_a_pinned_host_is_left_alone_by_a_rollback_until_it_is_unpinned(fleet, hosts, tmp_path):  # noqa: F811
    context, first, second = fleet

    def pin(on):
        operator = OnPremPinOperator(
            task_id="pin", model_name="digits", targets=TARGETS, skip=["edge_02"], pin=on
        )
        assert (operator.outlets, operator.inlets) == ([], [model_asset("digits")])
        return operator.execute(as_task(context, "pin"))

    rows = context["asset_state_store"].of()
    pinned = {"name": "edge_01", "pinned": second["release_id"], "error": None}
    assert pin("True") == {"model": "digits", "targets": [pinned]}
    assert [rows.get(f"host/{name}")["pinned"] for name in TARGETS] == [second["release_id"], None]
    roll_back(tmp_path, as_task(context, "rollback"))
    assert [host.current for host in hosts] == [second["release_id"], first["release_id"]]

    pin(False)
    assert rows.get("host/edge_01")["pinned"] is None
    roll_back(tmp_path, as_task(context, "back again"), only_from=second["release_id"])
    assert [host.current for host in hosts] == [first["release_id"]] * 2


def test_a_host_that_cannot_be_pinned_is_named_with_the_reason(hosts):  # noqa: F811
    operator = OnPremPinOperator(task_id="pin", model_name="other", targets=TARGETS)
    with pytest.raises(AirflowFailException, match=r"(?s)2 of 2 targets.*edge_01: nothing is live here"):
        operator.execute(task_context())


def test_an_audit_finds_changed_files_repairs_them_and_writes_the_rows_anew(fleet, hosts, tmp_path):  # noqa: F811
    context, _, second = fleet
    file = hosts[1].model / "current" / "model.onnx"
    file.chmod(0o644)
    file.write_bytes(b"seconD")
    with pytest.raises(
        AirflowFailException, match=r"(?s)edge_02.*changed_files: not as verified: .*model.onnx"
    ):
        look(tmp_path, as_task(context, "audit"), rehash=True)

    context["asset_state_store"].of().values.clear()
    task = as_task(context, "audit")
    result = look(tmp_path, task, rehash=True, repair=True)

    chain = ReleaseStore(tmp_path / "store").evidence
    kept = [(entry.kind, entry.facts["target"]) for entry in list(chain.entries())[-2:]]
    assert kept == [("activation", "edge_02"), ("activated", "edge_02")]
    assert task["outlet_events"][model_asset("digits")].extra["evidence"] == chain.head().to_dict()
    assert (result["drift"], result["repaired"]["state"]) == ([], "SUCCEEDED")
    assert (hosts[1].model / "current" / "model.onnx").read_bytes() == b"second"
    row = context["asset_state_store"].of().get("host/edge_01")
    assert (row["release"], row["probe"]["healthy"]) == (second["release_id"], True)


def test_a_repair_goes_only_where_the_direction_policy_leads(hosts, tmp_path, monkeypatch):  # noqa: F811
    imports, store = tmp_path / "imports", ReleaseStore(tmp_path / "store")
    (imports / "model").mkdir(parents=True)
    (imports / "model" / "model.onnx").write_bytes(b"imported")
    context = task_context()
    # Not of now: what goes live next would be older than what these hosts took a moment before it.
    created = datetime(2026, 11, 23, 18, 11, 30, tzinfo=UTC)
    imported = import_release(store, "digits", imports / "model", created=created)
    release = imported.to_dict(seconds=0.1, reused_bytes=0)
    run(release, tmp_path, context=context, policy=AT_ONCE)
    file = hosts[1].model / "current" / "model.onnx"
    file.chmod(0o644)
    file.write_bytes(b"importeD")
    head = store.evidence.head()

    directions = tmp_path / "directions.yml"
    monkeypatch.setenv("AIRFLOW__HYBRID__DIRECTION_POLICY", str(directions))
    directions.write_text("- from: s3://factory/\n  to: '*'\n")
    with pytest.raises(AirflowFailException, match=rf"leads from file://{imports}/model to edge_02 \(group"):
        look(tmp_path, as_task(context, "audit"), rehash=True, repair=True)
    assert (file.read_bytes(), store.evidence.head()) == (b"importeD", head)

    directions.write_text(f"- from: file://{imports}/\n  to: '*'\n")
    result = look(tmp_path, as_task(context, "audit"), rehash=True, repair=True)
    assert (result["drift"], result["repaired"]["state"]) == ([], "SUCCEEDED")
    assert (hosts[1].model / "current" / "model.onnx").read_bytes() == b"imported"


def test_a_bake_waits_on_a_timer_and_goes_on_where_it_was(hosts, tmp_path):  # noqa: F811
    release = synced(tmp_path, {"model.onnx": b"baked"}, minute=12)
    context = task_context()
    with pytest.raises(TaskDeferred) as deferral:
        run(release, tmp_path, context=context, deferrable=True, policy={**POLICY, "bake_time": 3600})
    assert deferral.value.method_name == "resume"
    assert hosts[0].current == release["release_id"]
    assert all(host.leftovers() == [] for host in hosts)
    assert context["asset_state_store"].of().get("rollout")["state"] == "BAKING"
    result = run(release, tmp_path, context=context, deferrable=True, policy={**POLICY, "bake_time": 0})
    assert result["state"] == "SUCCEEDED"
    assert [target["state"] for target in result["targets"]] == ["ALREADY_CURRENT", "SUCCEEDED"]


def test_a_canary_waits_for_an_approval_and_its_task_tells_nobody(hosts, tmp_path):  # noqa: F811
    release = synced(tmp_path, {"model.onnx": b"canary"}, minute=13)
    before = hosts[1].current
    context = task_context()
    result = run(release, tmp_path, context=context, stop_after="canary")
    assert result["state"] == "PAUSED"
    assert (hosts[0].current, hosts[1].current) == (release["release_id"], before)
    assert context["outlet_events"] == {}
    rest = run(release, tmp_path, context=as_task(context, "rest"), policy=AT_ONCE)
    assert rest["state"] == "SUCCEEDED"


def test_an_audit_closes_a_rollout_that_nobody_runs(hosts, tmp_path):  # noqa: F811
    context = task_context()
    run(synced(tmp_path, {"model.onnx": b"closed"}, minute=15), tmp_path, context=context, policy=AT_ONCE)
    rows = context["asset_state_store"].of()
    rows.set("rollout", {**rows.get("rollout"), "state": "BAKING"})
    task = as_task(context, "audit")
    task["ti"].get_task_states = lambda **_: {"manual": {"sync": "failed"}}
    assert look(tmp_path, task)["closed"] == rows.get("rollout")["rollout"]
    head = ReleaseStore(tmp_path / "store").evidence.head()
    assert task["outlet_events"][model_asset("digits")].extra["evidence"] == head.to_dict()
    assert rows.get("rollout")["state"] == "ABORTED"


def inventory_of(hosts):  # noqa: F811
    targets = {
        host.name: {
            "host": "127.0.0.1",
            "port": host.port,
            "user": "root",
            "key_file": str(host.key_file),
            "host_key": host.host_key,
            "base_folder": str(host.base),
            "reload_command": host.reload_command,
            "probe_url": f"http://127.0.0.1:{host.http_port}/ping",
        }
        for host in hosts
    }
    return {"targets": targets}


def variables_of(target):
    """A target of our own form, as Ansible's variables."""
    ansible = {
        "host": "ansible_host",
        "port": "ansible_port",
        "user": "ansible_user",
        "key_file": "ansible_ssh_private_key_file",
    }
    return {ansible.get(name, f"hybrid_{name}"): value for name, value in target.items()}


def as_ansible_lists(variables):
    """The JSON of ``ansible-inventory --list``."""
    return {
        "_meta": {"hostvars": variables},
        "all": {"children": ["ungrouped", "edge"]},
        "edge": {"hosts": list(variables)},
    }


@pytest.mark.parametrize("name", ["ours.json", "ours.yml", "ansible.json", "ansible.yml"])
def test_a_fleet_comes_from_an_inventory_file(hosts, tmp_path, name):  # noqa: F811
    content = inventory_of(hosts)
    variables = {host: variables_of(target) for host, target in content["targets"].items()}
    if name == "ansible.json":
        content = as_ansible_lists(variables)
    elif name == "ansible.yml":
        content = {"all": {"children": {"edge": {"hosts": variables}, "office": {"hosts": {"desk": {}}}}}}
    path = tmp_path / name
    path.write_text(json.dumps(content) if name.endswith("json") else yaml.safe_dump(content))
    release = synced(tmp_path, {"model.onnx": name.encode()}, minute=14)
    given = {"inventory": str(path), "group": "edge"} if name.startswith("ansible") else str(path)
    result = run(release, tmp_path, targets=given, policy=AT_ONCE)
    assert (result["state"], [target["name"] for target in result["targets"]]) == ("SUCCEEDED", TARGETS)
    assert [host.current for host in hosts] == [release["release_id"]] * 2
