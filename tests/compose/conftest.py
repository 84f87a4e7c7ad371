"""One engine and one running stack for the whole layer."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
import pytest

from tests.browser.conftest import chromium, log_in  # noqa: F401 - fixtures
from tests.compose.images import ROOT, build_standins
from tests.dockerd import Engine, engine, give_up
from tests.servers import free_port, require_program

# The one place that outlives a run: images and their layers, some gigabytes. Remove it at will.
CACHE = Path(os.environ.get("HYBRID_COMPOSE_CACHE", "~/.cache/hybrid-provider/compose")).expanduser()
FILE = ROOT / "docker-compose.airflow.yml"


@dataclass(frozen=True)
class Stack:
    """The services of ``docker-compose.airflow.yml`` on an engine.

    Attributes:
        engine: Where they run.
        port: Airflow's, on loopback.
    """

    engine: Engine
    port: int

    @property
    def url(self) -> str:
        """Of the UI and the REST API."""
        return f"http://127.0.0.1:{self.port}"

    def compose(self, *arguments: str, given: str | None = None, check: bool = True) -> str:
        """Run a compose command on the project's own file; its standard output."""
        return self.engine.docker("compose", "--file", str(FILE), *arguments, given=given, check=check)

    def up(self) -> None:
        """Start it by the one command that the file names, or fail with all that is known."""
        try:
            self.compose("--progress", "plain", "up", "--wait")
        except pytest.fail.Exception as failure:
            pytest.fail(f"{str(failure)[-4000:]}\n{self.explain()}")

    def with_settings(self, **variables: str) -> Stack:
        """The same with other variables than ``.env`` has."""
        return replace(self, engine=replace(self.engine, environment=self.engine.environment | variables))

    def containers(self) -> dict[str, dict]:
        """Service to what compose tells of its container, ended ones included."""
        lines = self.compose("ps", "--all", "--format", "json").splitlines()
        return {each["Service"]: each for each in map(json.loads, lines)}

    def address(self, service: str, network: str) -> str:
        """Of a service's container in one of its networks."""
        container = self.containers()[service]["ID"]
        wanted = f'{{{{(index .NetworkSettings.Networks "hybrid_{network}").IPAddress}}}}'
        return self.engine.docker("inspect", "--format", wanted, container).strip()

    def explain(self) -> str:
        """Every service's state and the end of its log, for the message of a failed test."""
        states = self.compose("ps", "--all", check=False)
        return f"{states}\n{self.compose('logs', '--no-color', '--tail', '60', check=False)}"

    def password(self) -> str:
        """Of the user admin, as the head of the file says to find it."""
        return self.compose(
            "exec", "-T", "api-server", "cat", "/var/lib/hybrid/secrets/admin_password"
        ).strip()


@pytest.fixture(scope="session")
def docker_engine(tmp_path_factory):
    """An engine that holds stand-ins of all images that the project's files name."""
    require_program("mmdebstrap", "mmdebstrap")
    if subprocess.run(["docker", "compose", "version"], capture_output=True, check=False).returncode != 0:
        give_up("docker has no compose plugin; .ci/install-compose gets it")
    scratch = tmp_path_factory.mktemp("engine")
    with engine(CACHE, scratch) as running:
        build_standins(running, scratch)
        yield running


@pytest.fixture(scope="session")
def stack(docker_engine):
    """The stack, started by the one command that the file names."""
    port = free_port()
    docker_engine.environment["AIRFLOW_PORT"] = str(port)
    # The engine that edge-03 has: in the demo it is the newcomer's own, here it is this one.
    docker_engine.environment["DOCKER_SOCKET"] = docker_engine.socket.removeprefix("unix://")
    # A test kills workers, and does not want to wait as long as an installation does to be sure of it.
    docker_engine.environment["TASK_HEARTBEAT_TIMEOUT"] = "45"
    started = Stack(docker_engine, port)
    # What an earlier, killed run may have left in the cache's engine.
    started.compose("down", "--volumes", "--remove-orphans")
    for kind, remove in (("container", ("rm", "--force")), ("volume", ("rm",))):
        every = ("--all",) if kind == "container" else ()
        if left := docker_engine.docker(
            kind, "ls", *every, "--quiet", "--filter", "label=hybrid.model"
        ).split():
            docker_engine.docker(kind, *remove, *left)
    try:
        started.up()
        yield started
    finally:
        started.compose("down", "--volumes", "--timeout", "10", check=False)


@pytest.fixture
def api(stack):
    """A client of the REST API, logged in as admin."""
    asked = httpx.post(
        f"{stack.url}/auth/token", json={"username": "admin", "password": stack.password()}, timeout=30
    )
    headers = {"Authorization": f"Bearer {asked.raise_for_status().json()['access_token']}"}
    with httpx.Client(base_url=f"{stack.url}/api/v2", headers=headers, timeout=30) as client:
        yield client
