"""Seeded schedules of faults under virtual time; after each step the rollout's promises are checked.

``HYBRID_SCHEDULES`` says how many; ``python -m tests.simulation.replay SEED`` tells the story of one.
"""

from __future__ import annotations

import multiprocessing
import os
from collections import Counter
from concurrent.futures import ProcessPoolExecutor

import pytest

from hybrid_provider.rollout.states import ROLLOUT_STEPS, TARGET_STEPS
from tests.simulation.hosts import STEPS, Fault
from tests.simulation.schedule import Schedule

SCHEDULES = int(os.environ.get("HYBRID_SCHEDULES", "10000"))
PROCESSES = 2
BLOCK = 250
# Where a target does something, each kind of fault must have met it. READY, VERIFIED and the like only wait.
BUSY = ("PREFLIGHT", "STAGING", "DRAINING", "ACTIVATING", "PROBING", "SOAKING", "REVERTING", "SUCCEEDED")
# Fewer schedules cannot be expected to have seen everything.
ENOUGH = 5000


def play(seeds):
    """Play a block of seeds; what was seen in all of them, and the seeds in which a promise broke."""
    seen: Counter[tuple[str, ...]] = Counter()
    broken = {}
    for seed in seeds:
        schedule = Schedule(seed)
        try:
            schedule.play()
        except Exception as error:  # noqa: BLE001 - whatever it is, the seed is told of
            schedule.problems.append(f"{type(error).__name__}: {error}")
        seen.update(schedule.seen)
        if schedule.problems:
            broken[seed] = schedule.problems[0]
    return seen, broken


@pytest.fixture(scope="module")
def played():
    blocks = [range(first, min(first + BLOCK, SCHEDULES)) for first in range(0, SCHEDULES, BLOCK)]
    seen: Counter[tuple[str, ...]] = Counter()
    broken: dict[int, str] = {}
    with ProcessPoolExecutor(PROCESSES, mp_context=multiprocessing.get_context("spawn")) as pool:
        for block_seen, block_broken in pool.map(play, blocks):
            seen.update(block_seen)
            broken |= block_broken
    return seen, broken


@pytest.mark.timeout(900)
def test_whatever_fails_where_the_promises_hold(played):
    _, broken = played
    if broken:
        seed = min(broken)
        told = Schedule(seed)
        try:
            told.play()
        except Exception as error:  # noqa: BLE001 - as above
            told.story.append(f"raised {type(error).__name__}: {error}")
        others = "\n".join(f"  {other}: {problem}" for other, problem in sorted(broken.items())[:20])
        pytest.fail(
            f"{len(broken)} of {SCHEDULES} schedules broke a promise:\n{others}\n\n{told.told()}\n\n"
            f"replay it: .venv/bin/python -m tests.simulation.replay {seed}",
            pytrace=False,
        )


def test_the_schedules_take_every_step_of_both_machines(played):
    seen, _ = played
    expected = [
        (kind, str(before), str(after))
        for kind, steps in (("rollout", ROLLOUT_STEPS), ("target", TARGET_STEPS))
        for before, follow in steps.items()
        for after in follow
    ]
    shown(seen, expected, "steps")


def test_the_schedules_meet_every_fault_in_every_step_of_a_target_and_in_every_state(played):
    seen, _ = played
    shown(seen, [("step", step, fault.name) for step in STEPS for fault in Fault], "faults in a step")
    shown(seen, [("fault", state, fault.name) for state in BUSY for fault in Fault], "faults in a state")


def test_the_schedules_kill_the_worker_at_every_state(played):
    seen, _ = played
    states = {*map(str, ROLLOUT_STEPS), *map(str, TARGET_STEPS)} - {"PENDING"}
    shown(seen, [("death", state) for state in sorted(states)], "deaths")


def shown(seen, expected, what):
    """Print how often each was seen; none may be missing."""
    print(f"\n{what} in {SCHEDULES} schedules:")
    for key in sorted(expected):
        print(f"  {seen[key]:>8}  {' '.join(key[1:])}")
    missing = [key for key in expected if not seen[key]]
    assert SCHEDULES < ENOUGH or not missing, f"never: {missing}"
