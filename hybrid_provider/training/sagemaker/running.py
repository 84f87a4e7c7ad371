"""Which training jobs run, a hundred with one call."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from hybrid_provider.training.sagemaker.errors import sagemaker_errors_explained

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import datetime

_PAGE: Final = 100
"""The most that ListTrainingJobs gives at once."""
_JOBS_A_PAGE: Final = 10
"""Where a page holds fewer than so many of the jobs that are asked for, others fill it: looks cost less."""
_PAGES_OF_CHANGES: Final = 2
"""Where so many jobs changed at once, the next full listing finds the rest."""


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
                    found[job["TrainingJobName"]] = _mark(job)
            if len(found) == len(names):
                break
    return found


def ended_jobs(sagemaker: Any, names: Collection[str], since: datetime) -> dict[str, str]:  # noqa: ANN401 - likewise
    """Those of the named jobs that are not InProgress and changed after ``since``, each with its mark."""
    pages = sagemaker.get_paginator("list_training_jobs").paginate(
        LastModifiedTimeAfter=since, PaginationConfig={"PageSize": _PAGE}
    )
    with sagemaker_errors_explained("ListTrainingJobs", "training jobs that ended lately"):
        return {
            job["TrainingJobName"]: _mark(job)
            for page in islice(pages, _PAGES_OF_CHANGES)
            for job in page["TrainingJobSummaries"]
            if job["TrainingJobStatus"] != "InProgress" and job["TrainingJobName"] in names
        }


def _mark(job: dict[str, Any]) -> str:
    return f"{job.get('SecondaryStatus', '')} {job['LastModifiedTime'].isoformat()}"
