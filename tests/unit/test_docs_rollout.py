"""The code blocks of docs/rollout.md are read as they stand."""

from __future__ import annotations

import re
from pathlib import Path

from hybrid_provider.hooks.fleet import fleet_of
from hybrid_provider.rollout.golden import read_cases
from hybrid_provider.rollout.probe_settings import probe_of

TEXT = (Path(__file__).parents[2] / "docs/rollout.md").read_text()


def test_every_example_makes_what_it_says():
    names: dict[str, object] = {}
    for block in re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL):
        exec(block, names)  # noqa: S102 - the page's own text
    assert [spec.name for spec in fleet_of(names["targets"])] == ["edge-01", "edge-02"]
    assert len(probe_of(names["deploy"].probe).probes) == 2
    assert names["audit"].outlets == names["back"].outlets == names["deploy"].outlets
    assert names["canary"].outlets == []


def test_the_golden_file_is_one():
    (golden,) = re.findall(r"```json\n(.*?)```", TEXT, flags=re.DOTALL)
    assert read_cases(golden, "golden.json")[0].name == "a seven"
