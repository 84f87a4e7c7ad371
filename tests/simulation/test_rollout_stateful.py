"""Hypothesis plays people, machines and faults against the engine, and shrinks what breaks a promise.

The promises are those of the schedules; here the moves come in any order, each at any moment of a rollout.
"""

from __future__ import annotations

import asyncio
import random
from datetime import timedelta

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from hybrid_provider.rollout.states import RolloutState
from tests.simulation.hosts import FOREVER, STEPS, Fault
from tests.simulation.schedule import DONE
from tests.simulation.virtual_time import VirtualTimeLoop
from tests.simulation.world import A_WHILE, NEW, NEWER, World, short_policy

SEEDS = st.sampled_from(range(10**4))
MOMENTS = st.sampled_from(range(41))


class Fleet(RuleBasedStateMachine):
    """One fleet, at most one living rollout, and whatever befalls them."""

    @initialize(
        seed=SEEDS, size=st.sampled_from([3, 4, 5, 2, 1]), broken=st.sampled_from([0.0, 0.3, 0.6, 0.9])
    )
    def begins(self, seed, size, broken):
        self.loop = VirtualTimeLoop()
        # Of a killed worker's tasks nobody asks for the outcome.
        self.loop.set_exception_handler(lambda *_: None)
        self.world = World(seed)
        self.world.add_hosts(size)
        self.world.break_things(broken)
        self.hosts = self.world.hosts
        self.task = self.moving = self.watch = self.last = None
        self.number, self.release, self.began = 1, NEW, 0.0

    def teardown(self):
        if not hasattr(self, "loop"):
            return
        try:
            self._end()
            self._all_is_well_in_the_end()
        finally:
            for task in asyncio.all_tasks(self.loop):
                task.cancel()
            self.loop.run_until_complete(asyncio.sleep(0))
            self.loop.close()

    @property
    def runs(self):
        return self.task is not None

    @precondition(lambda self: not self.runs and self.last not in DONE)
    @rule(seed=SEEDS, seconds=MOMENTS)
    def deploys_or_retries(self, seed, seconds):
        self._start(short_policy(random.Random(seed)))
        self._pass(seconds)

    @precondition(lambda self: not self.runs and self.release == NEW and self.last is not None)
    @rule(seed=SEEDS, seconds=MOMENTS)
    def begins_a_newer_rollout(self, seed, seconds):
        self.number, self.release, self.last = 2, NEWER, None
        self._start(short_policy(random.Random(seed), lock_wait=timedelta(seconds=A_WHILE)))
        self._pass(seconds)

    @precondition(lambda self: self.runs)
    @rule(what=st.sampled_from(["pause", "resume", "abort", "supersede", "roll_back"]))
    def somebody_asks(self, what):
        self.world.story.append(f"          {what}")
        self.loop.call_soon(getattr(self.moving, what))
        self._pass(0)

    @precondition(lambda self: self.runs)
    @rule()
    def the_worker_is_killed(self):
        self.world.story.append("          the worker is killed")
        self.watch.worker.dead = True
        self._pass(A_WHILE)

    @rule(number=st.integers(0, 4), step=st.sampled_from(STEPS), fault=st.sampled_from(list(Fault)),
          times=st.sampled_from([1, 2, 5, FOREVER]))  # fmt: skip
    def a_host_breaks(self, number, step, fault, times):
        self._host(number).faults[step] = (fault, times)

    @rule(number=st.integers(0, 4), seconds=st.sampled_from([0, 3, 14]))
    def the_release_is_bad_on_a_host(self, number, seconds):
        self._host(number).sick = {self.release: seconds}

    @rule(number=st.integers(0, 4))
    def a_host_is_mended(self, number):
        # What it did wrong is remembered: it explains what is found at the end of the rollout.
        host = self._host(number)
        host.faults = {step: (fault, 0) for step, (fault, _) in host.faults.items()}
        host.sick = {}

    @precondition(lambda self: not self.runs)
    @rule(number=st.integers(0, 4), pinned=st.booleans())
    def somebody_pins(self, number, pinned):
        host = self._host(number)
        host.pinned = host.committed if pinned else None

    @precondition(lambda self: self.runs)
    @rule(seconds=MOMENTS)
    def time_passes(self, seconds):
        self._pass(seconds)

    @invariant()
    def no_promise_is_broken(self):
        if hasattr(self, "world"):
            assert not self.world.problems, self.world.told()

    def _host(self, number):
        return self.hosts[number % len(self.hosts)]

    def _start(self, policy):
        age = self.loop.time() - self.began if self.last is not None else 0
        self.began = self.began if self.last is not None else self.loop.time()
        self.last = self.last or RolloutState.PENDING
        self.moving, self.watch = self.world.rollout(self.release, policy, f"r-{self.number}", age=age)
        self.task = self.loop.create_task(self.world.run(self.moving, self.watch))

    def _pass(self, seconds):
        self.loop.run_until_complete(asyncio.sleep(seconds))
        if self.runs and self.task.done():
            result, self.task = self.task.result(), None
            self.loop.run_until_complete(asyncio.sleep(A_WHILE))
            if result is not None:
                self.last = result.state
                self.world.check(self.watch, result, f"r-{self.number}", self.release)

    def _end(self):
        while self.runs:
            self._pass(A_WHILE)
        self.no_promise_is_broken()

    def _all_is_well_in_the_end(self):
        """Mended, and with no pins, the fleet comes to where it was to go; but not against somebody's word."""
        if self.last in DONE:
            return
        self.world.mend()
        for host in self.hosts:
            host.pinned = None
        self._start(short_policy(self.world.chance))
        self._end()
        assert self.last is RolloutState.SUCCEEDED, self.world.told()
        assert [host.live for host in self.hosts] == [self.release] * len(self.hosts), self.world.told()


Fleet.TestCase.settings = settings(
    max_examples=400,
    stateful_step_count=25,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
TestFleet = Fleet.TestCase
