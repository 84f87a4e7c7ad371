"""How a fleet moves: in which waves, how many at once, how long, and when to stop."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import timedelta
from enum import StrEnum
from typing import Final

from hybrid_provider.exceptions import ConfigurationError
from hybrid_provider.rollout.states import DEADLINES, TargetState

_PERCENT: Final = re.compile(r"([1-9][0-9]?|100)%")

_WHOLE: Final = 100

# A number of targets, or a share of the fleet such as "25%".
Share = int | str


class OnBreach(StrEnum):
    """What becomes of the fleet when more targets failed than may."""

    PAUSE = "pause"
    ROLLBACK = "rollback"


class OnUnreachable(StrEnum):
    """What a target is that cannot be reached before anything was switched there."""

    FAIL = "fail"
    SKIP = "skip"


class Verify(StrEnum):
    """Which files of a release are hashed on a target before it goes live there."""

    CHANGED = "changed"
    ALL = "all"


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutPolicy:
    """How a fleet moves to a release.

    A share is a number of targets or a percentage of the fleet, rounded down, and always at least one target.

    Attributes:
        waves: Sizes of the waves, one after the other; the last one repeats until the fleet is through. The
            first is the canary. One target, then a quarter, then the rest, as in Ansible's ``serial``.
        max_unavailable: How many targets may be in a switch at once. 25%, as Kubernetes and Argo.
        max_failures: How many targets may fail before the fleet stops, over all waves. 0, as Swarm and Argo.
        unreachable: Whether a target that cannot be reached, before anything was switched there, has failed
            or is skipped. It has failed: what cannot be reached cannot be known to be well.
        bake_time: How long the canary is watched before the next wave. 60 s, as Flagger.
        min_healthy_time: For how long without a gap a target must answer well. 10 s, as Nomad.
        healthy_deadline: By when it must have done so; otherwise it goes back. 300 s, as Nomad.
        progress_deadline: How long a target may be without any progress in another state. 600 s, as Nomad.
        probe_interval: Between two probes of a target. 1 s, as kamal-proxy.
        probe_timeout: For one probe. 5 s, as kamal-proxy.
        drain: How long what a target is doing may take to end before it is switched. 30 s, as Kamal.
        on_breach: Leave the fleet as it is, or take the switched targets back. Pause, as Swarm and hawkBit.
        keep_releases: How many of the newest releases stay on a target, besides the live and the previous
            one. 5, as Capistrano and Kamal.
        lock_wait: How long to wait for another rollout to leave the targets. 900 s, as Kamal.
        lock_poll: How long between two looks whether it has. 15 s.
        transfer_retries: How often a transfer goes on after its connection was lost. 10, as Greengrass and
            Mender.
        connects: How many targets are prepared, staged or left at once. 30, as Kamal.
        verify: Hash the files that a target's own record does not show untouched since they were verified,
            or all of them.
    """

    waves: tuple[Share, ...] = (1, "25%", "100%")
    max_unavailable: Share = "25%"
    max_failures: int = 0
    unreachable: OnUnreachable = OnUnreachable.FAIL
    bake_time: timedelta = timedelta(seconds=60)
    min_healthy_time: timedelta = timedelta(seconds=10)
    healthy_deadline: timedelta = timedelta(seconds=300)
    progress_deadline: timedelta = timedelta(seconds=600)
    probe_interval: timedelta = timedelta(seconds=1)
    probe_timeout: timedelta = timedelta(seconds=5)
    drain: timedelta = timedelta(seconds=30)
    on_breach: OnBreach = OnBreach.PAUSE
    keep_releases: int = 5
    lock_wait: timedelta = timedelta(seconds=900)
    lock_poll: timedelta = timedelta(seconds=15)
    transfer_retries: int = 10
    connects: int = 30
    verify: Verify = Verify.CHANGED

    def __post_init__(self) -> None:
        if faults := _faults(self):
            raise ConfigurationError(f"rollout policy: {'; '.join(faults)}")

    def deadline_of(self, state: TargetState) -> timedelta:
        """How long a target may be in a state; see :data:`~hybrid_provider.rollout.states.DEADLINES`."""
        return sum((getattr(self, name) for name in DEADLINES[state]), timedelta(0))

    @classmethod
    def of(cls, settings: RolloutPolicy | Mapping[str, object] | None) -> RolloutPolicy:
        """A policy from what a DAG gives: itself, nothing, or a mapping with durations in seconds.

        Raises:
            ConfigurationError: What is wrong with it, all in one message.
        """
        if settings is None:
            return cls()
        if isinstance(settings, cls):
            return settings
        if not isinstance(settings, Mapping):
            raise ConfigurationError(f"rollout policy: {settings!r} is no mapping and no RolloutPolicy")
        known = {field.name for field in fields(cls)}
        if unknown := sorted(map(str, settings.keys() - known)):
            names = ", ".join(sorted(known))
            raise ConfigurationError(
                f"rollout policy: no setting is called {', '.join(unknown)}; there are {names}"
            )
        return cls(**{name: _plain(name, value) for name, value in settings.items()})  # type: ignore[arg-type]


_DURATIONS: Final = frozenset(
    field.name for field in fields(RolloutPolicy) if isinstance(field.default, timedelta)
)


# Settings that take one of a few words.
_WORDS: Final[Mapping[str, type[StrEnum]]] = {
    "on_breach": OnBreach,
    "unreachable": OnUnreachable,
    "verify": Verify,
}
# Numbers, and the least that each may be.
_COUNTS: Final[Mapping[str, int]] = {
    "max_failures": 0,
    "keep_releases": 1,
    "transfer_retries": 0,
    "connects": 1,
}
_MAY_BE_ZERO: Final = frozenset({"bake_time", "min_healthy_time", "drain", "lock_wait"})


def _plain(name: str, value: object) -> object:
    """A value of JSON as the dataclass has it; what does not fit is left for the check to name."""
    if name in _DURATIONS and isinstance(value, int | float) and not isinstance(value, bool):
        return timedelta(seconds=value)
    if name == "waves" and isinstance(value, list):
        return tuple(value)
    if name in _WORDS and isinstance(value, str) and value in set(_WORDS[name]):
        return _WORDS[name](value)
    return value


def _is_count(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _is_share(value: object) -> bool:
    return _is_count(value, 1) or (isinstance(value, str) and _PERCENT.fullmatch(value) is not None)


def _faults(policy: RolloutPolicy) -> list[str]:
    return [
        *_wave_faults(policy.waves),
        *_count_faults(policy),
        *_word_faults(policy),
        *(_duration_faults(policy) or _order_faults(policy)),
    ]


def _wave_faults(waves: object) -> list[str]:
    if not isinstance(waves, tuple) or not waves or not all(map(_is_share, waves)):
        return [f"waves {waves!r}: give numbers from 1 or shares such as '25%'"]
    if "100%" in waves[:-1]:
        return [f"waves {waves!r}: nothing is left after 100%; make it the last one"]
    # A last 100% is whatever is left.
    shares = [int(share[:-1]) for share in waves if isinstance(share, str) and share != "100%"]
    if sum(shares) > _WHOLE:
        return [f"waves {waves!r} add up to {sum(shares)}%; a share is one of the whole fleet"]
    return []


def _count_faults(policy: RolloutPolicy) -> list[str]:
    faults = []
    if not _is_share(policy.max_unavailable):
        faults.append(
            f"max_unavailable {policy.max_unavailable!r}: give a number from 1 or a share such as '25%'"
        )
    for name, least in _COUNTS.items():
        if not _is_count(value := getattr(policy, name), least):
            faults.append(f"{name} {value!r}: give a number from {least}")
    return faults


def _word_faults(policy: RolloutPolicy) -> list[str]:
    faults = []
    for name, words in _WORDS.items():
        if (value := getattr(policy, name)) not in set(words):
            faults.append(f"{name} {value!r}: give {' or '.join(map(repr, map(str, words)))}")
    return faults


def _duration_faults(policy: RolloutPolicy) -> list[str]:
    faults = []
    for name in sorted(_DURATIONS):
        value = getattr(policy, name)
        may_be_zero = name in _MAY_BE_ZERO
        if not isinstance(value, timedelta) or value < timedelta(0) or not (value or may_be_zero):
            faults.append(f"{name} {value!r}: give a timedelta{' from 0' if may_be_zero else ' above 0'}")
    return faults


def _order_faults(policy: RolloutPolicy) -> list[str]:
    """Durations that are each possible, and not together."""
    faults = []
    # What is healthy is seen at a probe only, so the least time is whole intervals.
    soak = math.ceil(policy.min_healthy_time / policy.probe_interval) * policy.probe_interval
    if soak + policy.probe_timeout >= policy.healthy_deadline:
        faults.append(
            f"healthy_deadline {_s(policy.healthy_deadline)} leaves no time for min_healthy_time "
            f"{_s(policy.min_healthy_time)}, seen each {_s(policy.probe_interval)}, after a probe of "
            f"{_s(policy.probe_timeout)}: no probe could ever pass; give more than "
            f"{_s(soak + policy.probe_timeout)}, or lower these"
        )
    if policy.progress_deadline < policy.healthy_deadline:
        faults.append(
            f"progress_deadline {_s(policy.progress_deadline)} is before "
            f"healthy_deadline {_s(policy.healthy_deadline)}; give no less"
        )
    if timedelta(0) < policy.bake_time < policy.probe_interval:
        faults.append(
            f"bake_time {_s(policy.bake_time)} is over before a second probe, after probe_interval "
            f"{_s(policy.probe_interval)}, could find anything; give more, or 0"
        )
    if timedelta(0) < policy.lock_wait < policy.lock_poll:
        faults.append(
            f"lock_wait {_s(policy.lock_wait)} is over before the first lock_poll {_s(policy.lock_poll)}; "
            "lower that, or give 0, which does not wait"
        )
    return faults


def _s(duration: timedelta) -> str:
    """In seconds, as a DAG gives it."""
    return f"{duration.total_seconds():g} s"
