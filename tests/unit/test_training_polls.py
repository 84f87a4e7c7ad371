"""Many waits and one listing: who is woken for what, and what happens when listing fails."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta

import pytest

from hybrid_provider.exceptions import CloudUnavailable, TrainingRefused
from hybrid_provider.training import polls as module
from hybrid_provider.training.polls import (
    EVERYTHING,
    FEW,
    LOGS_A_ROUND,
    NEWS_A_ROUND,
    Due,
    SharedPolls,
    parts_of,
)

HOUR = timedelta(hours=1)


class Jobs:
    """Running jobs and their marks; ``error`` is raised instead, if set."""

    def __init__(self, count):
        self.marks = {f"job-{number}": "Training" for number in range(count)}
        self.ends = {}
        self.since = []
        self.error: Exception | None = None
        self.asked = 0

    def running(self, names):
        self.asked += 1
        if self.error is not None:
            raise self.error
        return {name: mark for name, mark in self.marks.items() if name in names}

    def ended(self, names, since):
        self.asked += 1
        self.since.append(since)
        if self.error is not None:
            raise self.error
        return {name: mark for name, mark in self.ends.items() if name in names}


class Crowd:
    """Waits for the jobs, and what each of them was told to do since it was asked last."""

    def __init__(self, jobs, stack):
        self.polls = SharedPolls(jobs)
        self.turns = [stack.enter_context(self.polls.joined(name, HOUR)) for name in list(jobs.marks)]

    async def told(self, due=Due.LOOK):
        """The jobs whose waits have now something of ``due`` to do; they do it."""
        waiting = {turn.name: asyncio.ensure_future(turn.next()) for turn in self.turns}
        for _ in range(3):
            await asyncio.sleep(0)
        found = [name for name, next_turn in waiting.items() if next_turn.done() and due & next_turn.result()]
        for next_turn in waiting.values():
            next_turn.cancel()
        await asyncio.gather(*waiting.values(), return_exceptions=True)
        return found


@pytest.fixture
def stack():
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def jobs():
    return Jobs(40)


@pytest.fixture
async def crowd(jobs, stack):
    """A crowd that has heard of every job once."""
    crowd = Crowd(jobs, stack)
    await crowd.polls.round()
    await crowd.told()
    return crowd


async def test_a_few_waits_look_for_themselves_and_nothing_is_listed(stack):
    jobs = Jobs(FEW)
    crowd = Crowd(jobs, stack)
    assert await crowd.told() == list(jobs.marks)
    await crowd.polls.round()
    assert jobs.asked == 0


async def test_a_crowd_in_which_nothing_happens_looks_at_nothing(jobs, crowd):
    await crowd.polls.round()
    assert jobs.asked == 2
    assert await crowd.told() == []


async def test_a_job_that_does_not_run_any_more_is_looked_at(jobs, crowd):
    del jobs.marks["job-7"]
    await crowd.polls.round()
    assert await crowd.told() == ["job-7"]


async def test_a_job_that_is_missing_is_looked_at_in_every_round_until_its_wait_ends(jobs, crowd):
    del jobs.marks["job-7"]
    for _ in range(3):
        await crowd.polls.round()
        assert await crowd.told() == ["job-7"]


async def test_a_job_that_ended_is_looked_at_after_a_glance_and_again_only_when_it_changed(jobs, crowd):
    jobs.ends["job-7"] = "Stopping"
    await crowd.polls.glance()
    assert await crowd.told() == ["job-7"]
    await crowd.polls.glance()
    assert await crowd.told() == []
    jobs.ends["job-7"] = "Stopped"
    await crowd.polls.glance()
    assert await crowd.told() == ["job-7"]


async def test_a_glance_goes_back_to_a_little_before_the_last_one_that_was_answered(jobs, crowd):
    before = datetime.now(UTC)
    await crowd.polls.glance()
    jobs.error = CloudUnavailable("ThrottlingException")
    await crowd.polls.glance()
    jobs.error = None
    await crowd.polls.glance()
    first, *later = jobs.since
    assert first <= before - HOUR
    assert len(set(later)) == 1
    assert before - module.LOOK_BACK <= later[0] <= datetime.now(UTC) - module.LOOK_BACK


async def test_a_glance_that_fails_leaves_it_to_the_round(jobs, crowd):
    jobs.error = CloudUnavailable("ThrottlingException")
    await crowd.polls.glance()
    assert await crowd.told() == []


async def test_there_is_no_glance_for_a_few_nor_where_listing_is_refused(stack, jobs, crowd):
    few = Jobs(FEW)
    await Crowd(few, stack).polls.glance()
    assert few.asked == 0

    jobs.error = TrainingRefused("grant sagemaker:ListTrainingJobs")
    await crowd.polls.round()
    asked = jobs.asked
    await crowd.polls.glance()
    assert jobs.asked == asked


@pytest.mark.parametrize(("seconds", "glances"), [(1, 0), (3, 0), (4, 1), (30, 5), (300, 5)])
def test_the_time_between_two_rounds_is_parted_by_glances(seconds, glances):
    parts = parts_of(timedelta(seconds=seconds))
    assert len(parts) == glances + 1
    assert sum(parts, timedelta()) == timedelta(seconds=seconds)


async def test_rounds_are_parted_by_glances_that_wake_a_wait_whose_job_ended(jobs, stack, monkeypatch):
    monkeypatch.setattr(module, "SHORTEST_PART", timedelta(milliseconds=1))
    monkeypatch.setattr(module, "pauses", lambda _: iter([timedelta(milliseconds=6), HOUR]))
    crowd = Crowd(jobs, stack)
    jobs.ends["job-39"] = "Completed"
    assert await crowd.turns[39].next() == Due.LOOK


async def test_a_job_that_reached_another_phase_is_looked_at_once(jobs, crowd):
    jobs.marks["job-7"] = "Uploading"
    await crowd.polls.round()
    assert await crowd.told() == ["job-7"]
    await crowd.polls.round()
    assert await crowd.told() == []


async def test_many_new_phases_at_once_are_looked_at_over_several_rounds(jobs, crowd):
    jobs.marks = dict.fromkeys(jobs.marks, "Uploading")
    looked_at = []
    for _ in range(len(jobs.marks) // NEWS_A_ROUND):
        await crowd.polls.round()
        told = await crowd.told()
        assert len(told) == NEWS_A_ROUND
        looked_at += told
    assert sorted(looked_at) == sorted(jobs.marks)


async def test_a_job_that_ends_while_its_wait_looks_is_looked_at_again(jobs, crowd):
    """The look may have seen the moment before."""
    jobs.marks["job-7"] = "Uploading"
    await crowd.polls.round()
    turn = crowd.turns[7]
    await turn.next()
    del jobs.marks["job-7"]
    await crowd.polls.round()
    assert Due.LOOK in await turn.next()


async def test_logs_are_read_in_turns_until_all_had_theirs(jobs, crowd):
    read = []
    for _ in range(len(jobs.marks) // LOGS_A_ROUND):
        await crowd.polls.round()
        told = await crowd.told(Due.LOG)
        assert len(told) == LOGS_A_ROUND
        read += told
    assert sorted(read) == sorted(jobs.marks)


async def test_when_listing_is_denied_every_wait_looks_for_itself_and_listing_is_not_asked_for_again(
    jobs, crowd
):
    jobs.error = TrainingRefused("grant sagemaker:ListTrainingJobs")
    asked = jobs.asked
    for _ in range(3):
        await crowd.polls.round()
        assert await crowd.told() == list(jobs.marks)
    assert jobs.asked == asked + 1


async def test_a_denied_listing_is_tried_again_later(jobs, crowd, monkeypatch):
    monkeypatch.setattr(module, "ROUNDS_WITHOUT_LISTING", 2)
    jobs.error = TrainingRefused("grant sagemaker:ListTrainingJobs")
    await crowd.polls.round()
    jobs.error = None
    for _ in range(3):
        await crowd.told()
        await crowd.polls.round()
    assert await crowd.told() == []


async def test_when_listing_is_throttled_waits_look_in_turns_until_all_have(jobs, crowd, monkeypatch):
    monkeypatch.setattr(module, "LOOKS_WHEN_THROTTLED", 20)
    monkeypatch.setattr(module, "LOGS_A_ROUND", 0)
    jobs.error = CloudUnavailable("ThrottlingException")
    looked_at = []
    for _ in range(2):
        await crowd.polls.round()
        looked_at += await crowd.told()
    assert sorted(looked_at) == sorted(jobs.marks)
    jobs.error = None
    await crowd.polls.round()
    assert await crowd.told() == []


async def test_a_wait_that_comes_late_looks_only_if_its_job_does_not_run(jobs, crowd, stack):
    jobs.marks["late"] = "Starting"
    crowd.turns = [stack.enter_context(crowd.polls.joined(name, HOUR)) for name in ("late", "ended-before")]
    assert await crowd.told() == []
    await crowd.polls.round()
    assert await crowd.told() == ["ended-before"]


async def test_waits_that_are_left_over_from_a_crowd_look_for_themselves(jobs):
    with ExitStack() as remaining, ExitStack() as leaving:
        crowd = Crowd(jobs, leaving)
        await crowd.polls.round()
        await crowd.told()
        turn = remaining.enter_context(crowd.polls.joined("job-1", timedelta(0)))
        parked = asyncio.ensure_future(turn.next())
        await asyncio.sleep(0)
        leaving.close()
        await crowd.polls.round()
        assert await parked == EVERYTHING
        assert await turn.next() == EVERYTHING


async def test_a_deadline_is_kept_in_a_crowd(crowd):
    assert await crowd.turns[3].next(timedelta(0)) == Due.LOOK


async def test_a_round_that_breaks_makes_waits_look(jobs, monkeypatch, stack, caplog):
    class Broken(Exception):
        pass

    jobs.error = Broken()
    crowd = Crowd(jobs, stack)
    for turn in crowd.turns[: FEW + 1]:
        await turn.next()
    for turn in crowd.turns:
        turn.interval = timedelta(0)
    assert await crowd.turns[0].next() & Due.LOOK
    assert "A round over 40 training jobs failed" in caplog.text
