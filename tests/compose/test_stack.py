"""The whole stack of docker-compose.airflow.yml, by the files as they are: starts, trains, deploys, recovers, and leaves nothing."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import httpx
import pytest

from playground.environment import BUCKET, MODEL
from tests.browser.conftest import Site
from tests.browser.visits import go
from tests.compose.runs import HOSTS, Run, answered, current, served, serving, until
from tests.compose.secrets import files_with, secrets_of

# The first run on a machine builds all images.
pytestmark = pytest.mark.timeout(1200)

AIRFLOW = {"api-server", "scheduler", "dag-processor", "triggerer", "worker", "site-worker"}
ONE_SHOTS = {"secrets", "migrate", "site-key", "connections"}
# A Docker Engine's, where the others have SSH.
PORTS = {"edge-03": 2376}
CONF = {
    "data": f"s3://{BUCKET}/digits/data/full/",
    "hosts": [host.replace("-", "_") for host in HOSTS],
    "hyperparameters": {"epochs": 40},
    "policy": {"waves": [1, "100%"], "bake_time": 1, "min_healthy_time": 1, "healthy_deadline": 120},
}

# Whether a container gets a TCP connection to each address that it is given: {"address:port": true or false}.
REACH = """
import json, socket, sys
from concurrent.futures import ThreadPoolExecutor
def reaches(address):
    try:
        socket.create_connection(address.rsplit(":", 1), timeout=3).close()
    except OSError:
        return False
    return True
with ThreadPoolExecutor(len(sys.argv)) as pool:
    print(json.dumps(dict(zip(sys.argv[1:], pool.map(reaches, sys.argv[1:])))))
"""


# Whether edge-03's engine answers, from where its certificate is.
ASK_ENGINE = """
import json, socket, ssl
folder = "/var/lib/hybrid/ssh/edge-03"
def answers(*pair):
    context = ssl.create_default_context(cafile=f"{folder}/ca.pem")
    if pair:
        context.load_cert_chain(*pair)
    try:
        with socket.create_connection(("edge-03", 2376), timeout=10) as plain:
            with context.wrap_socket(plain, server_hostname="edge-03") as engine:
                engine.sendall(b"GET /_ping HTTP/1.0\\r\\n\\r\\n")
                return b"Api-Version" in engine.recv(4096)
    except OSError:
        return False
