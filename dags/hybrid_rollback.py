"""Take hosts back to what they served well before.

Nobody types a version: each host knows the release that was proved healthy on it before the live one. On the
page Model fleet *Roll back* starts this DAG, as it has the model's asset and the tag ``hybrid:rollback``. To
have the buttons for another model, copy this file and change ``MODEL``.
"""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG, Param

from hybrid_provider.operators.rollback import OnPremRollbackOperator
from hybrid_provider.sites import on_site

MODEL = "digits"
SITE = "onprem"

with DAG(
    "hybrid_rollback",
    description="Take hosts back to the release that was proved healthy on them before the live one.",
    schedule=None,
    max_active_runs=1,
    default_args={"retries": 2, "retry_delay": timedelta(minutes=1)},
    render_template_as_native_obj=True,
    tags=["hybrid", "hybrid:rollback", MODEL],
    doc_md=__doc__,
    params={
        "hosts": Param(
            ["edge_01", "edge_02"],
            type="array",
            items={"type": "string"},
            minItems=1,
            title="Hosts",
            description="Ids of the hosts' connections, one a line.",
        ),
        "policy": Param(
            {"max_unavailable": "25%"},
            type="object",
            title="Rollout policy",
            description="How many hosts may be down together; a rollback has no canary and no bake.",
        ),
    },
):
    OnPremRollbackOperator(
        task_id="rollback",
        model_name=MODEL,
        targets="{{ params.hosts }}",
        policy="{{ params.policy }}",
        **on_site(SITE),
    )
