"""What all layers share: an Airflow home of the tests' own, named before anything imports Airflow."""

from __future__ import annotations

import os
import tempfile
from typing import TYPE_CHECKING

from hypothesis import settings

if TYPE_CHECKING:
    import pytest

# An example that took a quarter of a second on a busy machine is no fault.
settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")

# A test must neither read nor fill the home of whoever runs it; the e2e layer goes on to name its own.
os.environ["AIRFLOW_HOME"] = tempfile.mkdtemp(prefix="hybrid-tests-")
os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"


class FailuresAtOnce:
    """Prints each failure when it happens: a run that is ended from outside has then said what it knew."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            terminal = self._config.get_terminal_writer()
            terminal.line()
            terminal.sep("!", f"{report.nodeid}, {report.when}, after {report.duration:.0f} s")
            terminal.line(report.longreprtext)


def pytest_configure(config: pytest.Config) -> None:
    if os.environ.get("HYBRID_REQUIRE_ALL"):
        config.pluginmanager.register(FailuresAtOnce(config))
