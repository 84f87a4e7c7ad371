"""Opens a page, once more where the machine changed under the browser, and reaches what is on it."""

from __future__ import annotations


def go(page, url, tries=5):
    """To the URL. A bridge that something else on the machine sets up cuts off each load that Chromium has running."""
    from playwright.sync_api import Error

    for left in reversed(range(tries)):
        try:
            page.goto(url)
        except Error as error:
            if "ERR_NETWORK_CHANGED" not in str(error) or not left:
                raise
        else:
            return


def until_shell(page, patience=15_000):
    """Until Airflow's shell is there; asked for once more where one of its scripts was cut off so."""
    from playwright.sync_api import TimeoutError as TooLate

    menu = page.get_by_role("button", name="Browse")
    try:
        menu.wait_for(timeout=patience)
    except TooLate:
        page.reload()
        menu.wait_for()


def press(page, button, steps=80):
    """Reach a button by the Tab key alone, and press it by Enter."""
    button.wait_for()
    for _ in range(steps):
        page.keyboard.press("Tab")
        if button.evaluate("(one) => one === document.activeElement"):
            page.keyboard.press("Enter")
            return
    raise AssertionError(f"{steps} presses of Tab do not reach {button}")


def focused(page, element):
    """Until the focus is on it."""
    page.wait_for_function("(one) => one === document.activeElement", arg=element.element_handle())
