"""Syncs and deploys what was trained before, for tests of what comes after training."""

from __future__ import annotations

from datetime import datetime

from airflow.sdk import DAG, Param

from hybrid_provider.operators.deploy import OnPremDeployOperator
from hybrid_provider.operators.sync import ModelArtifactSyncOperator

with DAG(
    "deploy_only",
    schedule=None,
    start_date=datetime(2026, 1, 1),
    catchup=False,
    render_template_as_native_obj=True,
    params={
        "artifact": Param("", type="string"),
        "hosts": Param([], type="array"),
        "policy": Param({}, type="object"),
    },
):
    sync = ModelArtifactSyncOperator(task_id="sync", model_name="digits", artifact="{{ params.artifact }}")
    OnPremDeployOperator(
        task_id="deploy",
        model_name="digits",
        release=sync.output,
        targets="{{ params.hosts }}",
        policy="{{ params.policy }}",
    )
