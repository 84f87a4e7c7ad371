"""FinalMetricDataList: what the MetricDefinitions find in the log."""

from __future__ import annotations

import re
import threading
from typing import TYPE_CHECKING

from hybrid_provider.emulator.sagemaker.job import Metric, now

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


class MetricReader:
    """Reads the lines of all instances; of each metric, the last value counts."""

    def __init__(self, definitions: Iterable[Mapping[str, str]]) -> None:
        self._patterns = {definition["Name"]: re.compile(definition["Regex"]) for definition in definitions}
        self._found: dict[str, Metric] = {}
        self._lock = threading.Lock()

    def read(self, line: str) -> None:
        """Look for every metric in one line: the first group of its pattern, or all of the match."""
        for name, pattern in self._patterns.items():
            match = pattern.search(line)
            value = _number(match.group(1 if pattern.groups else 0)) if match else None
            if value is not None:
                with self._lock:
                    self._found[name] = Metric(name=name, value=value, at=now())

    def found(self) -> list[Metric]:
        """The metrics that were found, in the order of their first appearance."""
        with self._lock:
            return list(self._found.values())


def _number(text: str | None) -> float | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        return None
