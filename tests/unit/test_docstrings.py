"""What a DAG author reads of each operator: every argument, what comes back, what is raised, what is templated."""

from __future__ import annotations

import inspect
import re

import pytest

from hybrid_provider.notifications.hybrid import HybridNotifier
from hybrid_provider.operators.audit import FleetAuditOperator
from hybrid_provider.operators.deploy import OnPremDeployOperator
from hybrid_provider.operators.fleet import FleetOperator
from hybrid_provider.operators.gate import ModelGateOperator
from hybrid_provider.operators.pin import OnPremPinOperator
from hybrid_provider.operators.preflight import FleetPreflightOperator
from hybrid_provider.operators.rollback import OnPremRollbackOperator
from hybrid_provider.operators.sync import ModelArtifactSyncOperator
from hybrid_provider.operators.train import SageMakerTrainOperator
from hybrid_provider.sensors.artifact import ModelArtifactSensor
from hybrid_provider.triggers.artifact_event import ModelArtifactEventTrigger

TASKS = [
    SageMakerTrainOperator, ModelArtifactSensor, ModelArtifactSyncOperator, ModelGateOperator, OnPremDeployOperator,
    OnPremRollbackOperator, FleetAuditOperator, OnPremPinOperator, FleetPreflightOperator,
]  # fmt: skip
ALL = [*TASKS, FleetOperator, ModelArtifactEventTrigger, HybridNotifier]


def section(cls, title):
    """The text of a docstring's section; empty where it has none."""
    text = f"{inspect.getdoc(cls)}\n"
    return (re.findall(rf"^{title}:\n((?:(?:    .*)?\n)+)", text, flags=re.MULTILINE) or [""])[0]


def told(cls):
    """Each argument with what is said of it."""
    parts = re.split(r"^    (\w+): ", section(cls, "Args"), flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


@pytest.mark.parametrize("cls", ALL)
def test_every_argument_is_told_and_none_that_is_not_there(cls):
    arguments = set(inspect.signature(cls.__init__).parameters) - {"self", "kwargs"}

    assert told(cls).keys() - {"kwargs"} == arguments


@pytest.mark.parametrize("cls", TASKS)
def test_what_a_task_returns_and_raises_is_told(cls):
    assert section(cls, "Returns")
    assert section(cls, "Raises")


@pytest.mark.parametrize("cls", [cls for cls in ALL if hasattr(cls, "template_fields")])
def test_an_argument_that_is_templated_says_so_and_no_other_does(cls):
    says = {name for name, text in told(cls).items() if "Templated" in text}
    own = set(cls.template_fields) & told(cls).keys()

    if cls is SageMakerTrainOperator:
        # Half of fifty arguments would say the same.
        (first, last) = re.search(
            r"templated: all from ``(\w+)`` to\s+``(\w+)``", inspect.getdoc(cls)
        ).groups()
        names = list(told(cls))
        says |= {*names[names.index(first) : names.index(last) + 1], "aws_conn_id", "region_name"}
    assert says == own
