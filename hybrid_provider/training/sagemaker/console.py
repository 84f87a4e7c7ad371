"""Pages of the AWS console about a training job."""

from __future__ import annotations

from typing import Final
from urllib.parse import quote

from hybrid_provider.training.sagemaker.logs import LOG_GROUP

_DOMAINS: Final = {"aws-cn": "amazonaws.cn", "aws-us-gov": "amazonaws-us-gov.com"}


def job_page(arn: str) -> str:
    """The job's page, from its ARN: partition, region and name are in it."""
    host, region, job = _parts(arn)
    return f"{host}/sagemaker/home?region={region}#/jobs/{job}"


def log_page(arn: str) -> str:
    """The job's log streams in CloudWatch."""
    host, region, job = _parts(arn)
    # The console decodes the fragment twice, and writes % as $.
    group = _twice(LOG_GROUP)
    return (
        f"{host}/cloudwatch/home?region={region}#logsV2:log-groups/log-group/{group}"
        f"$3FlogStreamNameFilter$3D{_twice(f'{job}/')}"
    )


def _parts(arn: str) -> tuple[str, str, str]:
    _, partition, _, region, _, resource = arn.split(":", 5)
    domain = _DOMAINS.get(partition, "aws.amazon.com")
    return f"https://{region}.console.{domain}", region, resource.rpartition("/")[2]


def _twice(text: str) -> str:
    return quote(quote(text, safe=""), safe="").replace("%", "$")
