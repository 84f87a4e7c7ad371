"""What the page's buttons start for the fleet of two emulated hosts."""

from __future__ import annotations

from airflow.sdk import DAG

from hybrid_provider.operators.deploy import OnPremDeployOperator
from hybrid_provider.operators.rollback import OnPremRollbackOperator

FLEET = {
    "model_name": "digits",
    "targets": "{{ params.hosts }}",
    "policy": {"bake_time": 0, "min_healthy_time": 0, "drain": 0},
}
HOSTS = ["edge_01", "edge_02"]

with DAG(
    "two_hosts_deploy",
    schedule=None,
    tags=["hybrid:deploy"],
    params={"hosts": HOSTS, "release": "latest"},
    render_template_as_native_obj=True,
):
    OnPremDeployOperator(task_id="deploy", release="{{ params.release }}", **FLEET)

with DAG(
    "two_hosts_rollback",
    schedule=None,
    tags=["hybrid:rollback"],
    params={"hosts": HOSTS},
    render_template_as_native_obj=True,
):
    OnPremRollbackOperator(task_id="rollback", **FLEET)
