"""The code blocks of docs/rollout.md are read as they stand."""

from __future__ import annotations

import json
import re
from dataclasses import fields
from pathlib import Path

from hybrid_provider.hooks.fleet import fleet_of
from hybrid_provider.rollout.command_line import parser
from hybrid_provider.rollout.golden import read_cases
from hybrid_provider.rollout.policy import RolloutPolicy
from hybrid_provider.rollout.probe_settings import probe_of
from hybrid_provider.rollout.states import FAILURES, TargetState

TEXT = (Path(__file__).parents[2] / "docs/rollout.md").read_text()


def test_every_example_makes_what_it_says():
    names: dict[str, object] = {}
    for block in re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL):
        exec(block, names)  # noqa: S102 - the page's own text
    assert [spec.name for spec in fleet_of(names["targets"])] == ["edge-01", "edge-02"]
    engines = fleet_of(names["engines"], names["on_engines"].serving)
    assert [(spec.serving.port, spec.serving.memory_bytes) for spec in engines] == [
        (8080, 2**31),
        (8081, 2**31),
    ]
    assert len(probe_of(names["deploy"].probe).probes) == 2
    assert names["audit"].outlets == names["back"].outlets == names["deploy"].outlets
    assert names["canary"].outlets == []


def test_every_state_is_explained_and_what_counts_as_a_failure_is_named():
    rows = re.findall(r"^\| (`[A-Z_`, ]+`) \|", TEXT, flags=re.MULTILINE)
    (failures,) = re.findall(r"^(.*) count against `max_failures`", TEXT, flags=re.MULTILINE)

    assert {state for row in rows for state in re.findall(r"[A-Z_]+", row)} == set(TargetState)
    assert set(re.findall(r"[A-Z_]+", failures)) == FAILURES


def test_the_golden_file_is_one():
    (golden,) = re.findall(r"```json\n(.*?)```", TEXT, flags=re.DOTALL)
    assert read_cases(golden, "golden.json")[0].name == "a seven"


def test_every_setting_of_a_policy_is_listed_with_its_default():
    listed = {}
    for names, defaults in re.findall(
        r"^\| (`[^|]+`) \| (`[^|]+`) \|", TEXT.partition("## Targets")[0], flags=re.MULTILINE
    ):
        listed |= dict(zip(re.findall(r"`(\w+)`", names), re.findall(r"`([^`]+)`", defaults), strict=True))
    assert listed.keys() == {field.name for field in fields(RolloutPolicy)}
    assert RolloutPolicy.of({name: json.loads(value) for name, value in listed.items()}) == RolloutPolicy()


def test_every_exit_code_of_a_command_is_one_that_its_help_tells():
    for name in ("deploy", "status", "rollback", "audit", "pin"):
        told = subparser(name).epilog
        assert told.startswith("Exit codes: 0: ")
        assert "2: asked for what cannot be right." in told
        assert ("75: nothing was switched" in told) == (name in {"deploy", "rollback"})


def subparser(name):
    (commands,) = parser()._subparsers._group_actions
    return commands.choices[name]
