"""Train for as long as a Param says, in the triggerer or in the worker, for tests of what happens meanwhile."""

from __future__ import annotations

from datetime import datetime, timedelta

from airflow.sdk import DAG, Asset, Param

from hybrid_provider.operators.train import SageMakerTrainOperator
from hybrid_provider.retries import TrainingRetryPolicy

SCRIPT = """
for n in $(seq 1 $TICKS); do echo "tick $n of the job"; sleep 0.5; done
echo model > $SAGEMAKER_BASE_DIR/model/m
exit $STATUS
"""

for deferrable in (True, False):
    with DAG(
        "train_deferred" if deferrable else "train_waiting",
        schedule=None,
        start_date=datetime(2026, 1, 1),
        catchup=False,
        params={"ticks": Param(20, type="integer"), "status": Param(0, type="integer")},
    ):
        SageMakerTrainOperator(
            task_id="train",
            model_name="ticks",
            image_uri="123456789012.dkr.ecr.us-east-1.amazonaws.com/ticks:1",
            instance_type="ml.m5.large",
            environment={"TICKS": "{{ params.ticks }}", "STATUS": "{{ params.status }}"},
            config={"AlgorithmSpecification": {"ContainerEntrypoint": ["sh", "-c", SCRIPT]}},
            max_runtime=timedelta(minutes=5),
            check_interval=1,
            deferrable=deferrable,
            retries=3,
            retry_delay=timedelta(seconds=1),
            retry_policy=TrainingRetryPolicy(),
            outlets=[Asset("hybrid://model/ticks")],
        )
