"""What is taken behind or beside: in order, in bounded memory, and one error where both sides may have one."""

from __future__ import annotations

import os
import sys
import threading
from concurrent.futures import Future

import pytest

from hybrid_provider.artifacts.behind import also_taken, take_behind


def behind(items, take, batch=1, batches=2, stop=None):
    take_behind(iter(items), take, batch=batch, batches=batches, stop=stop)


def test_all_items_come_in_order_however_they_are_handed_over():
    for batch, batches in ((1, 1), (3, 2), (50, 4)):
        taken = []
        behind(range(100), taken.extend, batch, batches)
        assert taken == list(range(100))


def test_an_error_comes_in_the_place_of_its_batch_and_to_the_caller():
    def items():
        yield 1
        yield 2
        raise ValueError("third")

    taken = []

    def take(some):
        taken.extend((next(some), next(some)))
        next(some)

    with pytest.raises(ValueError, match="third"):
        behind(items(), take)
    assert taken == [1, 2]


def test_who_takes_and_fails_ends_the_wait_for_the_next_item():
    stopped = threading.Event()

    def items():
        yield 1
        stopped.wait(30)
        raise ConnectionError("the wait was ended")

    def take(some):
        next(some)
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full") as caught:
        behind(items(), take, stop=stopped.set)
    assert caught.value.__context__ is None, "what the wait ended with is nobody's concern"


def test_no_more_is_made_than_may_wait():
    made = []
    goes_on = threading.Event()

    def items():
        for number in range(1000):
            made.append(number)
            if len(made) == 9:  # one is taken, three times two wait, and these two cannot be handed over
                goes_on.set()
            yield number

    def take(some):
        next(some)
        assert goes_on.wait(30)
        raise OSError("disk full")

    outcome: Future[None] = Future()

    def run():
        try:
            behind(items(), take, batch=2, batches=3)
        except OSError as error:
            outcome.set_exception(error)

    # Who waits for ever is not interrupted: its caller's error would hide behind the disk's.
    threading.Thread(target=run, daemon=True).start()
    with pytest.raises(OSError, match="disk full"):
        outcome.result(30)
    assert len(made) == 10


def test_an_interrupt_of_the_caller_ends_who_takes():
    def items():
        yield 1
        raise KeyboardInterrupt

    ended = threading.Event()

    def take(some):
        try:
            list(some)
        finally:
            ended.set()

    with pytest.raises(KeyboardInterrupt):
        behind(items(), take)
    assert ended.is_set()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a priority is that of the whole process")
def test_who_takes_steps_back_and_the_caller_does_not():
    priorities = []
    before = os.getpriority(os.PRIO_PROCESS, 0)
    behind([1], lambda some: priorities.append(os.getpriority(os.PRIO_PROCESS, 0)))
    assert priorities[0] > before
    assert os.getpriority(os.PRIO_PROCESS, 0) == before


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nothing is asked for")
def test_a_sandbox_that_refuses_to_step_back_is_no_reason_to_take_nothing(monkeypatch):
    def refused(_: int) -> int:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "nice", refused)
    taken = []
    behind([1, 2], taken.extend)
    assert taken == [1, 2]


def test_what_is_also_taken_is_taken_to_its_end_in_order_by_another_thread():
    taken, threads = [], set()

    def take(item):
        threads.add(threading.get_ident())
        taken.append(item)

    assert list(also_taken(range(100), take)) == list(range(100))
    assert taken == list(range(100))
    assert len(threads) == 1
    assert threading.get_ident() not in threads


def test_the_caller_is_never_more_than_one_ahead_of_who_also_takes():
    goes_on = threading.Event()
    items = also_taken(range(3), lambda _: goes_on.wait(30))
    assert next(items) == 0, "the caller has an item while it is taken"
    threading.Timer(0.1, goes_on.set).start()
    assert next(items) == 1
    assert goes_on.is_set(), "the next item waited for the first to be taken"
    assert list(items) == [2]


@pytest.mark.parametrize("last", [1, 2])
def test_an_error_of_who_also_takes_comes_to_the_caller_with_the_next_item_or_the_end(last):
    def take(item):
        if item == 1:
            raise OSError("no sum")

    items = also_taken(range(last + 1), take)
    assert [next(items), next(items)] == [0, 1]
    with pytest.raises(OSError, match="no sum"):
        next(items)


def test_who_goes_no_further_leaves_no_thread():
    items = also_taken(range(3), lambda _: None)
    next(items)
    items.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("beside")]
