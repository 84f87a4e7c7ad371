"""Who answered an approval is handed on."""

from __future__ import annotations

from datetime import UTC, datetime
from unittest import mock

import pytest
from airflow.sdk.exceptions import DownstreamTasksSkipped

from hybrid_provider.operators.approval import ApprovalBranchOperator
from hybrid_provider.operators.deploy import OnPremDeployOperator


def answered(by):
    """The XComs that the operator pushed, and the branch that it took, after an answer."""
    operator = ApprovalBranchOperator(
        task_id="approval", subject="?", options=["Approve"], options_mapping={"Approve": "fleet"}
    )
    event = {
        "chosen_options": ["Approve"],
        "params_input": {},
        "responded_at": datetime(2026, 11, 24, tzinfo=UTC),
        "responded_by_user": by,
    }
    ti = mock.Mock(spec_set=["xcom_push"])
    # As Airflow ends a task whose downstream is skipped.
    skipped = DownstreamTasksSkipped(tasks=["take_back"])
    branching = mock.patch.object(ApprovalBranchOperator, "do_branch", autospec=True, side_effect=skipped)
    with branching as branch, pytest.raises(DownstreamTasksSkipped):
        operator.execute_complete({"ti": ti}, event)
    assert branch.call_args.kwargs["branches_to_execute"] == ["fleet"]
    return [call.kwargs for call in ti.xcom_push.call_args_list]


@pytest.mark.parametrize(("user", "name"), [({"id": "7", "name": "ada"}, "ada"), ({"id": "7"}, "7")])
def test_the_name_of_who_answered_is_an_xcom(user, name):
    assert answered(user) == [{"key": "answered_by", "value": name}]


def test_a_timeout_names_nobody():
    assert answered(None) == []


@pytest.mark.parametrize("rendered", [None, "None", ""])
def test_nobody_is_not_put_into_the_evidence_as_a_name(rendered):
    operator = OnPremDeployOperator(
        task_id="fleet", model_name="digits", release="latest", targets=["a"], approved_by=rendered
    )
    assert operator._approver is None
