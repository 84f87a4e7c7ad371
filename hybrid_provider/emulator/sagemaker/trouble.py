"""What a cloud does now and then, here on demand: it throttles, it fails, it takes spot instances back."""

from __future__ import annotations

import threading
from collections import defaultdict, deque
from typing import TYPE_CHECKING

from hybrid_provider.emulator.sagemaker.errors import ServiceError, ThrottlingException

if TYPE_CHECKING:
    from collections.abc import Callable


class Trouble:
    """Nothing goes wrong until a method is called.

    Args:
        wake_jobs: Has every job look at what there is.
    """

    def __init__(self, wake_jobs: Callable[[], None]) -> None:
        self._wake_jobs = wake_jobs
        self._refusals: defaultdict[str, deque[ServiceError]] = defaultdict(deque)
        self._lock = threading.Lock()
        self._no_spot_instances = threading.Event()

    def throttle(self, operation: str, times: int = 1) -> None:
        """Answer the next calls of ``operation`` (``DescribeTrainingJob``) with ThrottlingException."""
        self._refuse(operation, ThrottlingException("Rate exceeded"), times)

    def fail(self, operation: str, times: int = 1) -> None:
        """Answer the next calls of ``operation`` with InternalFailure, HTTP status 500."""
        self._refuse(operation, ServiceError("We encountered an internal error. Please try again."), times)

    def take_spot_instances(self) -> None:
        """Take the instances of all spot jobs, and give none to any until :meth:`give_spot_instances`."""
        self._no_spot_instances.set()
        self._wake_jobs()

    def give_spot_instances(self) -> None:
        """Have spot instances for everyone again."""
        self._no_spot_instances.clear()
        self._wake_jobs()

    def end(self) -> None:
        """Have nothing go wrong any more."""
        with self._lock:
            self._refusals.clear()
        self.give_spot_instances()

    @property
    def spot_instances(self) -> bool:
        """Whether there are spot instances."""
        return not self._no_spot_instances.is_set()

    def before(self, operation: str) -> None:
        """Raise the ServiceError that this call of ``operation`` is to be answered with, if there is one."""
        with self._lock:
            refusals = self._refusals[operation]
            error = refusals.popleft() if refusals else None
        if error is not None:
            raise error

    def _refuse(self, operation: str, error: ServiceError, times: int) -> None:
        with self._lock:
            self._refusals[operation].extend([error] * times)
