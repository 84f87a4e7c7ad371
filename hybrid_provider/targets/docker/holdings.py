"""What an engine holds of one model, read from the names and labels of volumes and containers.

Labels cannot be changed, and a volume's name goes to the first who takes it; so each fact is a small volume
of its own, made in one step and durable, with no file that could be read half written::

    hybrid..<model>..release..<id>    a release's files
    hybrid..<model>..proof..<id>      says that they were verified; holds the manifest
    hybrid..<model>..record..<n>      what was committed: the one with the highest number counts
    hybrid..<model>..trial..<token>   what is activated and not committed; a token is <epoch>-<nonce>-<count>
    hybrid..<model>..lease..<epoch>   who works here
    hybrid..<model>..seen..<nonce>..<second>   the end of a lease by a clock that was put back
    hybrid..<model>..pin              the release that nothing may replace

``docker container prune`` and ``docker system prune`` leave all of them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from hybrid_provider.names import is_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from hybrid_provider.targets.docker.engine import Json

# No name has two dots in a row, so no two names make the same one.
_SEPARATOR: Final = ".."
PREFIX: Final = "hybrid."


class Role(StrEnum):
    """What a volume or a container of ours is for."""

    RELEASE = "release"
    PROOF = "proof"
    RECORD = "record"
    TRIAL = "trial"
    LEASE = "lease"
    SEEN = "seen"
    PIN = "pin"
    SERVING = "serving"
    ROUTER = "router"
    LOADER = "loader"


def name_of(model: str, role: Role, *words: str | int) -> str:
    """The name of a volume or a container."""
    return _SEPARATOR.join(("hybrid", model, role, *map(str, words)))


def labels_of(model: str, role: Role, **more: str | float | None) -> dict[str, str]:
    """The labels of a volume or a container."""
    known = {"model": model, "role": role, **more}
    return {f"{PREFIX}{key}": str(value) for key, value in known.items() if value is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """A serving container, live or kept."""

    name: str
    release: str
    digest: str
    spec: str
    running: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """Who works on the model here; ``taken`` and ``expires`` are by the engine's clock."""

    volume: str
    rollout: str
    epoch: int
    nonce: str
    taken: float
    expires: float

    def seen_at(self, clock: float) -> Lease:
        """As long as it was to be, from a time before the one at which it says that it was taken."""
        return replace(self, taken=clock, expires=clock + self.expires - self.taken)


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What was committed last; ``since`` is by the engine's clock."""

    number: int
    release: str
    digest: str
    previous: str | None
    container: str
    rollout: str
    token: str
    since: float

    @property
    def epoch(self) -> int:
        """Of the lease under which it was committed."""
        epoch = self.token.partition("-")[0]
        return int(epoch) if epoch.isdecimal() else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """An activation that is not committed; after ``deadline``, by the engine's clock, its time is over.

    So it is before ``begun``: where the clock was put back since, the deadline may never come.
    """

    volume: str
    token: str
    release: str
    container: str
    origin: str | None
    begun: float
    deadline: float

    def lasts(self, clock: float) -> bool:
        """Whether requests go to it."""
        return self.begun <= clock < self.deadline


@dataclass(frozen=True, slots=True, kw_only=True)
class Holdings:
    """All that an engine holds of one model.

    Attributes:
        model: The model.
        clock: The engine's, in seconds since 1970.
        releases: Id to digest of those that are there, whole and verified.
        unproven: Releases that were begun only.
        containers: Name to serving container.
        records: All, the newest first.
        leases: All, with the ends that they have by the clock as it was put back since.
        seen: What gives leases such ends.
        trials: All; more than one only after a crash.
        pinned: The release that the model is pinned to here.
        loaders: Names of containers that only carry files in and out.
    """

    model: str
    clock: float
    releases: Mapping[str, str]
    unproven: tuple[str, ...]
    containers: Mapping[str, Container]
    records: tuple[Record, ...]
    leases: tuple[Lease, ...]
    seen: tuple[Lease, ...]
    trials: tuple[Trial, ...]
    pinned: str | None
    loaders: tuple[str, ...]

    @property
    def record(self) -> Record | None:
        """The one that counts."""
        return self.records[0] if self.records else None

    @property
    def live(self) -> Container | None:
        """The container that serves: the one on trial, else the committed one, else any that runs.

        After its deadline, a trial is what serves only where nothing was there to go back to it.
        """
        named = [trial.container for trial in self.trials if trial.lasts(self.clock)]
        named += [self.record.container] if self.record else []
        named += sorted(self.containers)
        return next((self.containers[name] for name in named if self._runs(name)), None)

    @property
    def settled(self) -> Container | None:
        """The container that was committed, whether it runs or not; without a record, what serves."""
        return self.containers.get(self.record.container) if self.record else self.live

    @property
    def next_epoch(self) -> int:
        """Later than any before: also in the same second, and after a lease that was given back."""
        earlier = [*(lease.epoch for lease in self.leases), *(record.epoch for record in self.records)]
        return max([math.floor(self.clock), *(epoch + 1 for epoch in earlier)])

    @property
    def previous(self) -> str | None:
        """The release that was proved before the committed one, if it is there still."""
        previous = self.record.previous if self.record else None
        return previous if previous in self.releases else None

    def kept(self, release_id: str) -> Container | None:
        """The newest container of a release; a release has more than one for a moment only."""
        of_it = [each for each in self.containers.values() if each.release == release_id]
        committed = [self.record.container] if self.record else []
        return max(of_it, key=lambda each: (each.name in committed, each.name), default=None)

    def held_by_another(self, rollout: str) -> Lease | None:
        """The lease of another rollout that has not run out."""
        others = (each for each in self.leases if each.rollout != rollout and each.expires > self.clock)
        return next(others, None)

    def prunable(self, keep: int) -> list[str]:
        """Releases past the newest ``keep``; never the live, the committed, the previous or a pinned one."""
        record, live = self.record, self.live
        protected = {self.pinned, live.release if live else None}
        protected |= {record.release, record.previous} if record else set()
        newest_first = sorted(self.releases, reverse=True)
        return [release for release in newest_first[keep:] if release not in protected]

    def _runs(self, name: str) -> bool:
        return name in self.containers and self.containers[name].running


