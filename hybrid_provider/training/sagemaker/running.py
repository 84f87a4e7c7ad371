"""Which training jobs run, a hundred with one call."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from hybrid_provider.training.sagemaker.errors import sagemaker_errors_explained

if TYPE_CHECKING:
    from collections.abc import Collection

_PAGE: Final = 100
"""The most that ListTrainingJobs gives at once."""
_JOBS_A_PAGE: Final = 10
"""Where a page holds fewer than so many of the jobs that are asked for, others fill it: looks cost less."""


def running_jobs(sagemaker: Any, names: Collection[str]) -> dict[str, str]:  # noqa: ANN401 - a boto3 client
    """Those of the named jobs that are InProgress, each with its phase and the time that it changed.

    A job that ends while pages are read moves the others up, so one that runs may be missed; one that has
    ended before is never found.
    """
    found: dict[str, str] = {}
    pages = sagemaker.get_paginator("list_training_jobs").paginate(
        StatusEquals="InProgress",
        SortBy="CreationTime",
        SortOrder="Descending",
        PaginationConfig={"PageSize": _PAGE},
    )
    with sagemaker_errors_explained("ListTrainingJobs", "running training jobs"):
        for page in islice(pages, 1 + len(names) // _JOBS_A_PAGE):
            for job in page["TrainingJobSummaries"]:
                if job["TrainingJobName"] in names:
                    phase = job.get("SecondaryStatus", "")
                    found[job["TrainingJobName"]] = f"{phase} {job['LastModifiedTime'].isoformat()}"
            if len(found) == len(names):
                break
    return found
