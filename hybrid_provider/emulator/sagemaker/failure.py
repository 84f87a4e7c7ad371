"""FailureReason: why a container failed, in at most 1024 characters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

_LONGEST: Final = 1024
_TRACEBACK: Final = "Traceback (most recent call last)"
# What the toolkit writes by itself. AWS's framework images have it fill in the exception, at the price of
# broken lines in the log; here the log is whole, and the exception is taken from it.
_NO_MESSAGE: Final = 'ErrorMessage ""'


def failure_reason(said: str, status: int, last_lines: Sequence[str]) -> str:
    """The FailureReason of a container.

    Args:
        said: What it left in ``/opt/ml/output/failure``; may be empty.
        status: Its exit status.
        last_lines: The end of its log.
    """
    exception = exception_in(last_lines)
    reason = said.replace(_NO_MESSAGE, f'ErrorMessage "{exception}"') if exception else said
    prefix, suffix = "AlgorithmError: ", f", exit code: {status}"
    reason = reason or exception or "the container left no reason"
    return f"{prefix}{reason[: _LONGEST - len(prefix) - len(suffix)]}{suffix}"


def exception_in(lines: Sequence[str]) -> str:
    """The exception that ends the last Python traceback among the lines; empty if there is none."""
    found = ""
    inside = False
    for line in lines:
        if line.startswith(_TRACEBACK):
            inside = True
        elif inside and line.strip() and not line[0].isspace():
            found = line
            inside = False
    return found
