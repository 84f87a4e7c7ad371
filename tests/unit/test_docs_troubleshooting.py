"""docs/troubleshooting.md: every class of error is there, and every message that it quotes is one of the code's."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path

import pytest

from hybrid_provider import exceptions

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/troubleshooting.md").read_text()
CLASSES = [name for name, _ in inspect.getmembers(exceptions, inspect.isclass) if name[0] != "_"]
FAMILIES = {"HybridError", "TrainingError", "ArtifactError", "TargetError", "ClassVar"}
QUOTED = [
    quoted
    for quoted in re.findall(r"^\| `([^`]+)` \|", PAGE.partition("## Airflow itself")[0], flags=re.MULTILINE)
    if not quoted.isupper()  # a state
]


def messages():
    """Every text of the package, with `…` where a value stands; texts of one expression are one."""
    for file in (ROOT / "hybrid_provider").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.JoinedStr):
                yield "".join(part.value if isinstance(part, ast.Constant) else "…" for part in node.values)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value


MESSAGES = list(messages())


@pytest.mark.parametrize("name", sorted({*CLASSES} - FAMILIES))
def test_every_class_of_error_has_its_remedy(name):
    assert f"\n### {name}\n" in PAGE


@pytest.mark.parametrize("quoted", QUOTED)
def test_every_quoted_message_is_one_of_the_code(quoted):
    words = ".*".join(re.escape(part.strip()) for part in quoted.split("…"))

    assert any(re.search(words, message, flags=re.DOTALL) for message in MESSAGES)


def test_the_tree_of_errors_draws_every_class():
    assert all(
        f" {name}" in exceptions.__doc__ for name in CLASSES if name not in {"HybridError", "ClassVar"}
    )
