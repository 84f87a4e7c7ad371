"""A fleet of two hosts, moved by the page's buttons through the example DAGs and Airflow's own scheduler."""

from __future__ import annotations

from tests.browser.visits import go, press

RUN_SECONDS = 120


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


def test_a_fleet_is_deployed_by_the_button_and_rolled_back_by_the_keyboard_alone(site, log_in, shoot):
    first, second = site.releases
    page = log_in("ada")
    page.set_default_timeout(1000 * RUN_SECONDS)
    go(page, f"{site.url}/plugin/model-fleet?model=digits")
    deploy(page, first, "Deploy")
    sees(page, first, "Last deploy")
    deploy(page, second, "Deploy to 2 hosts")
    sees(page, second, "Last deploy")

    press(page, page.get_by_role("button", name="Roll back"))
    press(page, page.get_by_role("alertdialog").get_by_role("button", name="Roll back 2 hosts"))
    sees(page, first, "Last rollback")
    shoot(page, "rolled-back")

    page.get_by_role("button", name="Pin or unpin").click()
    page.get_by_role("alertdialog").get_by_role("button", name="Pin 2 hosts").click()
    for host in ("edge_01", "edge_02"):
        page.locator(f"[data-host={host}]").get_by_text("pinned", exact=True).wait_for()
    page.get_by_role("button", name="Audit").click()
    page.get_by_role("alertdialog").get_by_role("button", name="Audit 2 hosts").click()
    page.get_by_role("tab", name="Rollouts and releases").click()
    page.get_by_role("cell", name="audit", exact=True).wait_for()
    shoot(page, "history-deployed")
