"""Ask every host what it really serves, each night and by *Audit* on the page Model fleet.

What the page shows of the hosts is written anew from their answers. The page starts the DAG that has the
model's asset and the tag ``hybrid:audit``. To have the button for another model, copy this file and change
``MODEL``.
"""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG, CronTriggerTimetable, Param

from hybrid_provider.operators.audit import FleetAuditOperator
from hybrid_provider.sites import on_site

MODEL = "digits"
SITE = "onprem"

with DAG(
    "hybrid_audit",
    description="Hold what every host serves against the store, and repair it where that is asked for.",
    # The first night after it was unpaused, and not at once where the last is less than three hours ago.
    schedule=CronTriggerTimetable("@daily", timezone="UTC", run_immediately=timedelta(0)),
    catchup=False,
    max_active_runs=1,
    default_args={"retries": 1, "retry_delay": timedelta(minutes=5)},
    render_template_as_native_obj=True,
    tags=["hybrid", "hybrid:audit", MODEL],
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
        "repair": Param(
            default=False,
            type="boolean",
            title="Repair",
            description="Deploy the expected release to the hosts that drifted.",
        ),
    },
):
    FleetAuditOperator(
        task_id="audit",
        model_name=MODEL,
        targets="{{ params.hosts }}",
        # Every file of the live release is read on its host and hashed again.
        rehash=True,
        repair="{{ params.repair }}",
        **on_site(SITE),
    )
