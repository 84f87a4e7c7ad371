"""ListTrainingJobs: which jobs, in which order, which page of them."""

from __future__ import annotations

import base64
import binascii
import json
from typing import TYPE_CHECKING, Any, Final

from hybrid_provider.emulator.sagemaker.describe import summary
from hybrid_provider.emulator.sagemaker.errors import ValidationException

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from hybrid_provider.emulator.sagemaker.job import TrainingJob

_DEFAULT_PAGE: Final = 10


def page_of_jobs(jobs: Iterable[TrainingJob], request: dict[str, Any]) -> dict[str, Any]:
    """The reply of ListTrainingJobs; newest first, ten at a time, unless the request says otherwise.

    Raises:
        ValidationException: The NextToken is none of ours, or of another request.
    """
    key = {"Name": "TrainingJobName", "Status": "TrainingJobStatus"}.get(
        request.get("SortBy", ""), "CreationTime"
    )
    found = [entry for entry in map(summary, jobs) if _matches(entry, request)]
    # The name breaks ties, so that pages neither repeat nor miss a job.
    found.sort(
        key=lambda entry: (entry[key], entry["TrainingJobName"]),
        reverse=request.get("SortOrder", "Descending") == "Descending",
    )
    start = _read_token(request)
    end = start + int(request.get("MaxResults", _DEFAULT_PAGE))
    return {
        "TrainingJobSummaries": found[start:end],
        "NextToken": _write_token(end, request) if end < len(found) else None,
    }


def _matches(entry: dict[str, Any], request: dict[str, Any]) -> bool:
    def between(moment: datetime, name: str) -> bool:
        after, before = request.get(f"{name}After"), request.get(f"{name}Before")
        return (after is None or moment > after) and (before is None or moment < before)

    return (
        request.get("NameContains", "").lower() in entry["TrainingJobName"].lower()
        and request.get("StatusEquals", entry["TrainingJobStatus"]) == entry["TrainingJobStatus"]
        and between(entry["CreationTime"], "CreationTime")
        and between(entry["LastModifiedTime"], "LastModifiedTime")
        # Warm pools and training plans are not emulated: no job has either.
        and "WarmPoolStatusEquals" not in request
        and "TrainingPlanArnEquals" not in request
    )


def _filters(request: dict[str, Any]) -> dict[str, str]:
    return {
        name: str(value) for name, value in sorted(request.items()) if name not in {"NextToken", "MaxResults"}
    }


def _write_token(start: int, request: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps([start, _filters(request)]).encode()).decode()


def _read_token(request: dict[str, Any]) -> int:
    token = request.get("NextToken")
    if token is None:
        return 0
    try:
        start, filters = json.loads(base64.urlsafe_b64decode(token))
    except (binascii.Error, ValueError, TypeError):
        raise ValidationException("Invalid NextToken") from None
    if filters != _filters(request):
        raise ValidationException("Invalid NextToken: it belongs to a request with other filters")
    return int(start)
