"""Each kind of drift, made on a real SSH host, is found by an audit, and put right where a redeploy can."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta

import pytest
from airflow.sdk.exceptions import AirflowFailException

from hybrid_provider.operators.audit import FleetAuditOperator
from hybrid_provider.rollout.audit import REPAIRABLE, Drift
from hybrid_provider.targets.target import Order, Placement
from tests.integration.airflow_task import task_context
from tests.integration.test_deploy_operator import (
    FAST,
    connection,
    connections,  # noqa: F401 - a fixture
    hosts,  # noqa: F401 - a fixture
    run,
    synced,
)
from tests.servers import free_port

POLICY = {**FAST, "drain": 0, "bake_time": 0, "min_healthy_time": 0}


def on(host, act):
    """Do something with the target of a host."""

    async def acted():
        opened = host.target.open(Placement())
        try:
            return await act(opened)
        finally:
            await opened.close()

    return asyncio.run(acted())


def point_at(host, release_id):
    new = host.model / ".by-hand"
    new.symlink_to(f"releases/{release_id}")
    new.rename(host.model / "current")


def unreachable(host, first, patch):
    gone = json.loads(connection(host)) | {"port": free_port()}
    patch.setenv(f"AIRFLOW_CONN_{host.name.upper()}", json.dumps(gone))


def nothing_live(host, first, patch):
    (host.model / "current").unlink()


def other_release(host, first, patch):
    run(first, patch.store.parent, targets=(host.name,), policy=POLICY)


def other_digest(host, first, patch):
    file = host.model / "manifests" / host.current
    file.chmod(0o644)
    file.write_text(file.read_text().replace("model.onnx", "model.ONNX"))


def changed_files(host, first, patch):
    file = host.model / "current/model.onnx"
    file.chmod(0o644)
    file.write_bytes(b"seconD")


def unproved(host, first, patch):
    state = host.model / "state.json"
    text = state.read_text()
    state.write_text(text.replace(host.current, first["release_id"]))


def unhealthy(host, first, patch):
    patch.setenv(
        f"AIRFLOW_CONN_{host.name.upper()}",
        connection(host, probe_url=f"http://127.0.0.1:{free_port()}/ping"),
    )


def pinned(host, first, patch):
    on(host, lambda opened: opened.pin("digits", first["release_id"]))


def locked(host, first, patch):
    order = Order(
        model="digits",
        release=None,
        rollout="somebody-else",
        healthy_deadline=timedelta(seconds=20),
        lease=timedelta(seconds=600),
        keep_releases=5,
    )
    on(host, lambda opened: opened.preflight(order))


class Patch:
    """The environment's patch, and the store of a test."""

    def __init__(self, monkeypatch, store):
        self.setenv, self.store = monkeypatch.setenv, store


def look(host, store, **more):
    operator = FleetAuditOperator(
        task_id="audit",
        model_name="digits",
        targets=[host.name],
        policy=POLICY,
        store_root=str(store),
        rehash=True,
        **more,
    )
    return operator.execute(task_context())


def kinds(result):
    return {drift["kind"] for drift in result["drift"]}


DRIFTS = {
    Drift.UNREACHABLE: unreachable,
    Drift.NOTHING_LIVE: nothing_live,
    Drift.OTHER_RELEASE: other_release,
    Drift.OTHER_DIGEST: other_digest,
    Drift.CHANGED_FILES: changed_files,
    Drift.UNPROVED: unproved,
    Drift.UNHEALTHY: unhealthy,
    Drift.PINNED: pinned,
    Drift.LOCKED: locked,
}


@pytest.fixture
def host(hosts):  # noqa: F811 - the fixture
    yield hosts[0]
    (hosts[0].model / "pin").unlink(missing_ok=True)
    for lease in hosts[0].model.glob(".lease*"):
        lease.unlink()


@pytest.mark.parametrize("kind", list(Drift))
def test_it_is_found_told_and_repaired_where_a_redeploy_helps(host, tmp_path, monkeypatch, kind):
    store = tmp_path / "store"
    first = synced(tmp_path, {"model.onnx": b"first"}, minute=20)
    second = synced(tmp_path, {"model.onnx": b"second"}, minute=21)
    for release in (first, second):
        run(release, tmp_path, targets=(host.name,), policy=POLICY)
    assert look(host, store)["drift"] == []

    DRIFTS[kind](host, first, Patch(monkeypatch, store))

    expected = {"release": second["release_id"]}
    assert kind in kinds(look(host, store, fail_on_drift=False, **expected))
    with pytest.raises(AirflowFailException, match=f"{host.name}(?s:.*){kind}: "):
        look(host, store, **expected)
    if kind in REPAIRABLE - {Drift.UNHEALTHY}:
        repaired = look(host, store, repair=True, **expected)
        assert (repaired["repaired"]["state"], repaired["drift"]) == ("SUCCEEDED", [])
        assert host.current == second["release_id"]


def test_a_target_that_is_skipped_is_not_looked_at(host, hosts, tmp_path):  # noqa: F811 - the fixture
    release = synced(tmp_path, {"model.onnx": b"first"}, minute=22)
    run(release, tmp_path, policy=POLICY)
    nothing_live(host, release, None)

    operator = FleetAuditOperator(
        task_id="audit",
        model_name="digits",
        targets=[each.name for each in hosts],
        skip=host.name,
        policy=POLICY,
        store_root=str(tmp_path / "store"),
    )
    result = operator.execute(task_context())

    assert ([target["name"] for target in result["targets"]], result["drift"]) == ([hosts[1].name], [])