pair = (f"{folder}/client-cert.pem", f"{folder}/client-key.pem")
print(json.dumps({"with the site's certificate": answers(*pair), "without": answers()}))
"""


def test_every_service_is_healthy_and_every_preparation_has_ended_well(stack):
    containers = stack.containers()

    ended = {name for name, container in containers.items() if container["State"] == "exited"}
    assert ended == ONE_SHOTS
    assert all(containers[name]["ExitCode"] == 0 for name in ended)
    assert {containers[name]["Health"] for name in containers.keys() - ended} == {"healthy"}


def test_no_container_shows_a_secret_to_who_may_inspect_it(stack):
    secrets = stack.compose(
        "exec", "-T", "api-server", "sh", "-c", "cat /var/lib/hybrid/secrets/*_password /var/lib/hybrid/secrets/jwt_secret"
    ).split()  # fmt: skip
    shown = stack.engine.docker(
        "inspect", *(container["ID"] for container in stack.containers().values())
    ) + stack.compose("top")

    assert secrets
    assert not [secret for secret in secrets if secret in shown]


def test_every_service_runs_as_an_ordinary_user_within_limits(stack):
    running = {
        name: container for name, container in stack.containers().items() if container["State"] == "running"
    }
    users = {name: users_of(stack, container["ID"]) for name, container in running.items()}
    limits = stack.engine.docker(
        "inspect",
        "--format",
        "{{.HostConfig.Memory}} {{.HostConfig.PidsLimit}} {{.HostConfig.RestartPolicy.Name}}",
        *(container["ID"] for container in running.values()),
    ).splitlines()

    assert not [name for name, found in users.items() if not found or "0" in found], users
    for line in limits:
        memory, processes, restart = line.split()
        assert (int(memory) > 0, int(processes) > 0, restart) == (True, True, "unless-stopped"), line


def test_a_wrong_password_is_refused(stack):
    asked = httpx.post(f"{stack.url}/auth/token", json={"username": "admin", "password": "admin"}, timeout=30)

    assert asked.status_code == 401


def test_the_cloud_has_no_way_to_a_host_and_the_sites_worker_none_to_the_database(stack):
    hosts = [
        f"{each}:{PORTS.get(host, 2222)}" for host in HOSTS for each in (stack.address(host, "site"), host)
    ]
    stores = [
        f"{each}:{port}"
        for name, port in (("postgres", 5432), ("redis", 6379))
        for each in (stack.address(name, "cloud"), name)
    ]

    for service in ("worker", "scheduler", "triggerer", "api-server", "dag-processor"):
        assert reached(stack, service, hosts + stores) == dict.fromkeys(hosts, False) | dict.fromkeys(
            stores, True
        )
    assert reached(stack, "site-worker", hosts + stores) == dict.fromkeys(hosts, True) | dict.fromkeys(
        stores, False
    )


def test_the_sites_worker_holds_one_secret_of_airflows_and_no_address_of_its_database(stack):
    held = stack.compose("exec", "-T", "site-worker", "ls", "/var/lib/hybrid/secrets").split()
    environment = stack.compose("exec", "-T", "site-worker", "env")

    assert held == ["jwt_secret"]
    assert "postgres" not in environment
    assert "redis" not in environment


def test_the_ui_shows_the_dags_and_the_fleet_page(stack, api):
    page = httpx.get(f"{stack.url}/plugin/model-fleet", timeout=30)
    plugins = api.get("/plugins").raise_for_status().json()["plugins"]

    assert api.get("/importErrors").raise_for_status().json()["import_errors"] == []
    assert page.status_code == 200
    assert "model-fleet" in {app["url_route"] for plugin in plugins for app in plugin["react_apps"]}


def test_a_run_asked_for_through_the_rest_api_turns_green_and_every_host_serves_its_release(stack, api):
    run = Run(stack, api, "hybrid_retrain", CONF)

    assert run.end() == "success", run.explain()
    assert {run.tasks()[task]["hostname"] for task in ("sync", "deploy")} == {"site-worker"}
    assert served(stack) == serving(run.xcom("sync")["release_id"])


def test_the_engine_serves_the_release_in_one_container_that_is_open_to_the_site_alone(stack):
    release = served(stack)["edge-03"][0]
    (serving,) = on_the_engine(stack, "ps", "--quiet", "--no-trunc")
    (told,) = json.loads(stack.engine.docker("inspect", serving))

    assert f"HYBRID_RELEASE_ID={release}" in told["Config"]["Env"]
    assert told["NetworkSettings"]["Networks"].keys() == {"hybrid_site"}
    assert {opened["HostIp"] for [opened] in told["HostConfig"]["PortBindings"].values()} == {"127.0.0.1"}
    assert told["HostConfig"]["CapDrop"] == ["ALL"]
    assert users_of(stack, serving).isdisjoint({"0"})


def test_the_engine_lets_in_nobody_without_the_sites_certificate(stack):
    asked = json.loads(stack.compose("exec", "-T", "site-worker", "python", "-c", ASK_ENGINE))

    assert asked == {"with the site's certificate": True, "without": False}


def test_what_the_engine_serves_goes_off_with_its_host_and_comes_back_after_a_stop_and_a_crash(stack):
    before = current(stack, HOSTS[0]).rpartition("/")[2]
    stack.compose("stop", "edge-03")
    off = on_the_engine(stack, "ps", "--quiet")
    stack.compose("start", "edge-03")
    until(lambda: answered(stack, "edge-03") == before, "the model is served after a stop", stack)
    (serving,) = on_the_engine(stack, "ps", "--quiet")
    crash(stack, "edge-03")
    until(lambda: answered(stack, "edge-03") == before, "the model is served after a crash", stack)

    assert off == []
    assert on_the_engine(stack, "ps", "--quiet") == [serving]


def test_the_keeper_of_the_engines_host_is_an_ordinary_user_without_a_network(stack):
    (keeper,) = stack.engine.docker("ps", "--quiet", "--filter", "label=hybrid.keeper=edge-03").split()
    (told,) = json.loads(stack.engine.docker("inspect", keeper))

    assert users_of(stack, keeper).isdisjoint({"0"})
    assert told["NetworkSettings"]["Networks"].keys() == {"none"}
    assert told["HostConfig"]["CapDrop"] == ["ALL"]


@pytest.fixture
def site(stack):
    """The stack's UI, as what logs in knows one; its database is not for tests."""
    return Site(f"http://localhost:{stack.port}", Path(os.devnull), {"admin": stack.password()}, [])


