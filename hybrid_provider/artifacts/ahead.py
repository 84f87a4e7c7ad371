"""Work done ahead on threads, in order and in bounded memory."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator

T = TypeVar("T")
U = TypeVar("U")


def mapped_ahead(work: Callable[[T], U], items: Iterable[T], at_once: int) -> Generator[U, None, None]:
    """The results of ``work`` in the items' order, up to ``at_once`` of them in work or waiting.

    Close the generator to stop: what has not begun is dropped, what has is waited for.
    """
    remaining = iter(items)
    with ThreadPoolExecutor(at_once, thread_name_prefix=work.__name__) as pool:
        pending: deque[Future[U]] = deque(pool.submit(work, item) for item in islice(remaining, at_once))
        try:
            while pending:
                result = pending.popleft().result()
                pending.extend(pool.submit(work, item) for item in islice(remaining, 1))
                yield result
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def run_ahead(items: Iterator[T], batch: int, batches: int) -> Generator[T, None, None]:
    """The same items, made on a thread of their own, up to ``batches`` of ``batch`` items ahead.

    Close the generator to stop; it waits for the batch that is being made.
    """

    def make_batch() -> list[T]:
        return list(islice(items, batch))

    with ThreadPoolExecutor(1, thread_name_prefix="ahead") as pool:
        pending = deque(pool.submit(make_batch) for _ in range(batches))
        try:
            while made := pending.popleft().result():
                pending.append(pool.submit(make_batch))
                yield from made
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
