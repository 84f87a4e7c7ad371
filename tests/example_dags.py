"""The example DAGs as the tests of a whole Airflow have them."""

from __future__ import annotations

import re


def by_hand(text):
    """An example without its schedule, or a test at midnight would meet a run that nobody asked for."""
    return re.sub(r"schedule=CronTriggerTimetable\(.*\)", "schedule=None", text)