def test_a_browser_shows_the_fleet_page_with_each_host_on_its_release(stack, site, log_in):
    from playwright.sync_api import expect

    page = log_in("admin")
    go(page, f"{site.url}/plugin/model-fleet?model={MODEL}")

    release = current(stack, HOSTS[0]).rpartition("/")[2]
    for host in HOSTS:
        row = page.locator(f"[data-host={host.replace('-', '_')}] td")
        expect(row.nth(2)).to_have_text(release, timeout=60_000)


def test_a_run_outlives_every_part_of_the_stack(stack, api):
    before = current(stack, HOSTS[0])
    run = Run(stack, api, "hybrid_retrain", CONF | {
        "hyperparameters": {"epochs": 41},
        "policy": CONF["policy"] | {"bake_time": 20},
    })  # fmt: skip
    run.wait(lambda run: run.tasks()["train"]["state"] == "running", "training")
    crash(stack, "worker", "redis", "scheduler", "postgres", "api-server", "dag-processor", "triggerer")

    run.wait(lambda _: current(stack, HOSTS[0]) != before, "past its canary")
    crash(stack, "site-worker")

    assert run.end() == "success", run.explain()
    assert run.tasks()["train"]["try_number"] > 1
    assert run.tasks()["deploy"]["try_number"] > 1
    assert served(stack) == serving(run.xcom("sync")["release_id"])
    assert trainings(stack) == 2
    until(lambda: unhealthy(stack) == [], "every service is healthy again", stack)


def test_the_sites_evidence_holds_the_head_that_each_rollouts_event_tells(stack, api):
    events = api.get("/assets/events").raise_for_status().json()["asset_events"]
    heads = [head for event in events if (head := event["extra"].get("evidence"))]
    given = [f"--head={head['length']}:{head['sha256']}" for head in heads]
    told = stack.compose(
        "exec", "-T", "site-worker", "python", "-m", "hybrid_provider.evidence", "verify", *given
    )

    assert len(heads) >= 2
    assert f"whole, and {len(heads)} heads are in it" in told


def test_no_secret_is_in_any_log_table_container_or_file_that_the_runs_have_left(stack):
    secrets = secrets_of(stack)
    texts = {
        "a container's log": stack.compose("logs", "--no-color"),
        "the database": stack.compose("exec", "-T", "postgres", "pg_dump", "--username=airflow", "airflow"),
        "a container": stack.engine.docker("inspect", *stack.engine.docker("ps", "--all", "--quiet").split()),
        "a list of processes": stack.compose("top"),
    }
    held = ["/var/lib/hybrid/secrets", "/var/lib/hybrid/ssh"]

    assert len(secrets) == 12
    assert files_with(stack, "site-worker", secrets, held)
    assert [(where, name) for where, text in texts.items() for name in secrets if secrets[name] in text] == []
    assert all(MODEL in texts[where] for where in ("a container's log", "the database", "a container"))
    for service in AIRFLOW:
        assert files_with(stack, service, secrets, ["/opt/airflow", "/tmp"]) == [], service
    assert files_with(stack, "site-worker", secrets, ["/var/lib/hybrid/store"]) == []
    for host in HOSTS:
        assert files_with(stack, host, secrets, ["/home/edge", "/tmp"]) == [], host


def test_down_leaves_no_container_no_network_and_no_volume(stack):
    stack.compose("down", "--volumes")

    until(lambda: left_on_the_engine(stack) == "", "nothing is left", stack)


@pytest.mark.parametrize("end", ["kill", "stop"])
def test_down_leaves_nothing_of_a_model_whose_host_had_ended_before(stack, end):
    stack.compose("up", "--wait", "edge-03")
    stack.engine.docker("volume", "create", "--label", f"hybrid.model={MODEL}", "a-release")
    stack.engine.docker(
        *("run", "--detach", "--network=hybrid_site", "--volume=a-release:/opt/ml/model"),
        *(f"--label=hybrid.model={MODEL}", "--label=hybrid.role=serving", "hybrid-host", "sleep", "infinity"),
    )
    stack.compose(end)
    stack.compose("down", "--volumes")

    until(lambda: left_on_the_engine(stack) == "", "nothing is left", stack)


