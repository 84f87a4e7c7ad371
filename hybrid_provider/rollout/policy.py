"""How a fleet moves: in which waves, how many at once, how long, and when to stop."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import timedelta
from enum import StrEnum
from typing import Final

from hybrid_provider.exceptions import ConfigurationError

_PERCENT: Final = re.compile(r"([1-9][0-9]?|100)%")

# A number of targets, or a share of the fleet such as "25%".
Share = int | str


class OnBreach(StrEnum):
    """What becomes of the fleet when more targets failed than may."""

    PAUSE = "pause"
    ROLLBACK = "rollback"


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutPolicy:
    """How a fleet moves to a release.

    A share is a number of targets or a percentage of the fleet, rounded down, and always at least one target.

    Attributes:
        waves: Sizes of the waves, one after the other; the last one repeats until the fleet is through. The
            first is the canary. One target, then a quarter, then the rest, as in Ansible's ``serial``.
        max_unavailable: How many targets may be in a switch at once. 25%, as Kubernetes and Argo.
        max_failures: How many targets may fail before the fleet stops, over all waves; a target that cannot
            be reached has failed. 0, as Swarm and Argo.
        bake_time: How long the canary is watched before the next wave. 60 s, as Flagger.
        min_healthy_time: For how long without a gap a target must answer well. 10 s, as Nomad.
        healthy_deadline: By when it must have done so; otherwise it goes back. 300 s, as Nomad.
        progress_deadline: How long a target may be without any progress in another state. 600 s, as Nomad.
        probe_interval: Between two probes of a target. 1 s, as kamal-proxy.
        probe_timeout: For one probe. 5 s, as kamal-proxy.
        on_breach: Leave the fleet as it is, or take the switched targets back. Pause, as Swarm and hawkBit.
        keep_releases: How many of the newest releases stay on a target, besides the live and the previous
            one. 5, as Capistrano and Kamal.
    """

    waves: tuple[Share, ...] = (1, "25%", "100%")
    max_unavailable: Share = "25%"
    max_failures: int = 0
    bake_time: timedelta = timedelta(seconds=60)
    min_healthy_time: timedelta = timedelta(seconds=10)
    healthy_deadline: timedelta = timedelta(seconds=300)
    progress_deadline: timedelta = timedelta(seconds=600)
    probe_interval: timedelta = timedelta(seconds=1)
    probe_timeout: timedelta = timedelta(seconds=5)
    on_breach: OnBreach = OnBreach.PAUSE
    keep_releases: int = 5

    def __post_init__(self) -> None:
        if faults := _faults(self):
            raise ConfigurationError(f"rollout policy: {'; '.join(faults)}")

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


def _plain(name: str, value: object) -> object:
    """A value of JSON as the dataclass has it; what does not fit is left for the check to name."""
    if name in _DURATIONS and isinstance(value, int | float) and not isinstance(value, bool):
        return timedelta(seconds=value)
    if name == "waves" and isinstance(value, list):
        return tuple(value)
    if name == "on_breach" and value in set(OnBreach):
        return OnBreach(str(value))
    return value


def _is_count(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _is_share(value: object) -> bool:
    return _is_count(value, 1) or (isinstance(value, str) and _PERCENT.fullmatch(value) is not None)


def _faults(policy: RolloutPolicy) -> list[str]:
    return [*_count_faults(policy), *(_duration_faults(policy) or _order_faults(policy))]


def _count_faults(policy: RolloutPolicy) -> list[str]:
    faults = []
    if not isinstance(policy.waves, tuple) or not policy.waves or not all(map(_is_share, policy.waves)):
        faults.append(f"waves {policy.waves!r}: give numbers from 1 or shares such as '25%'")
    if not _is_share(policy.max_unavailable):
        faults.append(
            f"max_unavailable {policy.max_unavailable!r}: give a number from 1 or a share such as '25%'"
        )
    if not _is_count(policy.max_failures, 0):
        faults.append(f"max_failures {policy.max_failures!r}: give a number from 0")
    if not _is_count(policy.keep_releases, 1):
        faults.append(f"keep_releases {policy.keep_releases!r}: give a number from 1")
    if policy.on_breach not in set(OnBreach):
        faults.append(f"on_breach {policy.on_breach!r}: give 'pause' or 'rollback'")
    return faults


def _duration_faults(policy: RolloutPolicy) -> list[str]:
    faults = []
    for name in sorted(_DURATIONS):
        value = getattr(policy, name)
        may_be_zero = name in {"bake_time", "min_healthy_time"}
        if not isinstance(value, timedelta) or value < timedelta(0) or not (value or may_be_zero):
            faults.append(f"{name} {value!r}: give a timedelta{' from 0' if may_be_zero else ' above 0'}")
    return faults


def _order_faults(policy: RolloutPolicy) -> list[str]:
    faults = []
    if policy.min_healthy_time + policy.probe_timeout >= policy.healthy_deadline:
        faults.append(
            f"healthy_deadline {policy.healthy_deadline} leaves no time for min_healthy_time "
            f"{policy.min_healthy_time} after a probe of {policy.probe_timeout}"
        )
    if policy.progress_deadline < policy.healthy_deadline:
        faults.append(
            f"progress_deadline {policy.progress_deadline} is before "
            f"healthy_deadline {policy.healthy_deadline}"
        )
    return faults
