"""Work done on a thread behind the caller's or beside it, in order and in bounded memory."""

from __future__ import annotations

import os
import sys
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import islice
from threading import Condition
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator
    from concurrent.futures import Future

T = TypeVar("T")

# By Linux's weights, nine times the share of a processor for whoever does not step back.
_STEPS_BACK = 10


def take_behind(
    items: Iterator[T],
    take: Callable[[Iterator[T]], None],
    *,
    batch: int,
    batches: int,
    stop: Callable[[], None] | None = None,
) -> None:
    """Let ``take`` have the items on a thread of its own, at most ``batches`` of ``batch`` items behind.

    The caller's work is what the others wait for, so its thread goes first where they want its processor.
    Measured for an archive of weights, with two processors for all and the server too: 8 % less time where
    whoever downloads steps back as well, and none where only this thread does.

    Args:
        items: Made on the caller's thread.
        take: Takes them. An error of ``items`` comes to it in the place of the batch that it is in.
        batch: How many are handed over at a time.
        batches: How many times that may be waiting.
        stop: Called when ``take`` has failed; ends the caller's wait for the next item.

    Raises:
        BaseException: What ``take`` raises, or else ``items``.
    """
    belt: _Belt[T] = _Belt(batches)

    def run() -> None:
        try:
            take(belt.taken())
        except BaseException:
            if stop is not None:
                stop()
            raise
        finally:
            belt.leave()

    failure: BaseException | None = None
    with ThreadPoolExecutor(1, thread_name_prefix="behind", initializer=step_back) as pool:
        outcome = pool.submit(run)
        try:
            while (made := list(islice(items, batch))) and belt.put(made):
                pass
        except BaseException as error:  # noqa: BLE001 - raised below, once the batches before it are taken
            failure = error
        belt.end(failure)
        outcome.result()
    if failure is not None:
        raise failure


def also_taken(items: Iterable[T], take: Callable[[T], object]) -> Generator[T, None, None]:
    """The same items, each taken on a thread as well while the caller works on it; at most one is behind.

    Measured for an archive of weights: its CRC took 2 % of a sync's time on the caller's thread, and its
    SHA-256 7 %.

    Args:
        items: To be gone through; the last one is taken when the end is reached.
        take: Called with each, in order. Its error comes to the caller with the next item, or the end.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="beside", initializer=step_back) as pool:
        before: Future[object] | None = None
        for item in items:
            if before is not None:
                before.result()
            before = pool.submit(take, item)
            yield item
        if before is not None:
            before.result()


def step_back() -> None:
    """Let other threads of the process go before this one; for threads that this package began."""
    if sys.platform == "linux":  # elsewhere it would be the whole process
        with suppress(OSError):  # a sandbox may refuse it
            os.nice(_STEPS_BACK)


class _Belt(Generic[T]):
    """Batches from one thread to another."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._batches: deque[list[T]] = deque()
        self._changed = Condition()
        self._has_ended = False
        self._error: BaseException | None = None
        self._is_left = False

    def put(self, batch: list[T]) -> bool:
        """Hand a batch over when there is room for it; whether anybody takes it."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_left or len(self._batches) < self._most)
            self._batches.append(batch)
            self._changed.notify()
            return not self._is_left

    def end(self, error: BaseException | None) -> None:
        """Nothing comes any more but this error."""
        with self._changed:
            self._has_ended, self._error = True, error
            self._changed.notify()

    def leave(self) -> None:
        """Nothing is taken any more."""
        with self._changed:
            self._is_left = True
            self._changed.notify()

    def taken(self) -> Iterator[T]:
        """The items, in order, as they come."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._batches or self._has_ended)
                if not self._batches:
                    break
                batch = self._batches.popleft()
                self._changed.notify()
            yield from batch
        if self._error is not None:
            raise self._error
