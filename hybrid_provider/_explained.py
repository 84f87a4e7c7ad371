"""Turns the core's errors into what Airflow does with a task, without a traceback around them."""

from __future__ import annotations

from functools import wraps
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from airflow.sdk.exceptions import AirflowFailException

from hybrid_provider.exceptions import HybridError

if TYPE_CHECKING:
    from collections.abc import Callable

P = ParamSpec("P")
T = TypeVar("T")


def explained(method: Callable[P, T]) -> Callable[P, T]:
    """Decorate ``execute`` (or what resumes it) of an operator.

    An error that may pass by itself stays as it is, so that Airflow retries and a retry policy sees its
    class; any other becomes an ``AirflowFailException``, which fails the task at once. Both are raised from
    here with no chain and no frames of the core: the message is written to stand alone.
    """

    @wraps(method)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return method(*args, **kwargs)
        except HybridError as error:
            failure = error if error.retryable else AirflowFailException(str(error))
        failure.__context__ = failure.__cause__ = None
        raise failure.with_traceback(None)

    return wrapper
