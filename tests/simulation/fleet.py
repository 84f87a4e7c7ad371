"""Simulated targets that follow the rules of real ones, and fail, hang or disappear where a plan says so."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from hybrid_provider.artifacts.manifest import Manifest, ManifestFile
from hybrid_provider.artifacts.release import Release
from hybrid_provider.exceptions import TargetFailed, TargetLocked, TargetNotReady, TargetUnreachable
from hybrid_provider.rollout.probe import Answer
from hybrid_provider.targets.target import Inspection, Readiness, Staged

if TYPE_CHECKING:
    import random

OLD, NEW = "old", "new"
RELEASE = Release(
    model="digits",
    release_id=NEW,
    manifest=Manifest.of([ManifestFile("model.onnx", 1, "0" * 64)]),
    path=Path("/nowhere"),
    artifact=None,
)
STEPS = ("preflight", "stage", "activate", "probe", "commit", "revert", "finish")


class Fault(StrEnum):
    """What goes wrong in a step."""

    FAILS = "fails"
    UNREACHABLE = "unreachable"
    HANGS = "hangs"
    LATE = "done, but unreachable before it says so"
    FLAPS = "flaps"


@dataclass
class SimulatedTarget:
    """One host: what is live, what it committed, and an activation that undoes itself at its deadline."""

    name: str
    committed: str | None
    faults: dict[str, Fault]
    random: random.Random
    stepped: list[tuple[str, str]]
    host: str = "simulated"
    probe_url: str | None = None
    group: str | None = None
    live: str | None = None
    releases: set[str] = field(default_factory=set)
    holder: str | None = None
    switching: bool = False
    history: list[str | None] = field(default_factory=list)
    _before: str | None = None
    _activated: str | None = None
    _timer: asyncio.TimerHandle | None = None

    def __post_init__(self) -> None:
        self.live = self.committed
        if self.committed:
            self.releases.add(self.committed)

    async def preflight(self, order):
        async with self._step("preflight", TargetNotReady):
            if self.holder not in {None, order.rollout}:
                raise TargetLocked(self.name, f"rollout {self.holder} works on this target")
            self._undo()
            self.holder = order.rollout
        release_id = order.release.release_id
        return Readiness(
            current=self.live,
            committed=self.committed == release_id,
            live=timedelta(hours=1),
            present=release_id in self.releases,
        )

    async def stage(self, order, progress):
        async with self._step("stage"):
            for _ in range(3):
                await asyncio.sleep(self.random.uniform(0, 3))
                progress(1)
            self.releases.add(order.release.release_id)
        return Staged(bytes_sent=3)

    async def drain(self, order):
        pass

    async def inspect(self, model, *, rehash=False):
        return Inspection()

    async def activate(self, order, release_id):
        async with self._step("activate"):
            assert release_id in self.releases, f"{self.name} was to switch to {release_id}, which it lacks"
            assert not self.switching, f"{self.name} was switched twice at once"
            self._before, self.live, self.switching = self.live, release_id, True
            self._activated = release_id
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(order.healthy_deadline.total_seconds() + 5, self._undo)

    async def commit(self, order):
        async with self._step("commit"):
            if not self.switching:
                raise TargetFailed(self.name, "no commit came in time")
            self._settle()
            self.committed = self.live
            self.history.append(self.live)

    async def revert(self, order):
        async with self._step("revert"):
            self._undo()
        return not self._was_committed

    async def finish(self, order):
        async with self._step("finish"):
            if self.holder == order.rollout:
                self.holder = None

    async def close(self):
        pass

    @property
    def _was_committed(self) -> bool:
        return self._activated is not None and not self.switching and self.live == self._activated

    def _undo(self) -> None:
        if self.switching:
            self.live = self._before
            self._settle()

    def _settle(self) -> None:
        self.switching = False
        if self._timer is not None:
            self._timer.cancel()

    def _step(self, step, failure=TargetFailed):
        return _Step(self, step, failure)


class _Step:
    """Takes a while, and goes wrong before or after its effect."""

    def __init__(self, target, step, failure):
        self.target, self.step, self.failure = target, step, failure
        self.fault = target.faults.get(step)

    async def __aenter__(self):
        await asyncio.sleep(self.target.random.uniform(0, 2))
        if self.fault:
            self.target.stepped.append((self.step, self.fault))
        if self.fault is Fault.FAILS:
            raise self.failure(self.target.name, f"{self.step} fails")
        if self.fault is Fault.UNREACHABLE:
            raise TargetUnreachable(self.target.name, f"lost in {self.step}")
        if self.fault is Fault.HANGS:
            await asyncio.sleep(1e9)

    async def __aexit__(self, kind, error, trace):
        if kind is None and self.fault is Fault.LATE:
            raise TargetUnreachable(self.target.name, f"lost after {self.step}")


class SimulatedProbe:
    """Tells the truth about what is live, but for the target's faults."""

    async def check(self, target, release_id):
        fault = target.faults.get("probe")
        if fault:
            target.stepped.append(("probe", fault))
        await asyncio.sleep(target.random.uniform(0, 0.5))
        # A bad release is bad; going back to the one before must be possible.
        faulty = release_id != "old"
        if faulty and fault is Fault.HANGS:
            await asyncio.sleep(1e9)
        if faulty and fault in {Fault.FAILS, Fault.UNREACHABLE}:
            return Answer("HTTP 500")
        if faulty and fault is Fault.FLAPS and target.random.random() < 0.3:
            return Answer("HTTP 503")
        return Answer() if target.live == release_id else Answer(f"release {target.live} answers")
