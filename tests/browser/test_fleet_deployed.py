"""A fleet of two hosts, moved by the page's buttons through the example DAGs and Airflow's own scheduler."""

from __future__ import annotations

from tests.browser.visits import go, press

RUN_SECONDS = 120
HOSTS = ("edge_01", "edge_02")


def deploy(page, release, verb):
    page.get_by_role("button", name="Deploy a release").click()
    dialog = page.get_by_role("alertdialog")
    dialog.get_by_role("textbox").or_(dialog.get_by_role("combobox")).fill(release)
    dialog.get_by_role("button", name=verb, exact=True).click()


def order(page, button, verb):
    page.get_by_role("button", name=button).click()
    page.get_by_role("alertdialog").get_by_role("button", name=verb, exact=True).click()


def sees(page, release, ended):
    """Until each host's row has the release, and the rollout is over."""
    from playwright.sync_api import expect

    wait = 1000 * RUN_SECONDS
    for host in HOSTS:
        expect(page.locator(f"[data-host={host}] td").nth(2)).to_have_text(release, timeout=wait)
    expect(page.get_by_role("heading", name=ended)).to_be_visible(timeout=wait)


def test_a_fleet_is_deployed_rolled_back_by_the_keyboard_alone_pinned_unpinned_and_repaired(
    site, log_in, shoot
):
    from playwright.sync_api import expect

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

    pinned = [page.locator(f"[data-host={host}]").get_by_text("pinned", exact=True) for host in HOSTS]
    order(page, "Pin or unpin", "Pin 2 hosts")
    for badge in pinned:
        badge.wait_for()
    order(page, "Pin or unpin", "Unpin 2 hosts")
    for badge in pinned:
        badge.wait_for(state="detached")

    # Somebody has changed a file on a host; the audit finds it and brings the release anew.
    file = site.hosts[1] / "models/digits/current/model.onnx"
    kept = file.read_bytes()
    file.chmod(0o644)
    file.write_bytes(b"changed")
    page.get_by_role("button", name="Audit").click()
    page.get_by_text("Repair hosts that drifted").click()
    page.get_by_role("alertdialog").get_by_role("button", name="Audit 2 hosts").click()
    page.get_by_role("tab", name="Rollouts and releases").click()
    page.get_by_role("cell", name="audit", exact=True).wait_for()
    assert file.read_bytes() == kept
    order(page, "Audit", "Audit 2 hosts")
    expect(page.get_by_role("cell", name="audit", exact=True)).to_have_count(2, timeout=1000 * RUN_SECONDS)
    shoot(page, "history-deployed")
