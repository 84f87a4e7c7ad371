"""Retrain, prove the model on one host, and let a person decide whether the others follow.

    preflight ─► train ─► gate ─► sync ─► canary ─► approval ─┬─ Approve ─► fleet
    ready?       cloud    better? store   one host  a person  └─ else ────► take_back

A policy or a host that is wrong is found before the training is paid for. The gate refuses a candidate that
is worse than what is live: what follows is skipped, and the candidate is kept. Who answers sees the metrics
of both and how the canary does, under *Required actions* of the run. Nobody who waits for the model hears
of it before the whole fleet has it. If the run is not through within a day, the webhook of the connection
``hybrid_alerts`` is told; the other connections are those of ``hybrid_retrain``.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from airflow.sdk import DAG, AsyncCallback, CronTriggerTimetable, DeadlineAlert, DeadlineReference, Param

from hybrid_provider.notifications.hybrid import HybridNotifier
from hybrid_provider.operators.approval import ApprovalBranchOperator
from hybrid_provider.operators.deploy import OnPremDeployOperator
from hybrid_provider.operators.gate import ModelGateOperator
from hybrid_provider.operators.preflight import FleetPreflightOperator
from hybrid_provider.operators.rollback import OnPremRollbackOperator
from hybrid_provider.operators.sync import ModelArtifactSyncOperator
from hybrid_provider.operators.train import SageMakerTrainOperator
from hybrid_provider.sites import on_site

MODEL = "digits"
SITE = "onprem"
# How long the canary may wait for somebody; then it is taken back.
RESPONSE_TIMEOUT = timedelta(hours=12)

with DAG(
    "hybrid_retrain_with_approval",
    description="Train, judge, prove on a canary, ask a person, then the whole fleet or back.",
    # Unpausing pays for nothing; a plain "@weekly" would train at once in the first 16 hours of its week.
    schedule=CronTriggerTimetable("@weekly", timezone="UTC", run_immediately=timedelta(0)),
    catchup=False,
    max_active_runs=1,
    default_args={"retries": 2, "retry_delay": timedelta(minutes=1)},
    render_template_as_native_obj=True,
    tags=["hybrid", MODEL],
    doc_md=__doc__,
    deadline=DeadlineAlert(
        reference=DeadlineReference.DAGRUN_QUEUED_AT,
        interval=timedelta(days=1),
        callback=AsyncCallback(
            HybridNotifier,
            kwargs={
                "text": f"The retrained {MODEL} is not live within a day",
                "model_name": MODEL,
                "webhook_conn_id": "hybrid_alerts",
            },
        ),
    ),
    params={
        "data": Param(
            "s3://hybrid-models/digits/data/small/", type="string", pattern="^s3://", title="Training data"
        ),
        "hosts": Param(
            ["edge_01", "edge_02"],
            type="array",
            items={"type": "string"},
            minItems=1,
            title="Hosts",
            description="Ids of the ssh connections of the hosts, one a line; the first is the canary.",
        ),
        "hyperparameters": Param(
            {"epochs": 60, "hidden": 64, "learning_rate": 0.01}, type="object", title="Hyperparameters"
        ),
        "accuracy": Param(
            0.8, type="number", minimum=0, maximum=1, title="Accuracy", description="That it must reach."
        ),
        "policy": Param(
            {"waves": [1, "25%", "100%"], "bake_time": 60}, type="object", title="Rollout policy"
        ),
    },
) as dag:
    train = SageMakerTrainOperator(
        task_id="train",
        model_name=MODEL,
        source_dir=str(Path(__file__).parent / "digits"),
        entry_point="train.py",
        framework="sklearn",
        framework_version="1.4-2",
        py_version="py3",
        instance_type="ml.m5.large",
        inputs={"train": "{{ params.data }}"},
        hyperparameters="{{ params.hyperparameters }}",
        metric_definitions=[
            {"Name": "validation:accuracy", "Regex": r"validation:accuracy=([0-9.]+);"},
        ],
        max_runtime=timedelta(hours=1),
        check_interval=10,
    )
    gate = ModelGateOperator(
        task_id="gate",
        model_name=MODEL,
        candidate=train.output,
        thresholds={"validation:accuracy": {"min": "{{ params.accuracy }}"}},
        # A little worse is allowed: two trainings on the same data differ by that much.
        compare={"validation:accuracy": {"better": "higher", "by": -0.05}},
    )
    sync = ModelArtifactSyncOperator(task_id="sync", model_name=MODEL, artifact=train.output, **on_site(SITE))
    fleet_of_hosts = {
        "model_name": MODEL,
        "targets": "{{ params.hosts }}",
        "policy": "{{ params.policy }}",
        **on_site(SITE),
    }
    preflight = FleetPreflightOperator(task_id="preflight", **fleet_of_hosts)
    canary = OnPremDeployOperator(
        task_id="canary", release=sync.output, stop_after="canary", **fleet_of_hosts
    )
    approval = ApprovalBranchOperator(
        task_id="approval",
        subject=f"Put the retrained {MODEL} live on all hosts?",
        body="""
{% set verdict = ti.xcom_pull('gate') %}{% set canary = ti.xcom_pull('canary') %}
Release **{{ canary.release_id }}** passed the gate: {{ verdict.reason }}.

| metric | candidate | champion {{ verdict.champion_release or '(none yet)' }} |
|---|---|---|
{% for name, value in verdict.candidate.items() -%}
| {{ name }} | {{ value }} | {{ (verdict.champion or {}).get(name, '-') }} |
{% endfor %}
| host | state | was on |
|---|---|---|
{% for host in canary.targets -%}
| {{ host.name }} | {{ 'healthy: it serves the release' if host.state in ('SUCCEEDED', 'ALREADY_CURRENT')
   else host.error or 'waits for the answer' }} | {{ host.from_release or 'nothing' }} |
{% endfor %}
""",
        options=["Approve", "Reject"],
        options_mapping={"Approve": "fleet", "Reject": "take_back"},
        # What nobody answers is rejected.
        defaults="Reject",
        response_timeout=RESPONSE_TIMEOUT,
    )
    fleet = OnPremDeployOperator(
        task_id="fleet",
        release=sync.output,
        # The evidence, the page and the model's event say who it was.
        approved_by="{{ ti.xcom_pull('approval', key='answered_by') }}",
        **fleet_of_hosts,
    )
    take_back = OnPremRollbackOperator(task_id="take_back", only_from=sync.output, **fleet_of_hosts)

    preflight >> train
    gate >> sync
    canary >> approval >> [fleet, take_back]
