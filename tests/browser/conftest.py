"""A real Airflow behind a base URL with a path, fleets in its database and on two hosts, and Debian's Chromium."""

from __future__ import annotations

import json
import shutil
import sqlite3
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from playground.airflow_services import airflow_services
from playground.environment import playground
from tests import fleets
from tests.browser.store import two_releases
from tests.browser.visits import go, until_shell
from tests.example_dags import by_hand
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

# What makes the example DAGs quick here.
POLICIES = ['{"waves": [1, "25%", "100%"], "bake_time": 60}', '{"max_unavailable": "25%"}']
QUICK = '{"bake_time": 0, "min_healthy_time": 0, "drain": 0}'


@dataclass(frozen=True)
class Site:
    """The running Airflow: its URL, the file of its database, the passwords of ada and vera, and its releases.

    ``hosts`` are the folders of the emulated hosts.
    """

    url: str
    database: Path
    passwords: dict[str, str]
    releases: list[str]
    hosts: tuple[Path, ...] = ()

    def asset(self, model: str) -> int | None:
        """The id of a model's asset, None while no DAG that has it was read."""
        with sqlite3.connect(self.database, timeout=30) as connection:
            query = "SELECT id FROM asset WHERE uri = ?"
            found = connection.execute(query, (f"hybrid://model/{model}",)).fetchone()
        return found[0] if found else None


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    """All of Airflow behind a base URL with a path, with two emulated hosts and the DAGs that move them.

    Started once: ada is an administrator, vera may only look.
    """
    folder = tmp_path_factory.mktemp("site")
    port = free_port()
    url = f"http://127.0.0.1:{port}/site"
    settings = {
        "AIRFLOW__API__BASE_URL": url,
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{url}/execution/",
        "AIRFLOW__CORE__DAGS_FOLDER": str(_dags(folder / "dags")),
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "False",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": "ada:admin,vera:viewer",
    }
    with playground(folder) as place, airflow_services(place, port, settings) as airflow:
        releases = two_releases(folder / "store")
        airflow.wait_until_healthy()
        home = folder / "airflow"
        passwords = json.loads((home / "simple_auth_manager_passwords.json.generated").read_text())
        hosts = tuple(Path(host.root) for host in place.hosts.values())
        site = Site(url, home / "airflow.db", passwords, releases, hosts)
        _wait_for_models(site, airflow)
        _fill(site)
        yield site


def _dags(folder: Path) -> Path:
    shutil.copytree(Path(__file__).parent / "dags", folder)
    for kind in ("deploy", "rollback", "pin", "audit"):
        text = by_hand((ROOT / "dags" / f"hybrid_{kind}.py").read_text())
        for policy in POLICIES:
            text = text.replace(policy, QUICK)
        (folder / f"hybrid_{kind}.py").write_text(text)
    return folder


def _wait_for_models(site, airflow):
    deadline = time.monotonic() + START_SECONDS
    while not all(map(site.asset, ("digits", "prints", "prices", "spare"))):
        airflow.check()
        if time.monotonic() > deadline:
            pytest.fail(f"the DAGs were not read in {START_SECONDS} s; logs in {airflow.logs}")
        time.sleep(0.3)


def _fill(site):
    """prints in the middle of a deploy, prices with a thousand hosts, spare with none."""
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
    prints = site.asset("prints")
    write_state(site.database, prints, state)
    metrics = {A: 0.91, B: 0.934, C: 0.952}
    write_events(
        site.database,
        prints,
        [
            ended(release, {"SUCCEEDED": 40}, training=trained(f"digits-{release[:8]}", accuracy=accuracy))
            for release, accuracy in metrics.items()
        ],
        every=timedelta(days=7),
    )
    shops = {f"host/shop-{number:04}": host(C) for number in range(1000)}
    write_state(site.database, site.asset("prices"), shops)


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
def log_in(site, chromium):
    """Opens a page in a theme and logs somebody in by Airflow's own form; a script's error fails the test."""
    contexts, faults = [], []

    def log_in(name, theme="light", width=1440):
        context = chromium.new_context(viewport={"width": width, "height": 1000}, color_scheme=theme)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(30_000)
        page.on("pageerror", lambda error: faults.append(str(error)))
        go(page, f"{site.url}/")
        page.fill("input[name=username]", name)
        page.fill("input[name=password]", site.passwords[name])
        page.click("button[type=submit]")
        until_shell(page)
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
