"""What docker-compose.airflow.yml promises by its text alone, no engine needed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docker-compose.airflow.yml").read_text()
FILE = yaml.safe_load(TEXT)
SERVICES, SECRETS = FILE["services"], FILE["secrets"]
STANDINS = yaml.safe_load((ROOT / "tests" / "compose" / "standins" / "compose.yml").read_text())["services"]
SECRET = re.compile(r"PASSWORD|SECRET|KEY|SQL_ALCHEMY_CONN|BROKER_URL")


def test_nothing_is_published_but_on_loopback():
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]

    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


@pytest.mark.parametrize("name", SERVICES)
def test_no_service_has_a_secret_or_a_default_password_in_its_environment(name):
    given = {key: value for key, value in SERVICES[name].get("environment", {}).items() if SECRET.search(key)}

    assert all(key.endswith(("_CMD", "_FILE")) for key in given), given


def test_the_password_of_the_one_user_comes_from_a_file_and_has_no_default():
    assert SERVICES["secrets"]["secrets"] == list(SECRETS) == ["admin_password"]
    assert SECRETS["admin_password"] == {"file": "${AIRFLOW_ADMIN_PASSWORD_FILE:-/dev/null}"}
    # Compose makes a container anew for what changes in its service, of which a secret's file is no part.
    assert (
        SERVICES["secrets"]["environment"]["AIRFLOW_ADMIN_PASSWORD_FILE"]
        == "${AIRFLOW_ADMIN_PASSWORD_FILE:-}"
    )
    assert "PASSWORD" not in (ROOT / ".env").read_text()


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_has_a_health_check_or_is_waited_for_until_it_ended(name):
    waited_for = any(
        service.get("depends_on", {}).get(name, {}).get("condition") == "service_completed_successfully"
        for service in SERVICES.values()
    )

    assert ("healthcheck" in SERVICES[name]) != waited_for


def test_the_command_of_a_newcomer_starts_the_demo_and_production_starts_without_it():
    demo = {name for name, service in SERVICES.items() if service.get("profiles") == ["demo"]}

    assert "COMPOSE_PROFILES=demo" in (ROOT / ".env").read_text().splitlines()
    assert demo == {"s3", "emulator", "site-key", "connections", "edge-01", "edge-02", "edge-03"}
    for name in SERVICES.keys() - demo:
        needed = SERVICES[name].get("depends_on", {})
        assert all(needed[each].get("required") is False for each in needed.keys() & demo), name


def test_no_service_is_in_the_networks_of_the_cloud_and_of_the_site():
    on_site = {name for name, service in SERVICES.items() if "site" in service.get("networks", [])}

    assert on_site == {"site-worker", "edge-01", "edge-02", "edge-03"}
    assert all("cloud" not in SERVICES[name]["networks"] for name in on_site)
    assert all("networks" in service or service["network_mode"] == "none" for service in SERVICES.values())


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_has_limits_and_comes_back_if_it_crashes(name):
    assert {"mem_limit", "pids_limit"} <= SERVICES[name].keys()
    assert SERVICES[name]["restart"] == ("unless-stopped" if "healthcheck" in SERVICES[name] else "no")


@pytest.mark.parametrize("name", SERVICES)
def test_no_service_has_a_right_of_roots_or_a_way_to_become_it(name):
    assert SERVICES[name]["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in SERVICES[name]["security_opt"]
    assert "privileged" not in SERVICES[name]
    # Until it has taken the group of the engine's socket.
    assert ("cap_add" in SERVICES[name]) == (name == "edge-03")


def test_one_service_of_the_demo_alone_has_an_engines_socket_and_begins_as_root():
    with_socket = {name for name, service in SERVICES.items() if "docker.sock" in str(service.get("volumes"))}
    as_root = {name for name, service in SERVICES.items() if service.get("user") == "root"}

    assert with_socket == as_root == {"edge-03"}


def test_every_image_that_is_not_built_here_has_a_stand_in_of_the_same_name():
    dockerfile = (ROOT / "Dockerfile").read_text()
    built = {service["image"] for service in SERVICES.values() if "build" in service}
    pulled = {service["image"] for service in SERVICES.values()} - built
    bases = set(re.findall(r"^ARG \w+_IMAGE=(\S+)$", dockerfile, re.MULTILINE))

    assert {standin["image"] for standin in STANDINS.values()} == pulled | bases


def test_the_image_of_airflow_is_the_release_that_the_constraints_pin():
    pinned = re.search(r"^apache-airflow==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)[1]

    assert f"apache/airflow:slim-{pinned}-python" in (ROOT / "Dockerfile").read_text()
