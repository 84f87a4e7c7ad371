"""The containers of one job, one for each instance, run together."""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING, Any

from hybrid_provider.emulator.sagemaker.logs import LogStream, follow

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from hybrid_provider.emulator.sagemaker.container import Container, Runner, Running

_log = logging.getLogger(__name__)


class Cluster:
    """Starts every container and follows its output.

    Args:
        containers: One for each instance.
        runner: Starts one of them.
        logs: A boto3 client for CloudWatch Logs.
        seen: Is called with each line of output, from several threads.
        ended: Is called once all containers have ended, or one has failed.
    """

    def __init__(
        self,
        containers: Sequence[Container],
        runner: Runner,
        logs: Any,  # noqa: ANN401 - a boto3 client
        seen: Callable[[str], None],
        ended: Callable[[], None],
    ) -> None:
        self._logs = logs
        self._seen = seen
        self._ended = ended
        self._statuses: dict[str, int] = {}
        self._lock = threading.Lock()
        self._running: dict[str, Running] = {}
        try:
            for container in containers:
                self._running[container.host] = runner(container)
        except BaseException:
            self.end()
            raise
        self._followers = [
            threading.Thread(target=self._follow, args=(container,), name=container.host, daemon=True)
            for container in containers
        ]
        for follower in self._followers:
            follower.start()

    def failed(self) -> tuple[str, int] | None:
        """The first host that ended with a status other than 0, and that status."""
        with self._lock:
            return next(((host, status) for host, status in self._statuses.items() if status != 0), None)

    def over(self) -> bool:
        """All have ended, or one has failed: the others wait for it in vain."""
        with self._lock:
            return len(self._statuses) == len(self._running) or any(self._statuses.values())

    def terminate(self) -> None:
        """Ask all containers to end."""
        for running in self._running.values():
            running.terminate()

    def end(self) -> None:
        """End all containers and have their last lines sent."""
        for running in self._running.values():
            running.end()

    def join(self) -> None:
        """Wait until all output was sent."""
        for follower in self._followers:
            follower.join()

    def _follow(self, container: Container) -> None:
        running = self._running[container.host]
        stream = LogStream(
            self._logs, f"{container.request['TrainingJobName']}/{container.host}-{int(time.time())}"
        )
        follow(running.stdout, stream, self._seen)
        status = running.wait()
        with self._lock:
            self._statuses[container.host] = status if status is not None else 0
        if self.over():
            self._ended()
