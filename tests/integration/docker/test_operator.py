"""The deploy operator with Docker Engines as targets, by connection and by inventory, on a real dockerd."""

from __future__ import annotations

import json

import httpx
import pytest
from airflow.sdk.exceptions import AirflowFailException

from tests.images import SERVER
from tests.integration.airflow_task import task_context
from tests.integration.test_deploy_operator import FAST, run, synced
from tests.servers import free_port


@pytest.fixture
def engine(docker, monkeypatch):
    """The port of what ``gpu_01`` serves; the connection says the port, and the operator the image."""
    port = free_port()
    extra = {
        "serving": {"port": port, "address": "127.0.0.1"},
        "probe_url": f"http://127.0.0.1:{port}/ping",
        "group": "rack-1",
    }
    connection = {"conn_type": "docker_engine", "host": docker.engine.socket, "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_GPU_01", json.dumps(connection))
    yield port
    docker.clear("digits")


def served(port):
    return httpx.get(f"http://127.0.0.1:{port}/ping").headers["X-Release-Id"]


def test_a_release_goes_live_on_an_engine_by_its_connection_and_by_an_inventory(engine, docker, tmp_path):
    context = task_context()
    first = synced(tmp_path, {"answer": b"1"}, minute=1)
    result = run(first, tmp_path, ("gpu_01",), context, serving={"image": SERVER})
    assert (result["state"], served(engine)) == ("SUCCEEDED", first["release_id"])
    assert context["asset_state_store"].of().get("host/gpu_01")["group"] == "rack-1"

    second = synced(tmp_path, {"answer": b"2"}, minute=2)
    inventory = {
        "defaults": {"kind": "docker", "serving": {"image": SERVER, "address": "127.0.0.1"}},
        "targets": {
            "gpu_01": {
                "url": docker.engine.socket,
                "serving": {"port": engine},
                "probe_url": f"http://127.0.0.1:{engine}/ping",
            }
        },
    }
    result = run(second, tmp_path, inventory, policy={**FAST, "bake_time": 0})
    assert (result["targets"][0]["from_release"], served(engine)) == (
        first["release_id"],
        second["release_id"],
    )


def test_an_engine_of_which_nothing_says_how_it_serves_is_explained(engine, tmp_path, monkeypatch):
    monkeypatch.setenv(
        "AIRFLOW_CONN_GPU_01",
        json.dumps({"conn_type": "docker_engine", "host": "unix:///var/run/docker.sock"}),
    )
    release = synced(tmp_path, {"answer": b"1"}, minute=3)
    with pytest.raises(AirflowFailException, match=r"gpu_01.*has no serving in its extra; put it there"):
        run(release, tmp_path, ("gpu_01",))
