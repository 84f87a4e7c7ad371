"""Buttons of the task in Airflow's UI that lead to its training job in the AWS console."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.sdk import BaseOperatorLink
from airflow.sdk.execution_time.xcom import XCom

from hybrid_provider.training.sagemaker.console import job_page, log_page

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator, Context
    from airflow.sdk.types import TaskInstanceKey

    from hybrid_provider.training.backend import JobRef

LINKS_KEY = "training_job"


def publish_links(context: Context, job: JobRef) -> None:
    """Make the job known to the links, as soon as there is one."""
    context["ti"].xcom_push(key=LINKS_KEY, value=job.id)


class TrainingJobLink(BaseOperatorLink):
    """The job's page in the SageMaker console."""

    name = "SageMaker training job"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:  # noqa: ARG002 - Airflow's signature
        """The page's URL, empty while there is no job."""
        arn = XCom.get_value(ti_key=ti_key, key=LINKS_KEY)
        return job_page(str(arn)) if arn else ""


class TrainingLogLink(BaseOperatorLink):
    """The job's log in the CloudWatch console."""

    name = "CloudWatch log"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:  # noqa: ARG002 - Airflow's signature
        """The page's URL, empty while there is no job."""
        arn = XCom.get_value(ti_key=ti_key, key=LINKS_KEY)
        return log_page(str(arn)) if arn else ""
