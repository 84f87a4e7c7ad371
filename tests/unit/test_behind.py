"""What is taken behind: in order, in bounded memory, and one error where both sides may have one."""

from __future__ import annotations

import os
import sys
import threading

import pytest

from hybrid_provider.artifacts.behind import take_behind


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

    with pytest.raises(OSError, match="disk full"):
        behind(items(), take, batch=2, batches=3)
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
