"""Work done ahead on threads, in order and in bounded memory."""

from __future__ import annotations

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

T = TypeVar("T")


def run_ahead(
    items: Iterator[T], batch: int, batches: int, stop: Callable[[], None] | None = None
) -> Generator[T, None, None]:
    """The same items, made on a thread of their own, up to ``batches`` of ``batch`` items ahead.

    Close the generator to stop; it waits for the batch that is being made. If that may wait for something,
    ``stop`` must end it.
    """

    def make_batch() -> list[T]:
        return list(islice(items, batch))

    with ThreadPoolExecutor(1, thread_name_prefix="ahead") as pool:
        pending = deque(pool.submit(make_batch) for _ in range(batches))
        try:
            while made := pending.popleft().result():
                pending.append(pool.submit(make_batch))
                yield from made
        except BaseException:
            if stop is not None:
                stop()
            raise
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