def read_holdings(model: str, clock: float, volumes: Iterable[Json], containers: Iterable[Json]) -> Holdings:
    """Read the engine's lists; what is not as we write it is not ours, and is passed over."""
    by_role: dict[str, list[tuple[str, dict[str, str]]]] = {role: [] for role in Role}
    for volume in volumes:
        labels = _labels(volume)
        if labels.get("model") == model and labels.get("role") in by_role:
            by_role[labels["role"]].append((str(volume.get("Name")), labels))
    begun = {labels.get("release", "") for _, labels in by_role[Role.RELEASE]}
    proofs = {labels.get("release", ""): labels.get("digest", "") for _, labels in by_role[Role.PROOF]}
    releases = {
        release: digest for release, digest in proofs.items() if release in begun and is_name(release)
    }
    serving, loaders = _containers(model, containers)
    pins = [labels.get("release") for _, labels in by_role[Role.PIN]]
    records = (_record(labels) for _, labels in by_role[Role.RECORD])
    leases, seen = (
        tuple(filter(None, (_lease(name, labels) for name, labels in by_role[role])))
        for role in (Role.LEASE, Role.SEEN)
    )
    return Holdings(
        model=model,
        clock=clock,
        releases=releases,
        unproven=tuple(sorted(begun - releases.keys())),
        containers=serving,
        records=tuple(sorted(filter(None, records), key=lambda each: -each.number)),
        leases=tuple(_as_seen(lease, seen) for lease in leases),
        seen=seen,
        trials=tuple(filter(None, (_trial(name, labels) for name, labels in by_role[Role.TRIAL]))),
        pinned=pins[0] if pins else None,
        loaders=loaders,
    )


def read_clock(text: str) -> float:
    """The engine's ``SystemTime``, which is in the time zone of its host; in whole seconds."""
    return datetime.fromisoformat(text).replace(microsecond=0).timestamp()


def _labels(thing: Json) -> dict[str, str]:
    labels: Mapping[str, Any] = thing.get("Labels") or {}
    return {key.removeprefix(PREFIX): value for key, value in labels.items() if key.startswith(PREFIX)}


def _containers(model: str, containers: Iterable[Json]) -> tuple[dict[str, Container], tuple[str, ...]]:
    serving: dict[str, Container] = {}
    loaders = []
    for each in containers:
        labels, name = _labels(each), str((each.get("Names") or ["/"])[0]).removeprefix("/")
        if labels.get("model") != model:
            continue
        if labels.get("role") == Role.LOADER:
            loaders.append(name)
        elif labels.get("role") == Role.SERVING:
            serving[name] = Container(
                name=name,
                release=labels.get("release", ""),
                digest=labels.get("digest", ""),
                spec=labels.get("spec", ""),
                running=each.get("State") == "running",
            )
    return serving, tuple(loaders)


def _lease(volume: str, labels: Mapping[str, str]) -> Lease | None:
    try:
        return Lease(
            volume=volume,
            rollout=labels["rollout"],
            epoch=int(labels["epoch"]),
            nonce=labels["nonce"],
            taken=float(labels["taken"]),
            expires=float(labels["expires"]),
        )
    except (KeyError, ValueError):
        return None


def _as_seen(lease: Lease, seen: Iterable[Lease]) -> Lease:
    """By the clock as it was put back last: each time it was earlier than ever before."""
    last = min((lease, *(each for each in seen if each.nonce == lease.nonce)), key=lambda each: each.taken)
    return replace(last, volume=lease.volume)


def _record(labels: Mapping[str, str]) -> Record | None:
    try:
        return Record(
            number=int(labels["number"]),
            release=labels["release"],
            digest=labels["digest"],
            previous=labels.get("previous"),
            container=labels["container"],
            rollout=labels["rollout"],
            token=labels["token"],
            since=float(labels["since"]),
        )
    except (KeyError, ValueError):
        return None


def _trial(volume: str, labels: Mapping[str, str]) -> Trial | None:
    try:
        return Trial(
            volume=volume,
            token=labels["token"],
            release=labels["release"],
            container=labels["container"],
            origin=labels.get("origin"),
            begun=float(labels["begun"]),
            deadline=float(labels["deadline"]),
        )
    except (KeyError, ValueError):
        return None
