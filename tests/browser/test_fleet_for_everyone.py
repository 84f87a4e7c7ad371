"""The page by the keyboard alone, for a screen reader, and when the server refuses or is away."""

from __future__ import annotations

import pytest

from tests.browser.accessibility import complaints
from tests.browser.visits import focused, go, press
from tests.fleets import host, release_of, rollout, write_state

C, D = release_of(16), release_of(23)
MODEL = "plugin/model-fleet?model=prints"
BUTTONS = ("Roll back", "Deploy a release", "Pin or unpin", "Audit")


def opened(page, site, path=MODEL):
    go(page, f"{site.url}/{path}")
    page.locator("[data-host]").first.wait_for()
    return page


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing_serious_on_any_part_of_the_page(site, log_in, theme):
    page = log_in("ada", theme)
    go(page, f"{site.url}/plugin/model-fleet")
    page.get_by_role("link", name="prints", exact=True).wait_for()
    assert complaints(page) == []
    opened(page, site)
    assert complaints(page) == []
    page.get_by_role("button", name="Details of line-09").click()
    page.get_by_role("dialog").wait_for()
    assert complaints(page) == []
    page.keyboard.press("Escape")
    page.get_by_role("dialog").wait_for(state="detached")
    for button in BUTTONS:
        page.get_by_role("button", name=button).click()
        page.get_by_role("alertdialog").wait_for()
        assert complaints(page) == []
        page.keyboard.press("Escape")
        page.get_by_role("alertdialog").wait_for(state="detached")
    page.get_by_role("tab", name="Charts").click()
    page.locator("svg[role=img]").first.wait_for()
    assert complaints(page) == []
    page.get_by_role("tab", name="Rollouts and releases").click()
    page.get_by_text("digits-20261102").first.wait_for()
    assert complaints(page) == []


def test_the_keyboard_alone_reaches_all_and_the_focus_comes_back(site, log_in):
    page = opened(log_in("ada"), site)
    for button in BUTTONS:
        opener = page.get_by_role("button", name=button)
        press(page, opener)
        dialog = page.get_by_role("alertdialog", name=f"{button}: prints")
        # First what does nothing; and Tab does not leave the dialog.
        page.wait_for_function("document.activeElement.textContent === 'Cancel'")
        for _ in range(6):
            assert dialog.evaluate("(one) => one.contains(document.activeElement)")
            page.keyboard.press("Tab")
        page.keyboard.press("Escape")
        dialog.wait_for(state="detached")
        focused(page, opener)

    sort = page.get_by_role("button", name="Host", exact=True)
    press(page, sort)
    page.locator("th[aria-sort=descending]").wait_for()
    details = page.get_by_role("button", name="Details of line-39")
    press(page, details)
    drawer = page.get_by_role("dialog", name="line-39")
    page.wait_for_function("document.activeElement.closest('[role=dialog]')")
    page.keyboard.press("Escape")
    drawer.wait_for(state="detached")
    focused(page, details)

    page.get_by_role("tab", name="Hosts").focus()
    page.keyboard.press("ArrowRight")
    page.get_by_role("tab", name="Rollouts and releases", selected=True).wait_for()


