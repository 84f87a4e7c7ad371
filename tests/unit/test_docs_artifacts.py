"""docs/artifacts.md explains every rule of a policy and every format."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

from hybrid_provider.artifacts.formats import Format
from hybrid_provider.artifacts.policy import ArtifactPolicy

TEXT = (Path(__file__).parents[2] / "docs/artifacts.md").read_text()


def test_every_rule_and_format_is_explained():
    assert {
        name
        for name in (*Format, *(field.name for field in fields(ArtifactPolicy)))
        if f"`{name}`" not in TEXT
    } == set()
