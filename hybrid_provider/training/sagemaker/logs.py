"""The CloudWatch lines of a training job's hosts, each once."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from hybrid_provider.training.backend import LogCursor, LogLine
from hybrid_provider.training.sagemaker.errors import code_of, sagemaker_errors_explained

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

LOG_GROUP: Final = "/aws/sagemaker/TrainingJobs"


def new_lines(logs: Any, job: str, cursor: LogCursor) -> tuple[tuple[LogLine, ...], LogCursor]:  # noqa: ANN401 - a boto3 client
    """The lines of all of a job's hosts after ``cursor``, by their time, and the cursor after them.

    The cursor is, per stream, the time of its last line in milliseconds and how many lines of that time were
    read. CloudWatch's own tokens expire after a day, and a wait may be longer.
    """
    lines: list[LogLine] = []
    after: dict[str, list[int]] = dict(cursor)
    with sagemaker_errors_explained("GetLogEvents", f"log of {job}"):
        for stream in _streams(logs, job):
            for event in _events(logs, stream, after.get(stream)):
                lines.append(_line(stream, event))
                at = int(event["timestamp"])
                last, seen = after.get(stream, [at, 0])
                after[stream] = [at, seen + 1 if at == last else 1]
    lines.sort(key=lambda line: line.at)
    return tuple(lines), LogCursor(after)


def last_lines(logs: Any, job: str, count: int) -> tuple[LogLine, ...]:  # noqa: ANN401 - a boto3 client
    """The newest lines of all of a job's hosts together, by their time."""
    lines: list[LogLine] = []
    with sagemaker_errors_explained("GetLogEvents", f"log of {job}"):
        for stream in _streams(logs, job):
            page = logs.get_log_events(
                logGroupName=LOG_GROUP, logStreamName=stream, startFromHead=False, limit=count
            )
            lines += [_line(stream, event) for event in page["events"]]
    return tuple(sorted(lines, key=lambda line: line.at)[-count:])


def _line(stream: str, event: Mapping[str, Any]) -> LogLine:
    """One event; a stream's name is ``<job>/algo-1-<epoch>``."""
    host = stream.rpartition("/")[2].rpartition("-")[0]
    at = datetime.fromtimestamp(int(event["timestamp"]) / 1000, UTC)
    return LogLine(host, at, str(event["message"]).rstrip("\r\n"))


def _streams(logs: Any, job: str) -> list[str]:  # noqa: ANN401 - a boto3 client
    """The job's streams, one a host; none before its first line."""
    from botocore.exceptions import ClientError

    pages = logs.get_paginator("describe_log_streams")
    try:
        return [
            str(stream["logStreamName"])
            for page in pages.paginate(logGroupName=LOG_GROUP, logStreamNamePrefix=f"{job}/")
            for stream in page.get("logStreams", ())
        ]
    except ClientError as error:
        if code_of(error) == "ResourceNotFoundException":
            return []
        raise


def _events(logs: Any, stream: str, position: list[int] | None) -> Iterator[dict[str, Any]]:  # noqa: ANN401 - see above
    """One stream's events after a position."""
    last, seen = position or [0, 0]
    request = {"logGroupName": LOG_GROUP, "logStreamName": stream, "startFromHead": True, "startTime": last}
    token: str | None = None
    while True:
        page = logs.get_log_events(**request, **({"nextToken": token} if token else {}))
        for event in page["events"]:
            if event["timestamp"] == last and seen > 0:
                seen -= 1
            else:
                yield event
        # The same token coming back is the end; an empty page may be followed by a full one.
        if page["nextForwardToken"] == token:
            return
        token = page["nextForwardToken"]
