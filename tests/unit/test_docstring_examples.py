"""The Python examples in the docstrings that the reference is made from: each is run as it stands, in a DAG."""

from __future__ import annotations

import inspect
import re
import textwrap
from datetime import timedelta
from importlib import import_module
from pathlib import Path

import pytest
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG, Asset, AssetWatcher

from hybrid_provider.operators.approval import ApprovalBranchOperator
from hybrid_provider.operators.deploy import OnPremDeployOperator
from hybrid_provider.operators.preflight import FleetPreflightOperator
from hybrid_provider.operators.sync import ModelArtifactSyncOperator
from hybrid_provider.sites import on_site
from hybrid_provider.triggers.artifact_event import ModelArtifactEventTrigger

REFERENCE = Path(__file__).parents[2] / "docs/reference"
FLEET = {"model_name": "digits", "targets": ["edge_01"]}
# What the docstrings take for imported.
IMPORTED = {
    each.__name__: each
    for each in (
        ApprovalBranchOperator, Asset, AssetWatcher, FleetPreflightOperator, ModelArtifactEventTrigger,
        ModelArtifactSyncOperator, OnPremDeployOperator, on_site, timedelta,
    )
}  # fmt: skip


def documented(path):
    """An object or module of the reference, and what a page of it shows of the object's own."""
    module, _, name = path.rpartition(".")
    found = getattr(import_module(module), name, None) or import_module(path)
    own = vars(found).values() if inspect.isclass(found) else ()
    return [found, *filter(inspect.isroutine, own)]


def examples():
    """Each literal block that calls something by keyword, with the name of what it is an example of."""
    for page in sorted(REFERENCE.glob("*.md")):
        for path in re.findall(r"^::: (\S+)$", page.read_text(), flags=re.MULTILINE):
            for each in documented(path):
                text = f"{inspect.getdoc(each)}\n"
                for block in re.findall(r"::\n\n((?: {4}.*\n|\n)+)", text):
                    if re.search(r"\w\([^)]*\w=", block):
                        yield pytest.param(textwrap.dedent(block), id=path.rpartition(".")[2])


@pytest.mark.parametrize("code", [*examples()])
def test_an_example_of_the_reference_can_be_written_into_a_dag(code):
    with DAG("example", schedule=None) as dag:
        given = {name: EmptyOperator(task_id=f"given_{name}") for name in ("train", "sync")}
        exec(code, {**IMPORTED, **given, "fleet": FLEET})  # noqa: S102 - the project's own text

    assert len(dag.tasks) > len(given) or "Asset(" in code


def test_the_examples_are_found():
    assert {example.id for example in examples()} == {
        "ApprovalBranchOperator", "FleetPreflightOperator", "ModelArtifactEventTrigger", "OnPremDeployOperator",
        "on_site",
    }  # fmt: skip
