"""Seeded schedules of faults under virtual time; after each step the rollout's promises are checked."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from datetime import timedelta
from pathlib import Path

import pytest

from hybrid_provider.artifacts.manifest import Manifest, ManifestFile
from hybrid_provider.artifacts.release import Release
from hybrid_provider.rollout.engine import Rollout
from hybrid_provider.rollout.plan import count_of
from hybrid_provider.rollout.policy import OnBreach, RolloutPolicy
from hybrid_provider.rollout.result import FAILURES, RolloutState, TargetState
from tests.simulation.fleet import STEPS, Fault, SimulatedProbe, SimulatedTarget
from tests.simulation.virtual_time import run_in_virtual_time

OLD, NEW = "old", "new"
RELEASE = Release(
    model="digits",
    release_id=NEW,
    manifest=Manifest.of([ManifestFile("model.onnx", 1, "0" * 64)]),
    path=Path("/nowhere"),
    artifact=None,
)
SEEDS = range(400)
ENDS = {
    RolloutState.SUCCEEDED,
    RolloutState.PAUSED,
    RolloutState.FAILED,
    RolloutState.ABORTED,
    RolloutState.ROLLED_BACK,
    RolloutState.ROLLBACK_PAUSED,
}
TARGET_ENDS = FAILURES | {
    TargetState.SUCCEEDED,
    TargetState.ALREADY_CURRENT,
    TargetState.READY,
    TargetState.VERIFIED,
}


class Schedule:
    """One fleet, one policy and one set of faults, all from a seed."""

    def __init__(self, seed: int) -> None:
        chance = random.Random(seed)
        size = chance.randint(1, 9)
        self.stepped: list[tuple[str, str]] = []
        self.targets = [
            SimulatedTarget(
                name=f"edge-{n}",
                committed=chance.choice([OLD, OLD, OLD, NEW, None]),
                faults=self._faults(chance),
                random=random.Random(seed * 1000 + n),
                stepped=self.stepped,
            )
            for n in range(size)
        ]
        self.policy = RolloutPolicy(
            waves=chance.choice([(1, "25%", "100%"), ("50%",), (2,), ("100%",)]),
            max_unavailable=chance.choice(["25%", 1, 2, "100%"]),
            max_failures=chance.choice([0, 0, 1, 3]),
            bake_time=timedelta(seconds=chance.choice([0, 60])),
            on_breach=chance.choice(list(OnBreach)),
        )
        self.abort_after = chance.choice([None] * 5 + [chance.uniform(0, 200)])
        self.rollout = Rollout(
            RELEASE, self.targets, SimulatedProbe(), self.policy, rollout_id="r-1", journal=self._check
        )
        self.journal: list[str] = []
        self.faults: list[str] = []

    @staticmethod
    def _faults(chance: random.Random) -> dict[str, Fault]:
        if chance.random() < 0.6:
            return {}
        return {step: chance.choice(list(Fault)) for step in chance.sample(STEPS, chance.randint(1, 2))}

    async def run(self):
        if self.abort_after is not None:
            asyncio.get_running_loop().call_later(self.abort_after, self.rollout.abort)
        result = await self.rollout.run()
        # Whatever still undoes itself on a host does so now.
        await asyncio.sleep(self.policy.healthy_deadline.total_seconds() + 60)
        return result

    def _check(self, entry) -> None:
        """Every promise that holds at every moment."""
        self.journal.append(str(entry))
        budget = count_of(self.policy.max_unavailable, len(self.targets))
        switching = [target.name for target in self.targets if target.switching]
        if len(switching) > budget:
            self.faults.append(f"{len(switching)} targets in a switch, {budget} may be: {entry}")
        staged = {"CANARY", "WAVE", "BAKING"}
        if any(line.split(": ")[1].split(" ")[0] in staged for line in self.journal if "rollout: " in line):
            return
        if switching:
            self.faults.append(f"{switching} switched before all were staged")

    def story(self) -> str:
        faults = {target.name: target.faults for target in self.targets if target.faults}
        return "\n".join([f"policy {self.policy}", f"faults {faults}", *self.journal, *self.faults])


@pytest.mark.parametrize("block", range(8))
def test_whatever_fails_where_the_promises_hold(block):
    for seed in SEEDS[block::8]:
        schedule = Schedule(seed)
        result = run_in_virtual_time(schedule.run())
        problems = [*schedule.faults, *problems_at_the_end(schedule, result)]
        assert not problems, f"seed {seed}: {problems}\n{schedule.story()}"


def problems_at_the_end(schedule, result):
    problems = []
    if result.state not in ENDS:
        problems.append(f"the rollout ended in {result.state}")
    if result.seconds > 20_000:
        problems.append(f"it took {result.seconds} s")
    failures = sum(target.state in FAILURES for target in result.targets)
    if result.state is RolloutState.SUCCEEDED and failures > schedule.policy.max_failures:
        problems.append(f"SUCCEEDED with {failures} failures")
    for target, told in zip(schedule.targets, result.targets, strict=True):
        problems += problems_of(target, told)
    problems += budget_problems(schedule, result)
    return problems


def problems_of(target, told):
    if told.state not in TARGET_ENDS:
        yield f"{target.name} ended in {told.state}"
    if target.switching or target.live != target.committed:
        yield f"{target.name} is on {target.live}, which it never committed"
    if target.live not in {OLD, NEW, None}:
        yield f"{target.name} is on {target.live}"
    if told.state in {TargetState.SUCCEEDED, TargetState.ALREADY_CURRENT} and target.live != NEW:
        yield f"{target.name} is told to serve the new release and is on {target.live}"
    if told.state in {TargetState.REVERTED, TargetState.READY, TargetState.VERIFIED} and (
        target.live != told.from_release
    ):
        yield f"{target.name} is told to be on {told.from_release} and is on {target.live}"
    if (told.error is None) == (told.state in FAILURES):
        yield f"{target.name} ended in {told.state} with error {told.error!r}"
    if target.holder is not None and not target.faults.keys() & {"preflight", "finish"}:
        yield f"{target.name} is still locked"


def budget_problems(schedule, result):
    """Once the budget is spent nothing new is begun: at most one failure for each lane comes on top."""
    lanes = count_of(schedule.policy.max_unavailable, len(schedule.targets))
    switched = [t for t in result.targets if t.state in {TargetState.REVERTED, TargetState.REVERT_FAILED}]
    if result.state is RolloutState.PAUSED and len(switched) > schedule.policy.max_failures + lanes:
        yield f"{len(switched)} targets failed in their switch, {schedule.policy.max_failures} may, in {lanes} lanes"


def test_the_schedules_visit_every_fault_in_every_step():
    visited: Counter[tuple[str, str]] = Counter()
    for seed in SEEDS:
        schedule = Schedule(seed)
        run_in_virtual_time(schedule.run())
        visited.update(set(schedule.stepped))
    missing = [(step, fault) for step in STEPS for fault in Fault if not visited[step, fault]]
    assert not missing, f"never visited: {missing}"


@pytest.mark.parametrize("seed", range(0, 400, 10))
def test_a_retry_of_what_is_left_continues_and_ends_with_the_whole_fleet_on_the_release(seed):
    schedule = Schedule(seed)

    async def run_twice():
        first = await schedule.run()
        for target in schedule.targets:
            target.faults = {}
        served = {
            t.name for t in first.targets if t.state in {TargetState.SUCCEEDED, TargetState.ALREADY_CURRENT}
        }
        history = {target.name: len(target.history) for target in schedule.targets}
        retry = Rollout(
            RELEASE,
            schedule.targets,
            SimulatedProbe(),
            schedule.policy,
            rollout_id="r-1",
            journal=schedule._check,
        )
        second = await retry.run()
        repeated = [t.name for t in schedule.targets if t.name in served and len(t.history) > history[t.name]]
        return second, repeated

    second, repeated = run_in_virtual_time(run_twice())
    assert second.state is RolloutState.SUCCEEDED, schedule.story()
    assert {target.live for target in schedule.targets} == {NEW}
    assert repeated == [], schedule.story()
