"""What axe-core finds on the page; a screen reader itself cannot be run here, what it would be told can."""

from __future__ import annotations

from axe_playwright_python.sync_playwright import Axe

# Of ours; Airflow's own shell around it is not for us to mend.
PARTS = ("section[aria-label='Model fleet']", "[role=dialog]", "[role=alertdialog]")


def complaints(page):
    """Each serious or critical violation of WCAG: the rule, the element, and what would mend it."""
    # What fades in has no contrast yet.
    page.evaluate("Promise.all(document.getAnimations().map((one) => one.finished.catch(() => null)))")
    parts = [[part] for part in PARTS if page.locator(part).count()]
    found = Axe().run(page, context={"include": parts}).response["violations"]
    return [
        (rule["id"], node["html"][:200], node["failureSummary"])
        for rule in found
        if rule["impact"] in {"serious", "critical"}
        for node in rule["nodes"]
    ]
