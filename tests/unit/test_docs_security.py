"""Who may do what, as docs/security.md has it: Airflow's own roles, asked of its auth manager."""

from __future__ import annotations

import pytest
from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
from airflow.api_fastapi.auth.managers.simple.simple_auth_manager import SimpleAuthManager
from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser


def may(role):
    """What a role may of: look at runs and at models, start a run or answer an approval, change a connection."""
    manager, user = SimpleAuthManager(), SimpleAuthManagerUser(username="somebody", role=role)
    runs, approvals = DagAccessEntity.RUN, DagAccessEntity.HITL_DETAIL
    return {
        "look": manager.is_authorized_dag(method="GET", access_entity=runs, user=user)
        and manager.is_authorized_asset(method="GET", user=user),
        "start": manager.is_authorized_dag(method="POST", access_entity=runs, user=user),
        "approve": manager.is_authorized_dag(method="PUT", access_entity=approvals, user=user),
        "change connections": manager.is_authorized_connection(method="PUT", user=user),
    }


@pytest.mark.parametrize(
    ("role", "allowed"),
    [
        ("viewer", {"look"}),
        ("user", {"look", "start", "approve"}),
        ("op", {"look", "start", "approve", "change connections"}),
        ("admin", {"look", "start", "approve", "change connections"}),
    ],
)
def test_a_role_may_what_the_table_says(role, allowed):
    assert {what for what, is_allowed in may(role).items() if is_allowed} == allowed
