"""Whether a candidate is good enough: its metrics against thresholds, and against those of the champion."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final, TypedDict

from hybrid_provider.exceptions import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

Metrics = Mapping[str, float]


class Better(StrEnum):
    """Which way a metric gets better."""

    HIGHER = "higher"
    LOWER = "lower"


class CheckDict(TypedDict):
    """One check as plain values."""

    metric: str
    passed: bool
    reason: str


class VerdictDict(TypedDict):
    """A :class:`Verdict` as an XCom."""

    model: str
    passed: bool
    reason: str
    checks: list[CheckDict]
    candidate: dict[str, float]
    champion: dict[str, float] | None
    champion_release: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Threshold:
    """The range that a metric must lie in; an end that is None is open."""

    minimum: float | None
    maximum: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """How a metric must compare with the champion's.

    Attributes:
        better: Which way it gets better.
        by: How much better it must be at least; below zero, how much worse it may be.
    """

    better: Better
    by: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Champion:
    """What is live, and what it reached.

    Attributes:
        release: Its release, None where only metrics are known.
        metrics: Its metrics.
    """

    release: str | None
    metrics: Metrics


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One rule and how the candidate stands to it, in a sentence."""

    metric: str
    passed: bool
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Every check; the candidate passes if all of them did."""

    checks: tuple[Check, ...]
    candidate: Metrics
    champion: Champion | None

    @property
    def passed(self) -> bool:
        """Whether the candidate may go on."""
        return all(check.passed for check in self.checks)

    @property
    def reason(self) -> str:
        """The checks that it did not pass, or all of them where it passed."""
        return "; ".join(check.reason for check in self.checks if self.passed or not check.passed)

    def to_dict(self, model: str) -> VerdictDict:
        """The verdict as an XCom."""
        return {
            "model": model,
            "passed": self.passed,
            "reason": self.reason,
            "checks": [
                {"metric": check.metric, "passed": check.passed, "reason": check.reason}
                for check in self.checks
            ],
            "candidate": dict(self.candidate),
            "champion": dict(self.champion.metrics) if self.champion else None,
            "champion_release": self.champion.release if self.champion else None,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """The rules.

    Attributes:
        thresholds: By metric.
        comparisons: By metric.
    """

    thresholds: Mapping[str, Threshold]
    comparisons: Mapping[str, Comparison]

    @classmethod
    def of(cls, thresholds: object, compare: object) -> Gate:
        """The rules that a DAG gives.

        Args:
            thresholds: ``{"accuracy": {"min": 0.9}, "loss": {"max": 0.3}}``.
            compare: ``{"accuracy": "higher"}`` or ``{"accuracy": {"better": "higher", "by": -0.01}}``.

        Raises:
            ConfigurationError: Something in them cannot be read, or there is no rule at all.
        """
        gate = cls(
            thresholds={name: _threshold(name, rule) for name, rule in _rules("thresholds", thresholds)},
            comparisons={name: _comparison(name, rule) for name, rule in _rules("compare", compare)},
        )
        if not gate.thresholds and not gate.comparisons:
            raise ConfigurationError(
                "the gate has no rule and would let everything through; give thresholds, such as "
                '{"validation:accuracy": {"min": 0.9}}, or compare, such as {"validation:accuracy": "higher"}'
            )
        return gate

    def judge(self, candidate: Metrics, champion: Champion | None) -> Verdict:
        """Hold the candidate against every rule; without a champion there is nothing to compare with."""
        checks = [_held(name, rule, candidate) for name, rule in self.thresholds.items()]
        checks += [_compared(name, rule, candidate, champion) for name, rule in self.comparisons.items()]
        return Verdict(checks=tuple(checks), candidate=candidate, champion=champion)


# How what moves a fleet ends where the release of its event is live then.
_WENT_LIVE: Final = {("deploy", "SUCCEEDED"), ("rollback", "ROLLED_BACK")}


def champion_of(events: Iterable[Mapping[str, object]]) -> Champion | None:
    """The champion by the events of the model's asset, oldest first: the release that went live last.

    A rollback's event may not know the metrics; then those of the deploy of the same release do.
    """
    known: dict[str, Metrics] = {}
    live: str | None = None
    for extra in events:
        release = extra.get("release")
        if extra.get("kind") not in {"deploy", "rollback"} or not isinstance(release, str):
            continue
        training = extra.get("training")
        found = metrics_of(training.get("metrics")) if isinstance(training, Mapping) else {}
        if found:
            known[release] = found
        if (extra["kind"], extra.get("state")) in _WENT_LIVE:
            live = release
    return Champion(release=live, metrics=known[live]) if live in known else None


def read_metrics(path: Path) -> dict[str, float]:
    """The metrics in a JSON file of a release: an object of numbers, nested ones joined with a dot.

    Raises:
        ConfigurationError: There is no such file, or it is no JSON object.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigurationError(
            f"the release has no file {path.name} with metrics ({path}); let the training script write it to "
            "SM_MODEL_DIR, or give the training's output as candidate"
        ) from error
    except (ValueError, OSError) as error:
        raise ConfigurationError(f"the metrics in {path} cannot be read: {error}") from error
    if not isinstance(content, Mapping):
        raise ConfigurationError(f"the metrics in {path} are no JSON object of names and numbers")
    return metrics_of(content)


