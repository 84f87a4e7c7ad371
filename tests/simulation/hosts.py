"""Simulated hosts that follow the rules of real ones, and fail, hang, lie or disappear where a plan says so."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING

from hybrid_provider.exceptions import TargetFailed, TargetLocked, TargetNotReady, TargetUnreachable
from hybrid_provider.rollout.probe import Answer
from hybrid_provider.targets.target import Inspection, Readiness, Staged

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

STEPS = ("preflight", "stage", "drain", "activate", "probe", "commit", "revert", "finish", "inspect")
FOREVER = 10**6


class Fault(StrEnum):
    """What goes wrong in a step."""

    FAILS = "fails"
    UNREACHABLE = "is unreachable"
    AWAY = "disappears, and comes back after a while"
    HANGS = "hangs, before or after it is done"
    LATE = "is done, but unreachable before it says so"
    FLAPS = "fails now and then"
    LIES = "says that it is done, and is not"


class Killed(BaseException):
    """The worker is dead: nothing of it goes on."""


class Worker:
    """One process that works on hosts, until it is killed."""

    def __init__(self) -> None:
        self.dead = False

    def check(self) -> None:
        if self.dead:
            raise Killed


@dataclass
class SimulatedHost:
    """What is true on one host: it is on one release, and an activation undoes itself at its deadline."""

    name: str
    committed: str | None
    random: random.Random
    group: str | None = None
    pinned: str | None = None
    previous: str | None = None
    faults: dict[str, tuple[Fault, int]] = field(default_factory=dict)
    # Releases that do not serve here, each from so many seconds after its activation on.
    sick: dict[str, float] = field(default_factory=dict)
    told: Callable[[SimulatedHost, str, Fault], None] = lambda *_: None
    problems: list[str] = field(default_factory=list)
    live: str | None = None
    releases: set[str] = field(default_factory=set)
    owner: str | None = None
    since: float = -3600.0
    lease: tuple[str, int, float] | None = None
    epoch: int = 0
    switching: bool = False
    drained: bool = False
    worker: Worker = field(default_factory=Worker)
    history: list[tuple[str, str | None]] = field(default_factory=list)
    lied: set[str] = field(default_factory=set)
    away_until: float = -1.0
    activated_at: float = -3600.0
    _before: str | None = None
    _timer: asyncio.TimerHandle | None = None

    def __post_init__(self) -> None:
        self.live = self.committed
        self.releases |= {release for release in (self.committed, self.previous) if release}

    @property
    def down(self) -> bool:
        """Whether a living worker has it in a switch, as far as that worker can know."""
        told = not self.lied & {"commit", "revert"}
        return (self.switching or self.drained) and not self.worker.dead and told

    @property
    def holder(self) -> str | None:
        return self.lease[0] if self.lease else None

    def settled(self) -> bool:
        return not self.switching and self.live == self.committed

    def fault_at(self, step: str) -> Fault | None:
        fault, left = self.faults.get(step, (None, 0))
        if fault is None or left <= 0 or (fault is Fault.FLAPS and self.random.random() < 0.5):
            return None
        self.faults[step] = (fault, left - 1)
        self.told(self, step, fault)
        if fault is Fault.AWAY:
            self.away_until = asyncio.get_running_loop().time() + self.random.uniform(1, 60)
        if fault is Fault.LIES:
            self.lied.add(step)
        return fault

    def undo(self) -> str | None:
        """Go back from an activation that nobody committed; what was undone."""
        undone = self.live if self.switching else None
        if self.switching:
            self.live = self._before
            self.settle()
        return undone

    def settle(self) -> None:
        self.switching = False
        if self._timer is not None:
            self._timer.cancel()

    def switch(self, release: str, deadline: timedelta, worker: Worker) -> None:
        if self.switching:
            if not self.lied & {"commit", "revert"}:
                self.problems.append(f"{self.name} was switched twice at once")
            raise TargetFailed(self.name, "an activation is under way")
        self._before, self.live, self.switching, self.worker = self.live, release, True, worker
        loop = asyncio.get_running_loop()
        self.activated_at = loop.time()
        self._timer = loop.call_later(deadline.total_seconds() + 5, self.undo)

    def keep(self, rollout: str) -> None:
        self.settle()
        if self.live != self.committed:
            self.previous, self.committed = self.committed, self.live
        self.owner, self.since = rollout, asyncio.get_running_loop().time()
        self.history.append((rollout, self.live))

    def serves(self, release: str) -> str:
        """Why it does not serve the release; empty where it does."""
        if self.live != release:
            return f"release {self.live} answers"
        age = asyncio.get_running_loop().time() - self.activated_at
        return "HTTP 500" if age >= self.sick.get(release, FOREVER) else ""


class SimulatedTarget:
    """One worker's way to one host."""

    probe_url = None
    host = "simulated"

    def __init__(self, host: SimulatedHost, worker: Worker | None = None, name: str | None = None) -> None:
        self.at = host
        self.worker = worker or Worker()
        self.name, self.group = name or host.name, host.group
        self._epoch = 0
        self._activated: str | None = None

    async def preflight(self, order):
        host = self.at
        async with self._step("preflight", TargetNotReady) as lies:
            now = asyncio.get_running_loop().time()
            if host.lease and host.lease[0] != order.rollout and host.lease[2] > now:
                raise TargetLocked(self.name, f"rollout {host.lease[0]} works on this target")
            undone = host.undo()
            overtaken = f"{host.name}-{host.epoch}" if host.lease else ""
            host.epoch += 1
            host.drained = False
            self._epoch = host.epoch
            host.lease = (order.rollout, host.epoch, now + order.lease.total_seconds())
        release = order.release.release_id if order.release else None
        return Readiness(
            current=host.live,
            previous=host.previous if host.previous in host.releases else None,
            committed=lies or (host.committed is not None and host.committed == release),
            live=timedelta(seconds=now - host.since),
            present=lies or release in host.releases,
            undone=undone,
            pinned=host.pinned,
            lease=f"{host.name}-{self._epoch}",
            overtaken=overtaken,
        )

    async def stage(self, order, progress):
        async with self._step("stage", order=order) as lies:
            for _ in range(2):
                await asyncio.sleep(self.at.random.uniform(0, 2))
                progress(1)
            if not lies:
                self.at.releases.add(order.release.release_id)
        return Staged(bytes_sent=2)

    async def drain(self, order):
        self._fenced(order)
        self.at.drained, self.at.worker = True, self.worker
        async with self._step("drain", order=order):
            await asyncio.sleep(self.at.random.uniform(0, order.drain.total_seconds()))

    async def activate(self, order, release_id):
        host = self.at
        self._activated = None
        async with self._step("activate", order=order) as lies:
            if release_id not in host.releases:
                raise TargetFailed(self.name, f"release {release_id} is not here")
            if host.pinned not in {None, release_id}:
                raise TargetFailed(self.name, f"pinned to release {host.pinned}")
            self._notice_repetition(order, release_id)
            self._activated = release_id
            if not lies:
                host.switch(release_id, order.healthy_deadline, self.worker)
            host.drained = False

    async def commit(self, order):
        async with self._step("commit", order=order) as lies:
            if lies:
                return
            if not self.at.switching:
                raise TargetFailed(self.name, "no commit came in time")
            self.at.keep(order.rollout)

    async def revert(self, order):
        host = self.at
        async with self._step("revert", order=order) as lies:
            kept = self._activated is not None and not host.switching and host.committed == self._activated
            kept = kept and host.history[-1:] == [(order.rollout, self._activated)]
            if not lies:
                host.undo()
                host.drained = False
        self._activated = None
        return not kept

    async def finish(self, order):
        async with self._step("finish") as lies:
            if not lies and self.at.lease and self.at.lease[:2] == (order.rollout, self._epoch):
                self.at.lease, self.at.drained = None, False

    async def inspect(self, model, *, rehash=False):
        async with self._step("inspect"):
            return Inspection(release=self.at.live, committed=self.at.committed, rollout=self.at.owner)

    async def close(self):
        self.worker.check()

    def _fenced(self, order):
        self.worker.check()
        lease = self.at.lease
        if lease is None or lease[:2] != (order.rollout, self._epoch):
            raise TargetLocked(self.name, f"rollout {lease and lease[0]} has taken this target over")

    def _notice_repetition(self, order, release_id):
        """What serves already is not switched again, and what went back stays there."""
        host = self.at
        well = not host.serves(release_id) and not {"probe", "preflight", "commit"} & host.faults.keys()
        if host.committed == release_id == host.live and well and host.away_until < 0:
            host.problems.append(f"{host.name} served {release_id} and was switched to it again")
        if order.release is None and (order.rollout, host.live) in host.history and host.settled():
            host.problems.append(
                f"{host.name} had gone back to {host.live} and was switched by {order.rollout}"
            )

    def _step(self, step, failure=TargetFailed, order=None):
        return _Step(self, step, failure, order)


