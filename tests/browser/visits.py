"""Opens a page, and once more where the machine changed under the browser."""

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
