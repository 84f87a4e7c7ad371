"""Asks a person which way a run goes on, and hands on who answered."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from airflow.providers.standard.operators.hitl import HITLBranchOperator

if TYPE_CHECKING:
    from airflow.sdk import Context

ANSWERED_BY: Final = "answered_by"


class ApprovalBranchOperator(HITLBranchOperator):
    """Airflow's ``HITLBranchOperator``, with the name of who answered as the XCom ``answered_by``.

    Airflow keeps that in its own record of the task, which no other task can read; it is told to this one as
    it goes on. Nobody answered, so that the defaults were taken: there is no such XCom.

    ::

        approval = ApprovalBranchOperator(
            task_id="approval",
            subject="Shall the others follow?",
            options=["Approve", "Reject"],
            options_mapping={"Approve": "fleet", "Reject": "take_back"},
            defaults="Reject",
            response_timeout=timedelta(hours=12),
        )
        fleet = OnPremDeployOperator(
            task_id="fleet",
            model_name="digits",
            release="candidate",
            targets=["edge_01", "edge_02"],
            approved_by="{{ ti.xcom_pull('approval', key='answered_by') }}",
        )

    It takes the arguments of ``HITLBranchOperator``.
    """

    def execute_complete(self, context: Context, event: dict[str, Any]) -> Any:  # noqa: ANN401 - Airflow's own
        """Say in the log and in an XCom who answered, and take the branch that was chosen."""
        # First, as taking a branch ends the task by an exception where others are skipped.
        if name := name_of(event.get("responded_by_user")):
            self.log.info("%s was chosen by %s", ", ".join(event["chosen_options"]), name)
            context["ti"].xcom_push(key=ANSWERED_BY, value=name)
        return super().execute_complete(context, event)


def name_of(user: object) -> str | None:
    """The name of a user as Airflow hands it on, its id where it has none; None of nobody."""
    if user is None:
        return None
    told = user if isinstance(user, dict) else {key: getattr(user, key, None) for key in ("id", "name")}
    return str(told.get("name") or told.get("id") or "") or None
