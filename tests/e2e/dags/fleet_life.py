"""What becomes of a fleet in its life, without the training before it; releases come from the store by their ids."""

from __future__ import annotations

from datetime import datetime, timedelta

from airflow.sdk import DAG, Param, chain

from hybrid_provider.fleet.assets import model_asset
from hybrid_provider.operators.audit import FleetAuditOperator
from hybrid_provider.operators.deploy import OnPremDeployOperator
from hybrid_provider.operators.rollback import OnPremRollbackOperator

HOSTS = ["edge_01", "edge_02"]
POLICY = {"bake_time": 0, "min_healthy_time": 0, "healthy_deadline": 60, "drain": 0}
FLEET = {"model_name": "digits", "targets": HOSTS, "policy": POLICY}
SETTINGS = {
    "start_date": datetime(2026, 1, 1),
    "catchup": False,
    "params": {"release": Param("latest", type="string"), "policy": Param({}, type="object")},
    "render_template_as_native_obj": True,
}

with DAG("fleet_mapped", schedule=None, default_args={"model_name": "digits"}, **SETTINGS):
    OnPremDeployOperator.partial(task_id="deploy", release="{{ params.release }}", policy=POLICY).expand(
        targets=[[host] for host in HOSTS]
    )

# Each model on a host of its own, asked by a probe for its own link.
MODELS = [
    {
        "model_name": model,
        "targets": [host],
        "probe": {
            "kind": "command",
            "command": f"[ models/{model}/current -ef models/{model}/releases/$RELEASE_ID ]",
        },
    }
    for model, host in zip(("voices", "faces"), HOSTS, strict=True)
]
with DAG("fleet_models", schedule=None, **SETTINGS):
    OnPremDeployOperator.partial(
        task_id="deploy",
        release="latest",
        policy=POLICY,
        outlets=[model_asset(each["model_name"]) for each in MODELS],
    ).expand_kwargs(MODELS)

with DAG("fleet_life", schedule=None, **SETTINGS):
    chain(
        OnPremDeployOperator(
            task_id="deploy",
            release="{{ params.release }}",
            deferrable=True,
            # Airflow takes a task that resumes at once for a lost one; its retry goes on where it was.
            retries=2,
            retry_delay=timedelta(seconds=1),
            **{**FLEET, "policy": {**POLICY, "bake_time": 10}},
        ),
        FleetAuditOperator(task_id="look", rehash=True, **FLEET),
        OnPremRollbackOperator(task_id="back", **FLEET),
        FleetAuditOperator(task_id="look_again", **FLEET),
    )

with DAG("fleet_canary", schedule=None, **SETTINGS):
    canary = OnPremDeployOperator(
        task_id="canary", release="{{ params.release }}", stop_after="canary", **FLEET
    )
    OnPremRollbackOperator(task_id="back", only_from=canary.output, **FLEET)

# Killed by whoever waits for them; a worker that is lost is retried, and a deferred task resumes.
for dag_id, settings in {
    "fleet_killed": {},
    "fleet_lost": {"retries": 3, "retry_delay": timedelta(seconds=1)},
    "fleet_deferred": {"deferrable": True},
}.items():
    with DAG(dag_id, schedule=None, **SETTINGS):
        OnPremDeployOperator(
            task_id="deploy",
            model_name="digits",
            targets=HOSTS,
            release="{{ params.release }}",
            policy="{{ params.policy }}",
            **settings,
        )
