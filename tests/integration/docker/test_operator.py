"""The deploy operator with Docker Engines as targets, by connection and by inventory, on a real dockerd."""

from __future__ import annotations

import json

import httpx
import pytest
from airflow.sdk.exceptions import AirflowFailException

from hybrid_provider.hooks.docker_engine import DockerEngineHook
from tests.images import SERVER
from tests.integration.airflow_task import task_context
from tests.integration.docker.registry import registry
from tests.integration.sshhosts import sshd
from tests.integration.test_deploy_operator import FAST, run, synced
from tests.integration.test_deploy_operator import connection as ssh_connection
from tests.servers import free_port

OTHER_KEY = "AAAAC3NzaC1lZDI1NTE5AAAAIHAHJ0NHzX+zH0UZ2XMI7hlDgvBRHKdTq5KxXWKJxJxl"


@pytest.fixture
def port(docker):
    """Where ``gpu_01`` serves."""
    yield free_port()
    docker.clear("digits")


@pytest.fixture
def engine(docker, port, monkeypatch):
    """The connection ``gpu_01``; it says the port, and the operator the image. Further settings are its own."""

    def connect(url=docker.engine.socket, **more):
        extra = {
            "serving": {"port": port, "address": "127.0.0.1"},
            "probe_url": f"http://127.0.0.1:{port}/ping",
            "group": "rack-1",
        }
        connection = {"conn_type": "docker_engine", "host": url, "extra": extra | more}
        monkeypatch.setenv("AIRFLOW_CONN_GPU_01", json.dumps(connection))

    connect()
    return connect


def served(port):
    return httpx.get(f"http://127.0.0.1:{port}/ping").headers["X-Release-Id"]


def test_a_release_goes_live_on_an_engine_by_its_connection_and_by_an_inventory(
    engine, port, docker, tmp_path
):
    context = task_context()
    first = synced(tmp_path, {"answer": b"1"}, minute=1)
    result = run(first, tmp_path, ("gpu_01",), context, serving={"image": SERVER})
    assert (result["state"], served(port)) == ("SUCCEEDED", first["release_id"])
    assert context["asset_state_store"].of().get("host/gpu_01")["group"] == "rack-1"

    second = synced(tmp_path, {"answer": b"2"}, minute=2)
    inventory = {
        "defaults": {"kind": "docker", "serving": {"image": SERVER, "address": "127.0.0.1"}},
        "targets": {
            "gpu_01": {
                "url": docker.engine.socket,
                "serving": {"port": port},
                "probe_url": f"http://127.0.0.1:{port}/ping",
            }
        },
    }
    result = run(second, tmp_path, inventory, policy={**FAST, "bake_time": 0})
    assert (result["targets"][0]["from_release"], served(port)) == (
        first["release_id"],
        second["release_id"],
    )


@pytest.fixture(scope="module")
def host(tmp_path_factory):
    """What an engine is reached over."""
    with sshd(tmp_path_factory.mktemp("over") / "host", "host") as running:
        yield running


@pytest.fixture(params=["mutual TLS", "SSH"])
def remote(request, engine, docker, host, monkeypatch):
    """The connection of an engine that is elsewhere, and of another that it does not know."""
    if request.param == "SSH":
        known = ssh_connection(host)
        monkeypatch.setenv("AIRFLOW_CONN_HOST", known)
        monkeypatch.setenv("AIRFLOW_CONN_STRANGER", known.replace(host.host_key.split()[1], OTHER_KEY))
        engine(docker.engine.socket, ssh_conn_id="host")
        return lambda: engine(docker.engine.socket, ssh_conn_id="stranger")

    def over_tls(who="client"):
        files = {"ca_cert": "ca.pem", "client_cert": f"{who}.pem", "client_key": f"{who}-key.pem"}
        engine(
            f"tcp://127.0.0.1:{docker.tls_port}",
            **{name: str(docker.certificates / file) for name, file in files.items()},
        )

    over_tls()
    return lambda: over_tls("stranger")


def test_an_engine_elsewhere_is_a_connection_too_and_its_test_button_says_whether_it_answers(
    remote, port, tmp_path
):
    release = synced(tmp_path, {"answer": b"1"}, minute=4)
    result = run(release, tmp_path, ("gpu_01",), serving={"image": SERVER})
    assert (result["state"], served(port)) == ("SUCCEEDED", release["release_id"])
    hook = DockerEngineHook("gpu_01")
    assert hook.test_connection()[0]
    remote()
    answers, why = hook.test_connection()
    assert (answers, "gpu_01" in why) == (False, True)


def test_an_image_is_pulled_by_its_digest_with_the_password_of_a_docker_connection(
    engine, port, docker, tmp_path, monkeypatch
):
    release = synced(tmp_path, {"answer": b"1"}, minute=5)
    with registry(docker.engine, SERVER) as images:
        address, _, registry_port = images.login.server.partition(":")
        login = {"host": address, "port": int(registry_port), "login": images.login.username}
        serving = {"image": images.image}
        engine(docker_conn_id="images")
        for password, state in (("wrong", None), (images.login.password, "SUCCEEDED")):
            connection = {"conn_type": "docker", "password": password, **login}
            monkeypatch.setenv("AIRFLOW_CONN_IMAGES", json.dumps(connection))
            if state is None:
                with pytest.raises(AirflowFailException, match=r"gpu_01: .*cannot be pulled"):
                    run(release, tmp_path, ("gpu_01",), serving=serving)
            else:
                assert run(release, tmp_path, ("gpu_01",), serving=serving)["state"] == state
    assert served(port) == release["release_id"]
    assert any("/manifests/sha256:" in path for path in images.pulled)


def test_an_engine_of_which_nothing_says_how_it_serves_is_explained(engine, tmp_path, monkeypatch):
    monkeypatch.setenv(
        "AIRFLOW_CONN_GPU_01",
        json.dumps({"conn_type": "docker_engine", "host": "unix:///var/run/docker.sock"}),
    )
    release = synced(tmp_path, {"answer": b"1"}, minute=3)
    with pytest.raises(AirflowFailException, match=r"gpu_01.*has no serving in its extra; put it there"):
        run(release, tmp_path, ("gpu_01",))