def test_a_screen_reader_is_told_of_each_part_and_of_what_changes(site, log_in):
    page = log_in("ada")
    spare = site.asset("spare")
    waves = [["till-1"], ["till-2"]]
    hosts = {"host/till-1": host(C), "host/till-2": host(C, error="HTTP 500", state="REVERTED")}
    begun = rollout(D, waves, {"till-1": "PROBING", "till-2": "VERIFIED"}, state="CANARY")
    write_state(site.database, spare, hosts | {"rollout": begun})
    opened(page, site, "plugin/model-fleet?model=spare")

    told = page.locator("[role=status][aria-live=polite]").first
    told.get_by_text("Deploy is under way, canary: 0 of 2 hosts done", exact=True).wait_for(state="attached")
    tree = page.get_by_role("region", name="Model fleet").aria_snapshot()
    for part in (
        'heading "spare" [level=1]', "definition: 2 of 2", 'img "2 of 2 hosts are healthy"',
        "text: 1 host needs attention", 'group "What to do with the fleet"', 'region "Running rollout"',
        "listitem: till-1 probing", 'tab "Hosts" [selected]', 'search "Filter the hosts"',
        'searchbox "Search hosts"', 'combobox "Show"', 'region "Hosts, scrollable"', 'checkbox "Select till-1"',
        'button "Details of till-1"',
    ):  # fmt: skip
        assert part in tree
    assert "strong: till-2" in tree
    table = page.get_by_role("table").aria_snapshot()
    for column in ("Host", "Release and digest", "State", "Probe", "Since", "Last rollout"):
        assert f'columnheader "{column}"' in table
    # A row is read as what it is of, what it has, and how it does.
    assert f'row "Select till-1 Details of till-1 {C} succeeded healthy' in table
    assert '", reverted: HTTP 500"' in tree

    over = rollout(D, waves, {"till-1": "SUCCEEDED", "till-2": "REVERTED"}, state="PAUSED", failures=1)
    write_state(site.database, spare, hosts | {"rollout": over})
    told.get_by_text("Deploy has ended, paused: 1 of 2 hosts done, 1 failure").wait_for(state="attached")
    write_state(site.database, spare, {})


def test_hosts_that_need_attention_are_named_with_the_reason_and_shown_by_one_press(site, log_in):
    page = opened(log_in("ada"), site)
    notice = page.get_by_role("status").filter(has_text="2 hosts need attention")
    notice.get_by_text("line-09, reverted: the probe did not answer").wait_for()
    notice.get_by_text("line-31, unhealthy: connection refused").wait_for()
    notice.get_by_role("button").click()
    page.get_by_text("2 of 40 hosts", exact=True).wait_for()
    # What is filtered stays so while another part of the page is looked at, and comes from there too.
    page.get_by_role("tab", name="Charts").click()
    page.locator("svg[role=img]").first.wait_for()
    page.get_by_role("tab", name="Hosts").click()
    page.get_by_text("2 of 40 hosts", exact=True).wait_for()
    page.get_by_label("Show", exact=True).select_option("all")
    page.get_by_role("tab", name="Charts").click()
    notice.get_by_role("button").click()
    page.get_by_text("2 of 40 hosts", exact=True).wait_for()


def answered(status):
    """A route's answer in place of the server's."""
    return lambda route: route.fulfill(status=status, json={"detail": "the database is locked"})


def test_an_error_says_what_to_do_and_keeps_what_was_seen(site, log_in, shoot):
    page = opened(log_in("ada"), site)
    alert = page.get_by_role("region", name="Model fleet").get_by_role("alert")
    route = "**/hybrid_fleet/models/prints"

    page.route(route, answered(403))
    alert.get_by_text("ask an administrator of Airflow").wait_for()
    page.unroute(route)
    alert.wait_for(state="detached")

    page.route(route, answered(500))
    alert.get_by_text("The server answered 500: the database is locked. Its own log says why").wait_for()
    assert page.locator("[data-host=line-01]").is_visible()
    shoot(page, "error")
    page.unroute(route)
    alert.get_by_role("button", name="Try again").click()
    alert.wait_for(state="detached")

    page.context.set_offline(True)
    alert.get_by_text("The API server does not answer. Look at your network").wait_for()
    page.context.set_offline(False)
    alert.wait_for(state="detached")

    page.context.clear_cookies()
    alert.get_by_text("You are not logged in any more").wait_for()
    alert.get_by_role("button", name="Load it again").click()
    page.locator("input[name=username]").wait_for()


def test_a_page_that_is_refused_from_the_start_says_so(site, log_in):
    page = log_in("ada")
    page.route("**/hybrid_fleet/models", answered(403))
    go(page, f"{site.url}/plugin/model-fleet")
    page.get_by_role("alert").get_by_text("You may not see the fleet").wait_for()
    page.unroute("**/hybrid_fleet/models")
    page.route("**/hybrid_fleet/models", lambda route: route.fulfill(json={"models": []}))
    go(page, f"{site.url}/plugin/model-fleet")
    page.get_by_text("No model yet").wait_for()
    page.get_by_text("A model appears here when a DAG has its asset as an outlet").wait_for()
