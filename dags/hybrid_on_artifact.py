"""Put a model live as soon as its artifact arrives in cloud storage, whoever trained it.

    a new model.tar.gz under the prefix ──► arrived ──► sync ──► deploy
    watched by the triggerer                            store    hosts, in waves

The triggerer looks under the prefix every ten seconds; each artifact fires one event of the asset, also if
the triggerer is restarted meanwhile. If several arrive during a run, the next one takes the newest.
The connections are those of ``hybrid_retrain``.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from airflow.sdk import DAG, Asset, AssetWatcher, task
from airflow.sdk.exceptions import AirflowFailException

from hybrid_provider.operators.deploy import OnPremDeployOperator
from hybrid_provider.operators.sync import ModelArtifactSyncOperator
from hybrid_provider.sites import on_site
from hybrid_provider.triggers.artifact_event import ModelArtifactEventTrigger

MODEL = "digits"
SITE = "onprem"
PREFIX = "s3://hybrid-models/digits/incoming/"

artifact = Asset(
    "digits_artifact",
    uri=PREFIX,
    watchers=[
        AssetWatcher(
            name="digits_arrivals",
            trigger=ModelArtifactEventTrigger(uri=PREFIX, newest="model.tar.gz", poke_interval=10),
        )
    ],
)

with DAG(
    "hybrid_on_artifact",
    description="Bring each new artifact on-premises and put it live on the hosts.",
    schedule=[artifact],
    start_date=datetime(2026, 1, 1),
    catchup=False,
    max_active_runs=1,
    default_args={"retries": 2, "retry_delay": timedelta(minutes=1)},
    tags=["hybrid", MODEL],
    doc_md=__doc__,
):

    @task(multiple_outputs=False)
    def arrived(triggering_asset_events: dict[Asset, list[Any]] | None = None) -> dict[str, Any]:
        """The newest of the artifacts whose arrival started this run."""
        if not triggering_asset_events:
            raise AirflowFailException("no artifact arrived; copy one under the prefix to start a run")
        artifacts = [event.extra["payload"]["artifact"] for event in triggering_asset_events[artifact]]
        return max(artifacts, key=lambda one: one["last_modified"])

    sync = ModelArtifactSyncOperator(task_id="sync", model_name=MODEL, artifact=arrived(), **on_site(SITE))
    deploy = OnPremDeployOperator(
        task_id="deploy",
        model_name=MODEL,
        release=sync.output,
        targets=["edge_01", "edge_02"],
        policy={"waves": [1, "100%"], "bake_time": 30},
        **on_site(SITE),
    )