class _Step:
    """Takes a while, and goes wrong before or after its effect."""

    def __init__(self, target, step, failure, order):
        self.target, self.host, self.step = target, target.at, step
        self.failure, self.order = failure, order

    async def __aenter__(self):
        self.target.worker.check()
        fault = self.fault = self.host.fault_at(self.step)
        self.hangs_first = fault is Fault.HANGS and self.host.random.random() < 0.5
        await asyncio.sleep(self.host.random.uniform(0, 1.5))
        self.target.worker.check()
        if fault is Fault.UNREACHABLE or asyncio.get_running_loop().time() < self.host.away_until:
            raise TargetUnreachable(self.host.name, f"lost in {self.step}")
        if fault in {Fault.FAILS, Fault.FLAPS}:
            raise self.failure(self.host.name, f"{self.step} fails")
        if self.hangs_first:
            await asyncio.sleep(FOREVER)
        if self.order is not None:
            self.target._fenced(self.order)
        return fault is Fault.LIES

    async def __aexit__(self, kind, error, trace):
        self.target.worker.check()
        if kind is None and self.fault is Fault.HANGS:
            await asyncio.sleep(FOREVER)
        if kind is None and self.fault is Fault.LATE:
            raise TargetUnreachable(self.host.name, f"lost after {self.step}")


class SimulatedProbe:
    """Tells the truth about what is served, but for the host's faults."""

    async def check(self, target, release_id):
        target.worker.check()
        host = target.at
        fault = host.fault_at("probe")
        await asyncio.sleep(host.random.uniform(0, 0.3))
        target.worker.check()
        if fault is Fault.HANGS:
            await asyncio.sleep(FOREVER)
        if fault in {Fault.UNREACHABLE, Fault.AWAY, Fault.LATE}:
            return Answer("no connection")
        if fault is not None:
            return Answer(f"the probe {fault}")
        if asyncio.get_running_loop().time() < host.away_until:
            return Answer("no connection")
        return Answer(host.serves(release_id))
