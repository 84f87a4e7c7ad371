"""This provider's operators among the amazon provider's and Airflow's own, XComs passing both ways."""

from __future__ import annotations

import os
import zlib
from datetime import datetime, timedelta
from pathlib import Path

from airflow.providers.amazon.aws.operators.s3 import S3CopyObjectOperator
from airflow.providers.amazon.aws.operators.sagemaker import SageMakerTrainingOperator
from airflow.providers.amazon.aws.sensors.sagemaker import SageMakerTrainingSensor
from airflow.providers.standard.operators.bash import BashOperator
from airflow.providers.standard.operators.python import PythonOperator
from airflow.sdk import DAG

from hybrid_provider.operators.deploy import OnPremDeployOperator
from hybrid_provider.operators.sync import ModelArtifactSyncOperator
from hybrid_provider.operators.train import SageMakerTrainOperator
from hybrid_provider.sensors.artifact import ModelArtifactSensor

BUCKET = "hybrid-models"


def choose_hyperparameters():
    return {"epochs": 20, "hidden": 16}


def amazon_config(job, run):
    """A config of the amazon operator that trains from the source and the data of the job before it."""
    import boto3

    described = boto3.client("sagemaker").describe_training_job(TrainingJobName=job)
    keys = ("AlgorithmSpecification", "RoleArn", "InputDataConfig", "ResourceConfig", "StoppingCondition")
    return {
        **{key: described[key] for key in keys},
        "TrainingJobName": f"{job[:40]}-again-{zlib.crc32(run.encode())}",
        "HyperParameters": described["HyperParameters"],
        "OutputDataConfig": {"S3OutputPath": f"s3://{BUCKET}/mixed/jobs"},
    }


def serving(deployed):
    return {target["name"]: target["to_release"] for target in deployed["targets"]}


with DAG(
    "mixed", schedule=None, start_date=datetime(2026, 1, 1), catchup=False, render_template_as_native_obj=True
):
    data = S3CopyObjectOperator(
        task_id="data",
        source_bucket_name=BUCKET,
        source_bucket_key="digits/data/small/digits.csv",
        dest_bucket_name=BUCKET,
        dest_bucket_key="mixed/data/digits.csv",
    )
    choose = PythonOperator(task_id="choose", python_callable=choose_hyperparameters)
    train = SageMakerTrainOperator(
        task_id="train",
        model_name="mixed",
        source_dir=str(Path(os.environ["AIRFLOW__CORE__DAGS_FOLDER"]) / "digits"),
        entry_point="train.py",
        framework="sklearn",
        framework_version="1.4-2",
        instance_type="ml.m5.large",
        inputs={"train": f"s3://{BUCKET}/mixed/data/"},
        hyperparameters=choose.output,
        max_runtime=timedelta(minutes=10),
    )
    seen = SageMakerTrainingSensor(
        task_id="seen", job_name="{{ ti.xcom_pull('train')['job'] }}", poke_interval=1
    )
    config = PythonOperator(
        task_id="config",
        python_callable=amazon_config,
        op_args=["{{ ti.xcom_pull('train')['job'] }}", "{{ run_id }}"],
    )
    again = SageMakerTrainingOperator(
        task_id="again", config=config.output, check_interval=1, print_log=False
    )
    arrived = ModelArtifactSensor(
        task_id="arrived",
        artifact="{{ ti.xcom_pull('again')['Training']['ModelArtifacts']['S3ModelArtifacts'] }}",
        poke_interval=1,
    )
    sync = ModelArtifactSyncOperator(task_id="sync", model_name="digits", artifact=arrived.output)
    listing = BashOperator(task_id="listing", bash_command="ls {{ ti.xcom_pull('sync')['path'] }}")
    deploy = OnPremDeployOperator(
        task_id="deploy",
        model_name="digits",
        release=sync.output,
        targets=["edge_01"],
        policy={"bake_time": 1, "min_healthy_time": 1, "healthy_deadline": 15},
    )
    report = PythonOperator(task_id="report", python_callable=serving, op_args=[deploy.output])

    data >> train >> seen >> config
    again >> arrived
    sync >> listing
