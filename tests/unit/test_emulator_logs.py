"""The lines of a container on their way to its log stream."""

from __future__ import annotations

import threading
import time

from hybrid_provider.emulator.sagemaker import logs


class Received:
    """A log stream that keeps what was flushed."""

    def __init__(self) -> None:
        self.written: list[str] = []
        self.flushed: list[str] = []

    def write(self, message: str) -> None:
        self.written.append(message)

    def flush(self) -> None:
        self.flushed.extend(self.written)
        self.written.clear()


def test_a_container_that_ends_while_its_lines_are_flushed_is_followed_to_its_end(monkeypatch):
    """Its end may come between the flusher's wait and its next: both take as long here, three hundred times."""
    wait = 0.001
    monkeypatch.setattr(logs, "_FLUSH_SECONDS", wait)

    def output():
        yield b"sleeping\n"
        time.sleep(wait)
        yield b"slept\n"

    def follow_one(received: Received) -> None:
        for _ in range(300):
            logs.follow(output(), received, lambda line: None)

    received = Received()
    follower = threading.Thread(target=follow_one, args=(received,), daemon=True)
    follower.start()
    follower.join(60)
    assert not follower.is_alive()
    assert received.flushed == ["sleeping", "slept"] * 300