def test_production_has_no_password_that_nobody_chose(stack):
    production = stack.with_settings(COMPOSE_PROFILES="")

    with pytest.raises(pytest.fail.Exception, match="AIRFLOW_ADMIN_PASSWORD_FILE"):
        production.compose("up", "--exit-code-from", "secrets", "secrets")

    assert production.containers()["secrets"]["ExitCode"] == 1
    made = stack.engine.docker(
        *("run", "--rm", "--network=none", "--volume=hybrid_secrets:/secrets", "--entrypoint=ls"),
        *("hybrid-airflow", "/secrets"),
    )
    assert made == ""


def test_production_starts_without_the_demo_and_takes_a_password_and_keys_of_your_own(stack, tmp_path):
    keys = tmp_path / "keys"
    keys.mkdir(mode=0o750)
    key = keys / "id_ed25519"
    key.write_text("a key\n")
    password = tmp_path / "admin-password"
    password.write_text("of the operator's own choice\n")
    for secret in (key, password):
        secret.chmod(0o640)
    production = stack.with_settings(
        COMPOSE_PROFILES="", SITE_SSH_KEYS=str(keys), AIRFLOW_ADMIN_PASSWORD_FILE=str(password)
    )
    production.up()

    containers = production.containers()
    assert containers.keys() == {
        "secrets", "migrate", "postgres", "redis",
        "api-server", "scheduler", "dag-processor", "triggerer", "worker", "site-worker",
    }  # fmt: skip
    assert {one["Health"] for one in containers.values() if one["State"] == "running"} == {"healthy"}
    assert production.password() == password.read_text().strip()
    assert (
        production.compose("exec", "-T", "site-worker", "cat", "/var/lib/hybrid/ssh/id_ed25519") == "a key\n"
    )
    production.compose("down", "--volumes", "--timeout", "10")


def crash(stack, *services):
    """End each service's first process as a bug of its own would; that it comes back is left to the engine."""
    containers = stack.containers()
    ids = [containers[service]["ID"] for service in services]
    first = [int(pid) for pid in stack.engine.docker("inspect", "--format", "{{.State.Pid}}", *ids).split()]
    assert all(first), f"not all of {services} run"
    for pid in first:
        os.kill(pid, signal.SIGKILL)


def unhealthy(stack):
    """The services that do not run, or whose health check does not say that they are well."""
    containers = stack.containers()
    return [name for name in containers.keys() - ONE_SHOTS if containers[name]["Health"] != "healthy"]


def left_on_the_engine(stack):
    """All containers, volumes and networks, but for the engine's own networks."""
    docker = stack.engine.docker
    networks = docker("network", "ls", "--filter", "type=custom", "--quiet")
    return docker("ps", "--all", "--quiet") + docker("volume", "ls", "--quiet") + networks


def users_of(stack, container):
    """As whom a container's first process and all that came of it run; what is executed in it is nobody's child."""
    first = stack.engine.docker("inspect", "--format", "{{.State.Pid}}", container).strip()
    rows = [
        line.split() for line in stack.engine.docker("top", container, "-eo", "pid,ppid,uid").splitlines()[1:]
    ]
    family = {first}
    while grown := {pid for pid, parent, _ in rows if parent in family} - family:
        family |= grown
    return {user for pid, _, user in rows if pid in family}


def on_the_engine(stack, *arguments):
    """What a docker command lists of the model that edge-03 has."""
    return stack.engine.docker(*arguments, "--filter", f"label=hybrid.model={MODEL}").split()


def reached(stack, service, addresses):
    return json.loads(stack.compose("exec", "-T", service, "python", "-c", REACH, *addresses))


def trainings(stack):
    """How many jobs the embedded cloud was ever asked for."""
    script = (
        "import boto3, json, os; cloud = json.load(open('/var/lib/hybrid/cloud/cloud.json'));"
        "os.environ.update(cloud['environment']);"
        "print(len(boto3.client('sagemaker').list_training_jobs()['TrainingJobSummaries']))"
    )
    return int(stack.compose("exec", "-T", "emulator", "python", "-c", script))
