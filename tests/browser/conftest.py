"""A real api-server behind a base URL with a path, fleets in its database, and Debian's Chromium."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from playground.airflow_services import stop
from tests import fleets
from tests.browser.visits import go
from tests.fleets import ended, host, release_of, rollout, trained, write_events, write_state
from tests.servers import free_port, require_program

ROOT = Path(__file__).parents[2]
SHOTS = ROOT / ".browser"
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
START_SECONDS = 180
A, B, C, D = (release_of(day) for day in (2, 9, 16, 23))

SEED = """
from airflow.models.asset import AssetActive, AssetModel, TaskOutletAssetReference
from airflow.models.dag import DagModel, DagTag
from airflow.models.dagbundle import DagBundleModel
from airflow.utils.session import create_session

with create_session() as session:
    session.add(DagBundleModel(name="dags"))
    for name in ("digits", "prices", "spare"):
        asset = AssetModel(name=name, uri=f"hybrid://model/{name}")
        session.add(asset)
        session.flush()
        session.add(AssetActive.for_asset(asset))
    for kind in ("deploy", "rollback", "pin", "audit"):
        dag_id = f"hybrid_{kind}_digits"
        dag = DagModel(dag_id=dag_id, bundle_name="dags", is_paused=False, is_stale=False)
        dag.tags = [DagTag(name=f"hybrid:{kind}", dag_id=dag_id)]
        session.add(dag)
        session.flush()
        session.add(TaskOutletAssetReference(asset_id=1, dag_id=dag_id, task_id="work"))
"""


@dataclass(frozen=True)
class Site:
    """The running server: its URL, the file of its database, and the passwords of ada and vera."""

    url: str
    database: Path
    passwords: dict[str, str]


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    """Started once: ada is an administrator, vera may only look."""
    home = tmp_path_factory.mktemp("airflow")
    url = f"http://127.0.0.1:{free_port()}/site"
    environment = os.environ | {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__API__BASE_URL": url,
        "AIRFLOW__API_AUTH__JWT_SECRET": "a secret of these tests, long enough for HS512 " * 2,
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": "ada:admin,vera:viewer",
    }
    airflow = str(Path(sys.executable).parent / "airflow")
    log = (home / "airflow.log").open("wb")
    subprocess.run([airflow, "db", "migrate"], env=environment, stdout=log, stderr=log, check=True)
    subprocess.run([sys.executable, "-c", SEED], env=environment, stdout=log, stderr=log, check=True)
    _fill(home / "airflow.db")
    port = url.split(":")[2].split("/", maxsplit=1)[0]
    command = [
        airflow,
        "api-server",
        "--apps",
        "core",
        "--host",
        "127.0.0.1",
        "--port",
        port,
        "--workers",
        "1",
    ]
    process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        _wait(url, process, home / "airflow.log")
        passwords = json.loads((home / "simple_auth_manager_passwords.json.generated").read_text())
        yield Site(url, home / "airflow.db", passwords)
    finally:
        stop([process])


def _wait(url, process, log):
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            httpx.get(f"{url}/api/v2/version", timeout=5).raise_for_status()
        except httpx.HTTPError:
            if process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"the api-server did not start:\n{log.read_text(errors='replace')[-3000:]}")
            time.sleep(0.3)
        else:
            return


def _fill(database):
    """digits in the middle of a deploy, prices with a thousand hosts, spare with none."""
    fleets.NOW = datetime.now(UTC)
    week_ago = (fleets.NOW - timedelta(days=7)).isoformat()
    names = [f"line-{number:02}" for number in range(1, 41)]
    state = {}
    for number, name in enumerate(names):
        new = number < 12 and name != "line-09"
        facts = {"group": f"hall-{number % 4 + 1}", "previous": C if new else B}
        facts |= {"since": fleets.NOW.isoformat() if new else week_ago}
        state[f"host/{name}"] = host(D if new else C, **facts)
    state["host/line-09"] |= {
        "state": "REVERTED",
        "error": "the probe did not answer with the release within 60 s, so it went back",
    }
    state["host/line-31"] |= {"probe": {"healthy": False, "detail": "connection refused", "at": week_ago}}
    state["host/line-40"] |= {"pinned": C}
    targets = {
        name: "SUCCEEDED" if number < 12 else "PROBING" if number < 15 else "VERIFIED"
        for number, name in enumerate(names)
    }
    targets["line-09"] = "REVERTED"
    state["rollout"] = rollout(D, [names[:1], names[1:10], names[10:]], targets, failures=1, max_failures=2)
    write_state(database, 1, state)
    metrics = {A: 0.91, B: 0.934, C: 0.952}
    write_events(
        database,
        1,
        [
            ended(release, {"SUCCEEDED": 40}, training=trained(f"digits-{release[:8]}", accuracy=accuracy))
            for release, accuracy in metrics.items()
        ],
        every=timedelta(days=7),
    )
    write_state(database, 2, {f"host/shop-{number:04}": host(C) for number in range(1000)})


@pytest.fixture(scope="session")
def chromium():
    """The browser, without a window."""
    path = require_program("chromium", "chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def log_in(request, chromium):
    """Opens a page in a theme and logs somebody in by Airflow's own form; a script's error fails the test."""
    contexts, faults = [], []

    def log_in(name, theme="light", at=None):
        there = at or request.getfixturevalue("site")
        context = chromium.new_context(viewport={"width": 1440, "height": 1000}, color_scheme=theme)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(30_000)
        page.on("pageerror", lambda error: faults.append(str(error)))
        go(page, f"{there.url}/")
        page.fill("input[name=username]", name)
        page.fill("input[name=password]", there.passwords[name])
        page.click("button[type=submit]")
        page.get_by_role("button", name="Browse").wait_for()
        return page

    yield log_in
    for context in contexts:
        context.close()
    assert faults == []


@pytest.fixture
def shoot():
    """Keeps a screenshot for whoever looks at the run."""
    SHOTS.mkdir(exist_ok=True)

    def shoot(page, name):
        # Until what fades in is there.
        page.evaluate("Promise.all(document.getAnimations().map((one) => one.finished.catch(() => null)))")
        page.screenshot(path=SHOTS / f"{name}.png")

    return shoot
