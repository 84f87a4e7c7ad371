"""The containers of one job, one for each instance, run together."""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from hybrid_provider.emulator.sagemaker.logs import LogStream, follow

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from hybrid_provider.emulator.sagemaker.container import Container, Runner, Running

# Enough for a traceback and what a framework says after it.
_LAST_LINES: Final = 200


@dataclass(frozen=True)
class Failed:
    """A container that ended with a status other than 0.

    Attributes:
        host: Its host.
        status: Its exit status.
        last_lines: The end of its log.
    """

    host: str
    status: int
    last_lines: tuple[str, ...]


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
        self._last_lines: dict[str, deque[str]] = {}
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

    def failed(self) -> Failed | None:
        """The first container that ended with a status other than 0."""
        with self._lock:
            for host, status in self._statuses.items():
                if status != 0:
                    return Failed(host, status, tuple(self._last_lines[host]))
        return None

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
        last_lines: deque[str] = deque(maxlen=_LAST_LINES)
        with self._lock:
            self._last_lines[container.host] = last_lines

        def seen(line: str) -> None:
            last_lines.append(line)
            self._seen(line)

        follow(running.stdout, stream, seen)
        status = running.wait()
        with self._lock:
            self._statuses[container.host] = status if status is not None else 0
        if self.over():
            self._ended()
