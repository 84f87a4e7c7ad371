"""Which runner stands for which training image."""

from __future__ import annotations

import re
import threading
from typing import TYPE_CHECKING, Final

from hybrid_provider.emulator.sagemaker.container import run_on_this_machine

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hybrid_provider.emulator.sagemaker.container import Container, Runner

SLEEP_IMAGE: Final = "123456789012.dkr.ecr.us-east-1.amazonaws.com/hybrid-sleep:1"
"""Sleeps for the hyperparameter ``seconds``, for ever without it, and leaves no model.

It is no process: thousands of its jobs can run at once.
"""
_SLEEP: Final = re.compile(r".*/hybrid-sleep(:.*)?")
_TERMINATED: Final = 143


def runner_of_image(image: str) -> Runner:
    """The one that sleeps for its image; this machine's Python for any other."""
    return Sleep if _SLEEP.fullmatch(image) else run_on_this_machine


class Sleep:
    """A container of the image that only sleeps; it says when it begins and when it has slept."""

    def __init__(self, container: Container) -> None:
        seconds = container.request.get("HyperParameters", {}).get("seconds")
        self._seconds = None if seconds is None else float(seconds)
        self._woken = threading.Event()
        self._terminated = False
        self._over = threading.Event()

    @property
    def stdout(self) -> Iterator[bytes]:
        """Two lines, the second after it has slept."""
        yield b"sleeping\n"
        self._woken.wait(self._seconds)
        if not self._terminated:
            yield b"slept\n"
        self._over.set()

    def wait(self, seconds: float | None = None) -> int | None:
        """0 if it slept as long as it should."""
        if not self._over.wait(seconds):
            return None
        return _TERMINATED if self._terminated else 0

    def wake(self) -> None:
        """It has slept long enough: its job completes."""
        self._woken.set()

    def terminate(self) -> None:
        """It ends before its time."""
        self._terminated = not self._over.is_set()
        self._woken.set()

    def end(self) -> int:
        """End it, if it sleeps still."""
        self.terminate()
        return _TERMINATED if self._terminated else 0
