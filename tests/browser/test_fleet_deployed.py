"""A fleet of two hosts, moved by the page's buttons through the example DAGs and Airflow's own scheduler."""

from __future__ import annotations

from tests.browser.visits import go, press
from tests.fleets import read_state, write_state

RUN_SECONDS = 120
HOSTS = ("edge_01", "edge_02")


def confirmation(page, button, what):
    """The dialog of a button, when it says what will happen."""
    page.get_by_role("button", name=button, exact=True).click()
    dialog = page.get_by_role("alertdialog", name=f"{button}: digits")
    dialog.get_by_text(what).wait_for()
    return dialog


def confirm(page, dialog, verb):
    """Press the dialog's button, and wait until the page says that the run which it starts is done."""
    with page.expect_response("**/dagRuns") as asked:
        dialog.get_by_role("button", name=verb, exact=True).click()
    run = page.get_by_role("status").filter(has_text=asked.value.json()["dag_run_id"])
    run.filter(has_text="is done").wait_for()


def deploy(page, release, what, verb):
    dialog = confirmation(page, "Deploy a release", what)
    dialog.get_by_role("textbox").or_(dialog.get_by_role("combobox")).fill(release)
    confirm(page, dialog, verb)


def order(page, button, what, verb):
    confirm(page, confirmation(page, button, what), verb)


def cached(site):
    """All rows of the fleet's state, without what is a later audit's own: its run, and when it looked."""
    rows = read_state(site.database, site.asset("digits"))
    for key, row in rows.items():
        for later in ("at", "run_id") if key == "audit" else ():
            del row[later]
        if key.startswith("host/"):
            del row["probe"]["at"]
    return rows


def sees(page, release, ended):
    """Until each host's row has the release, and the rollout is over."""
    from playwright.sync_api import expect

    wait = 1000 * RUN_SECONDS
    for host in HOSTS:
        expect(page.locator(f"[data-host={host}] td").nth(2)).to_have_text(release, timeout=wait)
    expect(page.get_by_role("heading", name=ended)).to_be_visible(timeout=wait)


def test_a_fleet_is_deployed_rolled_back_by_the_keyboard_alone_pinned_unpinned_repaired_and_audited(
    site, log_in, shoot
):
    from playwright.sync_api import expect

    first, second = site.releases
    page = log_in("ada")
    page.set_default_timeout(1000 * RUN_SECONDS)
    go(page, f"{site.url}/plugin/model-fleet?model=digits")
    deploy(page, first, "The hosts of the DAG's own form will be used", "Deploy")
    sees(page, first, "Last deploy")
    deploy(page, second, "2 hosts will be staged first, then switched wave by wave", "Deploy to 2 hosts")
    sees(page, second, "Last deploy")

    press(page, page.get_by_role("button", name="Roll back"))
    dialog = page.get_by_role("alertdialog", name="Roll back: digits")
    dialog.get_by_text(f"2 hosts: {second} → {first}", exact=True).wait_for()
    press(page, dialog.get_by_role("button", name="Roll back 2 hosts"))
    sees(page, first, "Last rollback")
    shoot(page, "rolled-back")

    pinned = [page.locator(f"[data-host={host}]").get_by_text("pinned", exact=True) for host in HOSTS]
    order(page, "Pin or unpin", "2 hosts will keep the release that they have", "Pin 2 hosts")
    for badge in pinned:
        badge.wait_for()
    order(page, "Pin or unpin", "2 hosts will take part in rollouts again", "Unpin 2 hosts")
    for badge in pinned:
        badge.wait_for(state="detached")

    # Somebody has changed a file on a host; the audit finds it and brings the release anew.
    file = site.hosts[1] / "models/digits/current/model.onnx"
    kept = file.read_bytes()
    file.chmod(0o644)
    file.write_bytes(b"changed")
    dialog = confirmation(page, "Audit", "Every file of the live release on 2 hosts is read and hashed again")
    dialog.get_by_text("Repair hosts that drifted").click()
    confirm(page, dialog, "Audit 2 hosts")
    page.get_by_role("tab", name="Rollouts and releases").click()
    page.get_by_role("cell", name="audit", exact=True).wait_for()
    assert file.read_bytes() == kept
    order(page, "Audit", "Nothing is changed on any host", "Audit 2 hosts")
    expect(page.get_by_role("cell", name="audit", exact=True)).to_have_count(2, timeout=1000 * RUN_SECONDS)
    shoot(page, "history-deployed")

    # All rows are a cache: what is lost comes back as it was, by an audit of what the hosts have.
    before = cached(site)
    assert before.keys() == {"host/edge_01", "host/edge_02", "rollout", "audit"}
    write_state(site.database, site.asset("digits"), {})
    page.get_by_role("tab", name="Hosts").click()
    page.get_by_role("heading", name="No host yet").wait_for()
    order(page, "Audit", "The hosts of the DAG's own form will be used", "Audit")
    sees(page, first, "Last audit")
    assert cached(site) == before


FORMS = {
    "rollback": ("Hosts", "Rollout policy"),
    "pin": ("Hosts", "Pin"),
    "audit": ("Hosts", "Repair"),
    "deploy": ("Release", "Hosts", "Rollout policy"),
}


def test_the_dags_behind_the_buttons_are_good_by_hand_by_airflow_s_own_form(site, log_in):
    _, second = site.releases
    page = log_in("ada")
    for kind, fields in FORMS.items():
        go(page, f"{site.url}/dags/hybrid_{kind}")
        page.get_by_role("button", name="Trigger").first.click()
        form = page.get_by_role("dialog")
        for field in fields:
            form.get_by_role("group").filter(has_text=field).first.wait_for()
    form.get_by_role("group").filter(has_text="Release").get_by_role("textbox").fill(second)
    with page.expect_response("**/dagRuns") as asked:
        form.get_by_role("button", name="Trigger").click()
    assert asked.value.json()["conf"]["release"] == second
    go(page, f"{site.url}/plugin/model-fleet?model=digits")
    sees(page, second, "Last deploy")
