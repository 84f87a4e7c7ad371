"""What a story of a rollout is told with: hosts, one run, and the journal of it."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from hybrid_provider.rollout.engine import Rollout
from hybrid_provider.rollout.policy import RolloutPolicy
from hybrid_provider.rollout.probe import Answer
from hybrid_provider.rollout.rollback import Rollback
from tests.simulation.hosts import FOREVER, SimulatedProbe, SimulatedTarget
from tests.simulation.virtual_time import run_in_virtual_time
from tests.simulation.world import NEW, RELEASES, simulated_hosts, twin_of


def fleet(*faults, **settings):
    """Hosts, each with what always goes wrong there."""
    hosts = simulated_hosts(len(faults), **settings)
    for host, fault in zip(hosts, faults, strict=True):
        host.faults = {step: (what, FOREVER) for step, what in fault.items()}
    return hosts


def healthy(count, **settings):
    return fleet(*[{}] * count, **settings)


class Journal(list):
    """The journal of a rollout, at an entry of which somebody asks something of it."""

    def __init__(self, ask=None, at=(None, None)):
        super().__init__()
        self.ask, self.at, self.rollout = ask, at, None

    def __call__(self, entry):
        self.append(entry)
        if self.ask and (entry.target, str(entry.state)) == self.at:
            asyncio.get_running_loop().call_soon(getattr(self.rollout, self.ask))
            self.ask = None

    def seconds(self, target, state):
        return next(entry.seconds for entry in self if (entry.target, entry.state) == (target, state))

    def targets_in(self, state):
        return [entry.target for entry in self if entry.state == state and entry.target]


def move(hosts, probe=None, *, ask=None, at=(None, None), age=0, kind=SimulatedTarget, to=NEW, rollout_id="r-1",
         twice=(), **policy):  # fmt: skip
    """Run one rollout; its result, the states of its targets, and its journal."""
    journal = Journal(ask, at)

    async def run():
        journal.rollout = Rollout(
            RELEASES[to],
            [*map(kind, hosts), *(kind(host, name=twin_of(host)) for host in twice)],
            probe or SimulatedProbe(),
            RolloutPolicy(**policy),
            rollout_id=rollout_id,
            journal=journal,
            age=timedelta(seconds=age),
        )
        return await journal.rollout.run()

    result = run_in_virtual_time(run())
    return result, [str(target.state) for target in result.targets], journal


def go_back(hosts, probe=None, twice=False, **policy):
    journal = Journal()

    async def run():
        targets = [SimulatedTarget(host) for host in hosts]
        targets += [SimulatedTarget(host, name=twin_of(host)) for host in hosts if twice]
        settings = RolloutPolicy(**policy)
        return await Rollback(
            "digits", targets, probe or SimulatedProbe(), settings, rollout_id="b-1", journal=journal
        ).run()

    result = run_in_virtual_time(run())
    return result, [str(target.state) for target in result.targets], journal


class Counting(SimulatedProbe):
    """Notices how many hosts are in a switch at once."""

    def __init__(self, hosts):
        self.hosts, self.most = hosts, 0

    async def check(self, target, release_id):
        self.most = max(self.most, sum(host.switching for host in self.hosts))
        return await super().check(target, release_id)


class Blinking(SimulatedProbe):
    """Some answers of the new release are lost, told by their number."""

    def __init__(self, *lost):
        self.lost, self.asked = lost, 0

    async def check(self, target, release_id):
        self.asked += 1
        answer = await super().check(target, release_id)
        return Answer("lost") if self.asked in self.lost else answer


class Silent(SimulatedProbe):
    """The new release never answers, from its probe of this number on."""

    def __init__(self, number):
        self.number, self.asked = number, 0

    async def check(self, target, release_id):
        self.asked += release_id == NEW
        if release_id == NEW and self.asked >= self.number:
            await asyncio.sleep(FOREVER)
        return await super().check(target, release_id)


class Rebooting(SimulatedProbe):
    """A host that is away for so many seconds from its probe of this number on."""

    def __init__(self, number, seconds):
        self.number, self.seconds, self.asked = number, seconds, 0

    async def check(self, target, release_id):
        self.asked += 1
        if self.asked == self.number:
            target.at.away_until = asyncio.get_running_loop().time() + self.seconds
        return await super().check(target, release_id)
