"""Retrain the digits model each week in the cloud and put it live on the site's own hosts.

    preflight ──► train ──► arrived ──► sync ──► deploy
    hosts ready?  SageMaker  S3         store    hosts, in waves

What differs between two runs is a Param, a field of the form behind the Trigger button of the UI. Everything
else is read from Airflow's connections: ``aws_default`` (credentials, region, and in its ``service_config``
the execution role and the output path) and one ``ssh`` connection per host (address, user, key, host key, and
in its extra the base folder, the reload command and the URL to probe).
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from airflow.sdk import DAG, CronTriggerTimetable, Param

from hybrid_provider.operators.deploy import OnPremDeployOperator
from hybrid_provider.operators.preflight import FleetPreflightOperator
from hybrid_provider.operators.sync import ModelArtifactSyncOperator
from hybrid_provider.operators.train import SageMakerTrainOperator
from hybrid_provider.sensors.artifact import ModelArtifactSensor
from hybrid_provider.sites import on_site

MODEL = "digits"
# The queue of the worker that stands on the site, next to the store and the hosts. Executors without queues,
# such as the LocalExecutor, take no notice of it.
SITE = "onprem"

with DAG(
    "hybrid_retrain",
    description="Train in SageMaker, bring the model on-premises, put it live on the hosts.",
    # Unpausing pays for nothing; a plain "@weekly" would train at once in the first 16 hours of its week.
    schedule=CronTriggerTimetable("@weekly", timezone="UTC", run_immediately=timedelta(0)),
    catchup=False,
    max_active_runs=1,
    default_args={"retries": 2, "retry_delay": timedelta(minutes=1)},
    render_template_as_native_obj=True,
    tags=["hybrid", MODEL],
    doc_md=__doc__,
    params={
        "data": Param(
            "s3://hybrid-models/digits/data/small/",
            type="string",
            pattern="^s3://",
            title="Training data",
            description="S3 prefix with CSV files: label, then 64 grey values.",
        ),
        "hosts": Param(
            ["edge_01", "edge_02"],
            type="array",
            items={"type": "string"},
            minItems=1,
            title="Hosts",
            description="Ids of the ssh connections of the hosts, one a line; the first is the canary.",
        ),
        "instance_type": Param(
            "ml.m5.large",
            type="string",
            examples=["ml.m5.large", "ml.m5.xlarge", "ml.c5.xlarge", "ml.g4dn.xlarge"],
            title="Instance type",
        ),
        "hyperparameters": Param(
            {"epochs": 60, "hidden": 64, "learning_rate": 0.01},
            type="object",
            title="Hyperparameters",
            description="Passed to train.py as arguments.",
        ),
        "policy": Param(
            {"waves": [1, "25%", "100%"], "bake_time": 60},
            type="object",
            title="Rollout policy",
            description="Waves, and for how many seconds the canary must serve before the others follow.",
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
        instance_type="{{ params.instance_type }}",
        inputs={"train": "{{ params.data }}"},
        hyperparameters="{{ params.hyperparameters }}",
        metric_definitions=[
            {"Name": "validation:accuracy", "Regex": r"validation:accuracy=([0-9.]+);"},
        ],
        max_runtime=timedelta(hours=1),
        check_interval=10,
    )
    arrived = ModelArtifactSensor(
        task_id="arrived",
        artifact=train.output,
        poke_interval=5,
        timeout=timedelta(minutes=10).total_seconds(),
    )
    sync = ModelArtifactSyncOperator(
        task_id="sync", model_name=MODEL, artifact=arrived.output, **on_site(SITE)
    )
    fleet = {
        "model_name": MODEL,
        "targets": "{{ params.hosts }}",
        "policy": "{{ params.policy }}",
        **on_site(SITE),
    }
    deploy = OnPremDeployOperator(task_id="deploy", release=sync.output, **fleet)
    # A policy or a host that is wrong is found before the training is paid for.
    FleetPreflightOperator(task_id="preflight", **fleet) >> train
