"""A container's output, line by line, to CloudWatch Logs."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from typing import TYPE_CHECKING, Any, Final

from botocore.exceptions import BotoCoreError, ClientError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_log = logging.getLogger(__name__)

LOG_GROUP: Final = "/aws/sagemaker/TrainingJobs"
_FLUSH_SECONDS: Final = 0.2
# PutLogEvents takes 10,000 events or 1 MiB, 26 bytes added for each, and 256 KiB with them in one.
_MOST_EVENTS: Final = 10_000
_MOST_BYTES: Final = 1_048_576
_EVENT_OVERHEAD: Final = 26
_LONGEST_EVENT: Final = 256 * 1024


class LogStream:
    """One log stream, made with its first line; lines are sent in batches while they arrive."""

    def __init__(self, client: Any, name: str) -> None:  # noqa: ANN401 - a boto3 client
        self._client = client
        self.name = name
        self._waiting: list[dict[str, Any]] = []
        self._lock = threading.Lock()
        self._created = False

    def write(self, message: str) -> None:
        """Add one line, with the time of now."""
        fitting = message.encode()[: _LONGEST_EVENT - _EVENT_OVERHEAD].decode(errors="ignore")
        # An event must not be empty.
        event = {"timestamp": int(time.time() * 1000), "message": fitting or " "}
        with self._lock:
            self._waiting.append(event)

    def flush(self) -> None:
        """Send what is waiting."""
        with self._lock:
            events, self._waiting = self._waiting, []
        if events and not self._created:
            self._create()
        for batch in batches(events):
            self._client.put_log_events(logGroupName=LOG_GROUP, logStreamName=self.name, logEvents=batch)

    def _create(self) -> None:
        for make, names in (
            (self._client.create_log_group, {"logGroupName": LOG_GROUP}),
            (self._client.create_log_stream, {"logGroupName": LOG_GROUP, "logStreamName": self.name}),
        ):
            with contextlib.suppress(self._client.exceptions.ResourceAlreadyExistsException):
                make(**names)
        self._created = True


def follow(output: Iterable[bytes], stream: LogStream, seen: Callable[[str], None]) -> None:
    """Send all lines of ``output`` until its end, also to ``seen``, at most ``_FLUSH_SECONDS`` late.

    Lines that cannot be sent are lost, and the program's log says so: a container never waits for its logs.
    """
    arrived, ended = threading.Event(), threading.Event()

    def flush_what_arrives() -> None:
        # A thousand silent jobs must cost nothing: this wakes for lines only, and waits a little for more.
        # The end is looked for after the clear: it may have come between the wait and the clear, and with
        # it the last wake.
        while not ended.is_set():
            arrived.wait()
            ended.wait(_FLUSH_SECONDS)
            arrived.clear()
            _try_to_flush(stream)

    flusher = threading.Thread(target=flush_what_arrives, daemon=True)
    flusher.start()
    for line in output:
        text = line.decode(errors="replace").rstrip("\r\n")
        stream.write(text)
        seen(text)
        arrived.set()
    ended.set()
    arrived.set()
    flusher.join()
    _try_to_flush(stream)


def _try_to_flush(stream: LogStream) -> None:
    try:
        stream.flush()
    except (BotoCoreError, ClientError) as error:
        _log.warning("lines of %s are lost: %s", stream.name, error)


def batches(events: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """The events in order, in batches that PutLogEvents takes."""
    found: list[list[dict[str, Any]]] = []
    size = 0
    for event in events:
        cost = len(event["message"].encode()) + _EVENT_OVERHEAD
        if not found or len(found[-1]) == _MOST_EVENTS or size + cost > _MOST_BYTES:
            found.append([])
            size = 0
        found[-1].append(event)
        size += cost
    return found
