"""A fleet of simulated hosts, the rollouts that work on it, and what is wrong with what they did."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from datetime import timedelta
from pathlib import Path

from hybrid_provider.artifacts.manifest import Manifest, ManifestFile
from hybrid_provider.artifacts.release import Release
from hybrid_provider.rollout.engine import Rollout
from hybrid_provider.rollout.policy import OnBreach, OnUnreachable, RolloutPolicy
from hybrid_provider.rollout.rollback import Rollback
from tests.simulation.hosts import (
    FOREVER,
    STEPS,
    Fault,
    Killed,
    SimulatedHost,
    SimulatedProbe,
    SimulatedTarget,
    Worker,
)
from tests.simulation.watch import Watch, most_of, problems_at_the_end

OLDER, OLD, NEW, NEWER = "r1-older", "r2-old", "r3-new", "r4-newer"
# Long enough for whatever undoes itself on a host, and for every lease.
A_WHILE = 5000


def release_of(release_id):
    return Release(
        model="digits",
        release_id=release_id,
        manifest=Manifest.of([ManifestFile("model.onnx", 1, "0" * 64)]),
        path=Path("/nowhere"),
        artifact=None,
    )


RELEASES = {name: release_of(name) for name in (OLDER, OLD, NEW, NEWER)}


def simulated_hosts(count, **settings):
    """Hosts that are well, each with a chance of its own."""
    return [
        SimulatedHost(name=f"edge-{number}", random=random.Random(number), **{"committed": OLD, **settings})
        for number in range(count)
    ]


def twin_of(host):
    return f"{host.name}-by-another-name"


def short_policy(chance, **settings):
    """A policy of seconds: the same rules, and a run of few steps."""

    def seconds(*choices):
        return timedelta(seconds=chance.choice(choices))

    return RolloutPolicy(
        **{
            "waves": chance.choice([(1, "25%", "100%"), ("50%",), (2,), ("100%",)]),
            "max_unavailable": chance.choice(["25%", "50%", 1, 2, "100%"]),
            "max_failures": chance.choice([0, 0, 1, 3]),
            "unreachable": chance.choice([OnUnreachable.FAIL, OnUnreachable.FAIL, OnUnreachable.SKIP]),
            "bake_time": seconds(0, 4, 12),
            "min_healthy_time": seconds(0, 2),
            "healthy_deadline": seconds(20),
            "progress_deadline": seconds(30),
            "probe_timeout": seconds(2),
            "drain": seconds(0, 3),
            "on_breach": chance.choice(list(OnBreach)),
            "lock_wait": seconds(0, 60),
            "lock_poll": seconds(10),
            "transfer_retries": chance.choice([0, 1, 3]),
            "connects": chance.choice([1, 3, 30]),
            **settings,
        }
    )


class World:
    """Hosts, what was seen of them, and what is wrong."""

    def __init__(self, seed):
        self.seed = seed
        self.chance = random.Random(seed)
        self.problems: list[str] = []
        self.story: list[str] = []
        self.seen: Counter[tuple[str, ...]] = Counter()
        self.hosts: list[SimulatedHost] = []
        self.watches: dict[str, Watch] = {}

    def add_hosts(self, count):
        groups = self.chance.choice([(None,), (None,), ("a", "b", None), ("a", "b", "c")])
        for number in range(count):
            committed = self.chance.choice([OLD, OLD, OLD, OLD, NEW, None])
            self.hosts.append(
                SimulatedHost(
                    name=f"edge-{number}",
                    committed=committed,
                    previous=self.chance.choice([OLDER, None]) if committed else None,
                    random=random.Random(self.seed * 1000 + number),
                    group=self.chance.choice(groups),
                    told=self._fault,
                    problems=self.problems,
                )
            )

    def break_things(self, share):
        chance = self.chance
        for host in self.hosts:
            if chance.random() < share:
                times = chance.choice([1, 1, 2, 5, FOREVER])
                steps = chance.sample(STEPS, chance.choice([1, 1, 2]))
                host.faults = {step: (chance.choice(list(Fault)), times) for step in steps}
            if chance.random() < share / 4:
                host.sick = {chance.choice([NEW, NEW, OLD]): chance.choice([0, 0, 3, 8, 14])}
            if host.committed and chance.random() < share / 8:
                host.pinned = chance.choice([host.committed, host.previous or host.committed, NEW])

    def mend(self):
        for host in self.hosts:
            host.faults, host.sick, host.away_until = {}, {}, -1.0
            host.lied.clear()

    def _fault(self, host, step, fault):
        state = next((w.states[host.name] for w in reversed(self.watches.values()) if not w.worker.dead), "?")
        self.seen["fault", str(state), fault.name] += 1
        self.seen["step", step, fault.name] += 1
        self.story.append(f"          {host.name}: {step} {fault}")

    def rollout(
        self, new, policy, rollout_id, *, age=0.0, die_at=None, die_in=None, named_twice=(), **options
    ):
        """A rollout by a worker of its own, with what watches it."""
        worker = Worker()
        watch = Watch(self, policy, worker, self.hosts, kind="deploy", die_at=die_at, die_in=die_in)
        watch.lanes = most_of(policy.max_unavailable, len(self.hosts) + len(named_twice))
        self.watches[rollout_id] = watch
        targets = [SimulatedTarget(host, worker) for host in self.hosts]
        targets += [SimulatedTarget(host, worker, twin_of(host)) for host in named_twice]
        moving = Rollout(
            RELEASES[new],
            targets,
            SimulatedProbe(),
            policy,
            rollout_id=rollout_id,
            journal=watch,
            age=timedelta(seconds=age),
            **options,
        )
        self.story.append(f"--- {rollout_id} to {new}, age {age:.0f} s, {options}")
        return moving, watch

    def rollback(self, policy, rollout_id, *, die_at=None, **options):
        worker = Worker()
        watch = Watch(self, policy, worker, self.hosts, kind="rollback", die_at=die_at)
        self.watches[rollout_id] = watch
        moving = Rollback(
            "digits",
            [SimulatedTarget(host, worker) for host in self.hosts],
            SimulatedProbe(),
            policy,
            rollout_id=rollout_id,
            journal=watch,
            **options,
        )
        self.story.append(f"--- {rollout_id} back, {options}")
        return moving, watch

    async def run(self, moving, watch):
        """Run to its end; None where its worker was killed."""
        try:
            result = await moving.run()
        except Killed:
            return None
        self.story.append(f"=== {result.rollout} {result.state} {[str(t.state) for t in result.targets]}")
        return result

    async def settle(self):
        await asyncio.sleep(A_WHILE)

    def check(self, watch, result, rollout_id, new=None):
        self.problems += [f"{rollout_id}: {p}" for p in problems_at_the_end(watch, result, rollout_id, new)]

    def told(self):
        hosts = [
            f"{h.name}: {h.committed} before {h.previous}, group {h.group}, pinned {h.pinned}, {h.faults} {h.sick}"
            for h in self.hosts
        ]
        return "\n".join([f"seed {self.seed}", *hosts, *self.story, *map("PROBLEM {}".format, self.problems)])
