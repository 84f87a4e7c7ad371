"""Put a release of the store live on the hosts, in waves that undo themselves.

On the page Model fleet *Deploy a release* starts this DAG, as it has the model's asset and the tag
``hybrid:deploy``, with the release and the hosts that were chosen there. To have the buttons for another
model, copy this file and change ``MODEL``.
"""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG, Param

from hybrid_provider.operators.deploy import OnPremDeployOperator
from hybrid_provider.sites import on_site

MODEL = "digits"
SITE = "onprem"

with DAG(
    "hybrid_deploy",
    description="Put a release of the store live on the hosts, in waves that undo themselves.",
    schedule=None,
    max_active_runs=1,
    default_args={"retries": 2, "retry_delay": timedelta(minutes=1)},
    render_template_as_native_obj=True,
    tags=["hybrid", "hybrid:deploy", MODEL],
    doc_md=__doc__,
    params={
        "release": Param(
            "latest",
            type="string",
            minLength=1,
            title="Release",
            description="A release's id, latest for the newest in the store, or a channel of the store.",
        ),
        "hosts": Param(
            ["edge_01", "edge_02"],
            type="array",
            items={"type": "string"},
            minItems=1,
            title="Hosts",
            description="Ids of the hosts' connections, one a line; the first is the canary.",
        ),
        "policy": Param(
            {"waves": [1, "25%", "100%"], "bake_time": 60},
            type="object",
            title="Rollout policy",
            description="Waves, and for how many seconds the canary must serve before the others follow.",
        ),
    },
):
    OnPremDeployOperator(
        task_id="deploy",
        model_name=MODEL,
        release="{{ params.release }}",
        targets="{{ params.hosts }}",
        policy="{{ params.policy }}",
        **on_site(SITE),
    )