def metrics_of(value: object, prefix: str = "") -> dict[str, float]:
    """The numbers of a mapping by name, those of a mapping inside it with a dot between."""
    found: dict[str, float] = {}
    for name, number in value.items() if isinstance(value, Mapping) else ():
        if isinstance(number, Mapping):
            found |= metrics_of(number, f"{prefix}{name}.")
        elif isinstance(number, int | float) and not isinstance(number, bool):
            found[f"{prefix}{name}"] = float(number)
    return found


def _held(name: str, rule: Threshold, candidate: Metrics) -> Check:
    value = candidate.get(name)
    if value is None or math.isnan(value):
        return _unknown(name, candidate)
    if rule.minimum is not None and value < rule.minimum:
        return Check(metric=name, passed=False, reason=f"{name} is {value:g}, less than {rule.minimum:g}")
    if rule.maximum is not None and value > rule.maximum:
        return Check(metric=name, passed=False, reason=f"{name} is {value:g}, more than {rule.maximum:g}")
    return Check(metric=name, passed=True, reason=f"{name} is {value:g}, as it must be")


def _compared(name: str, rule: Comparison, candidate: Metrics, champion: Champion | None) -> Check:
    value = candidate.get(name)
    if value is None or math.isnan(value):
        return _unknown(name, candidate)
    if champion is None:
        return Check(metric=name, passed=True, reason=f"{name} is {value:g}, and there is no champion yet")
    theirs = champion.metrics.get(name)
    who = f"the champion{f' {champion.release}' if champion.release else ''}"
    if theirs is None or math.isnan(theirs):
        return Check(metric=name, passed=True, reason=f"{name} is {value:g}, and {who} has none to compare")
    gain = value - theirs if rule.better is Better.HIGHER else theirs - value
    # Differences of decimals are off in their last digits: 0.93 - 0.92 is less than 0.01.
    passed = gain >= rule.by or math.isclose(gain, rule.by, abs_tol=1e-9)
    needed = f", and must be at least {rule.by:g} better" if rule.by > 0 else ""
    allowed = f", and may be {-rule.by:g} worse" if rule.by < 0 else ""
    return Check(
        metric=name,
        passed=passed,
        reason=f"{name} is {value:g}, and {theirs:g} for {who} ({rule.better} is better{needed}{allowed})",
    )


def _unknown(name: str, candidate: Metrics) -> Check:
    has = f"it has {', '.join(sorted(candidate))}" if candidate else "it has none at all"
    return Check(
        metric=name,
        passed=False,
        reason=f"the candidate has no number for the metric {name}; {has}. A training job reports what its "
        "metric_definitions find in its log",
    )


def _rules(what: str, rules: object) -> Iterable[tuple[str, object]]:
    if rules is None:
        return ()
    if not isinstance(rules, Mapping):
        raise ConfigurationError(f"{what} is {rules!r}; give a mapping from the metric's name to its rule")
    return [(str(name), rule) for name, rule in rules.items()]


def _threshold(name: str, rule: object) -> Threshold:
    if not isinstance(rule, Mapping) or not rule or rule.keys() - {"min", "max"}:
        raise ConfigurationError(
            f'the threshold of {name} is {rule!r}; give {{"min": …}}, {{"max": …}} or both'
        )
    low, high = (_number(f"the threshold of {name}", rule.get(end)) for end in ("min", "max"))
    if low is not None and high is not None and low > high:
        raise ConfigurationError(
            f"the threshold of {name} has min {low:g} above max {high:g}; nothing passes"
        )
    return Threshold(minimum=low, maximum=high)


def _comparison(name: str, rule: object) -> Comparison:
    given = {"better": rule} if isinstance(rule, str) else rule
    if (
        isinstance(given, Mapping)
        and given.get("better") in list(Better)
        and not given.keys() - {"better", "by"}
    ):
        by = _number(f"the comparison of {name}", given.get("by"))
        return Comparison(better=Better(given["better"]), by=by or 0.0)
    raise ConfigurationError(
        f'the comparison of {name} is {rule!r}; give "higher" or "lower", whichever is better, or '
        '{"better": "higher", "by": -0.01}'
    )


def _number(what: str, value: object) -> float | None:
    if value is None:
        return None
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    raise ConfigurationError(f"{what} has {value!r}, which is no number")
