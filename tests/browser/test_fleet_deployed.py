"""A fleet of two hosts, deployed and taken back by the page's buttons through Airflow's own scheduler."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from onnx import TensorProto, helper

from hybrid_provider.artifacts.store import ReleaseStore
from playground.airflow_services import airflow_services
from playground.environment import playground
from tests.browser.conftest import Site
from tests.browser.visits import go, press
from tests.releases import make_release
from tests.servers import free_port

RUN_SECONDS = 120


def model(factor):
    """A network that the emulator's model server takes: its input times a number."""
    numbers = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, 1]) for name in ("x", "y")]
    constant = helper.make_tensor("factor", TensorProto.FLOAT, [1], [factor])
    node = helper.make_node("Mul", ["x", "factor"], ["y"])
    graph = helper.make_graph([node], "times", numbers[:1], numbers[1:], [constant])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    made.ir_version = 9
    return made.SerializeToString()


@pytest.fixture(scope="module")
def releases(tmp_path_factory):
    """The folder of a store, and the ids of its two releases, the older first."""
    folder = tmp_path_factory.mktemp("releases")
    store = ReleaseStore(folder / "store")
    ids = []
    for minute, content in enumerate((model(1.0), model(2.0))):
        made = make_release(folder / "made", {"model.onnx": content}, minute)
        with store.locked("digits"):
            created = datetime(2026, 11, 23, 18, minute, tzinfo=UTC)
            release = store.add(
                "digits", made.path, made.manifest, created=created, artifact=None, provenance={}
            )
        ids.append(release.release_id)
    return folder / "store", ids


@pytest.fixture(scope="module")
def running(tmp_path_factory, releases, chromium):
    """All of Airflow behind a base URL with a path, with the DAGs of two emulated hosts."""
    folder = tmp_path_factory.mktemp("deployed")
    port = free_port()
    url = f"http://127.0.0.1:{port}/site"
    settings = {
        "AIRFLOW__API__BASE_URL": url,
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{url}/execution/",
        "AIRFLOW__CORE__DAGS_FOLDER": str(Path(__file__).parent / "dags"),
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "False",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": "ada:admin,vera:viewer",
        "AIRFLOW__HYBRID__STORE_ROOT": str(releases[0]),
    }
    with playground(folder) as place, airflow_services(place, port, settings) as airflow:
        airflow.wait_until_healthy()
        home = folder / "airflow"
        passwords = json.loads((home / "simple_auth_manager_passwords.json.generated").read_text())
        yield Site(url, home / "airflow.db", passwords)


def deploy(page, release, verb):
    page.get_by_role("button", name="Deploy a release").click()
    dialog = page.get_by_role("alertdialog")
    dialog.get_by_role("textbox").or_(dialog.get_by_role("combobox")).fill(release)
    dialog.get_by_role("button", name=verb, exact=True).click()


def sees(page, release, ended):
    """Until each host's row has the release, and the rollout is over."""
    from playwright.sync_api import expect

    wait = 1000 * RUN_SECONDS
    for host in ("edge_01", "edge_02"):
        expect(page.locator(f"[data-host={host}] td").nth(2)).to_have_text(release, timeout=wait)
    expect(page.get_by_role("heading", name=ended)).to_be_visible(timeout=wait)


def test_a_fleet_is_deployed_by_the_button_and_rolled_back_by_the_keyboard_alone(
    running, releases, log_in, shoot
):
    _, (first, second) = releases
    page = log_in("ada", at=running)
    page.set_default_timeout(1000 * RUN_SECONDS)
    go(page, f"{running.url}/plugin/model-fleet?model=digits")
    deploy(page, first, "Deploy")
    sees(page, first, "Last deploy")
    deploy(page, second, "Deploy to 2 hosts")
    sees(page, second, "Last deploy")

    press(page, page.get_by_role("button", name="Roll back"))
    press(page, page.get_by_role("alertdialog").get_by_role("button", name="Roll back 2 hosts"))
    sees(page, first, "Last rollback")
    shoot(page, "rolled-back")
