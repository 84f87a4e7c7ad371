"""Keep hosts on the release that they have, or let them go.

A pinned host is left alone by every rollout, whoever starts it, until it is unpinned; nothing is switched
here. On the page Model fleet *Pin or unpin* starts this DAG, as it has the model's asset and the tag
``hybrid:pin``. To have the button for another model, copy this file and change ``MODEL``.
"""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG, Param

from hybrid_provider.operators.pin import OnPremPinOperator
from hybrid_provider.sites import on_site

MODEL = "digits"
SITE = "onprem"

with DAG(
    "hybrid_pin",
    description="Pin hosts to the release that they have, or unpin them.",
    schedule=None,
    max_active_runs=1,
    default_args={"retries": 2, "retry_delay": timedelta(minutes=1)},
    render_template_as_native_obj=True,
    tags=["hybrid", "hybrid:pin", MODEL],
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
        "pin": Param(default=True, type="boolean", title="Pin", description="Off: unpin."),
    },
):
    OnPremPinOperator(
        task_id="pin",
        model_name=MODEL,
        targets="{{ params.hosts }}",
        pin="{{ params.pin }}",
        **on_site(SITE),
    )
