"""This machine's clock, where an object store refuses what is signed by it."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

_SKEWED = "RequestTimeTooSkewed"
# What S3 allows; its answer to a HEAD has no body that would tell the reason.
_ALLOWED = timedelta(minutes=15)
_SERVER_TIME = re.compile(r"<ServerTime>([^<]{1,40})</ServerTime>")


def clock_refused(date: str | None) -> str | None:
    """What is wrong with this machine's clock, by the ``Date`` of a refusal; None where S3 would allow it."""
    ahead = _ahead(date)
    return None if ahead is None or abs(ahead) <= _ALLOWED else _said(ahead)


def clock_said_refused(answer: str) -> str | None:
    """What is wrong with this machine's clock, by a refusal's text; None where that has another reason."""
    if _SKEWED not in answer:
        return None
    named = _SERVER_TIME.search(answer)
    return _said(_ahead(named[1] if named else None))


def _ahead(date: str | None) -> timedelta | None:
    """How far this machine's clock is ahead of a server's, which wrote its own as HTTP or ISO 8601 has it."""
    for read in (parsedate_to_datetime, datetime.fromisoformat):
        try:
            return datetime.now(UTC) - read(date or "").astimezone(UTC)
        except ValueError:
            continue
    return None


def _said(ahead: timedelta | None) -> str:
    off = "not that of the object store"
    if ahead is not None:
        way = "ahead of" if ahead > timedelta() else "behind"
        off = (
            f"{timedelta(seconds=round(abs(ahead).total_seconds()))} (h:mm:ss) {way} that of the object store"
        )
    return (
        f"this machine's clock is {off}, which refuses what is signed more than 15 minutes off; "
        "let NTP set it (timedatectl set-ntp true), then run again"
    )
