"""Which failures of a training are worth another try, and when: a ``retry_policy`` for Airflow tasks."""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import ExceptionRetryPolicy, RetryAction, RetryRule

_HERE = "hybrid_provider.exceptions"


class TrainingRetryPolicy(ExceptionRetryPolicy):
    """Retry what passes by itself, each at its own pace, and nothing else.

    A training script that fails, a request that is refused and a job that somebody stopped fail the task at
    once: the same job would fail again, at the same price. The task's ``retries`` bound all of it.

    Args:
        capacity_delay: Before a retry when no instances, or no quota for them, were free.
        spot_delay: Before a retry after the spot market took the instances back.
        cloud_delay: Before a retry when the cloud throttled, failed or could not be reached.
    """

    def __init__(
        self,
        *,
        capacity_delay: timedelta = timedelta(minutes=15),
        spot_delay: timedelta = timedelta(minutes=5),
        cloud_delay: timedelta = timedelta(minutes=1),
    ) -> None:
        super().__init__(
            rules=[
                _retry("CapacityUnavailable", capacity_delay, "no instances were free"),
                _retry("TrainingInterrupted", spot_delay, "the spot market took the instances"),
                _retry("CloudUnavailable", cloud_delay, "the cloud did not answer as it should"),
                RetryRule(
                    exception=f"{_HERE}.TrainingError",
                    action=RetryAction.FAIL,
                    reason="the same training would end the same way",
                ),
            ]
        )


def _retry(error: str, delay: timedelta, reason: str) -> RetryRule:
    return RetryRule(exception=f"{_HERE}.{error}", retry_delay=delay, reason=reason)
