"""The quality gate: what passes, what does not, and in which words."""

from __future__ import annotations

import json

import pytest

from hybrid_provider.exceptions import ConfigurationError
from hybrid_provider.training.gate import Champion, Gate, champion_of, metrics_of, read_metrics
from tests.fleets import ended, release_of, trained

A, B = release_of(2), release_of(9)
CHAMPION = Champion(release=A, metrics={"accuracy": 0.92, "loss": 0.3})


def judged(candidate, *, thresholds=None, compare=None, champion=CHAMPION):
    return Gate.of(thresholds, compare).judge(candidate, champion)


def test_a_candidate_within_every_threshold_passes():
    verdict = judged(
        {"accuracy": 0.95, "loss": 0.2}, thresholds={"accuracy": {"min": 0.9}, "loss": {"min": 0, "max": 0.2}}
    )

    assert verdict.passed
    assert "accuracy is 0.95" in verdict.reason


def test_the_reason_names_each_rule_that_was_broken_and_no_other():
    verdict = judged(
        {"accuracy": 0.8, "loss": 0.5, "auc": 0.9},
        thresholds={"accuracy": {"min": 0.9}, "loss": {"max": 0.2}, "auc": {"min": 0.5}},
    )

    assert not verdict.passed
    assert verdict.reason == "accuracy is 0.8, less than 0.9; loss is 0.5, more than 0.2"


@pytest.mark.parametrize(
    ("candidate", "rule", "passes"),
    [
        ({"accuracy": 0.92}, "higher", True),
        ({"accuracy": 0.919}, "higher", False),
        ({"accuracy": 0.93}, {"better": "higher", "by": 0.01}, True),
        ({"accuracy": 0.929}, {"better": "higher", "by": 0.01}, False),
        ({"accuracy": 0.911}, {"better": "higher", "by": -0.01}, True),
        ({"loss": 0.31}, "lower", False),
        ({"loss": 0.29}, "lower", True),
    ],
)  # fmt: skip
def test_a_metric_is_compared_with_the_champion_s_in_the_direction_that_is_better(candidate, rule, passes):
    (name,) = candidate
    verdict = judged(candidate, compare={name: rule})

    assert verdict.passed is passes
    assert A in verdict.reason


def test_the_first_release_has_no_champion_to_beat():
    assert judged({"accuracy": 0.5}, compare={"accuracy": "higher"}, champion=None).passed


def test_a_metric_that_the_champion_never_had_compares_with_nothing():
    assert judged({"auc": 0.5}, compare={"auc": "higher"}).passed


@pytest.mark.parametrize("candidate", [{"acuracy": 0.99}, {}, {"accuracy": float("nan")}])
def test_a_candidate_without_the_metric_is_refused_and_told_what_it_has(candidate):
    for rules in ({"thresholds": {"accuracy": {"min": 0.1}}}, {"compare": {"accuracy": "higher"}}):
        verdict = judged(candidate, **rules)

        assert not verdict.passed
        assert "no number for the metric accuracy" in verdict.reason


@pytest.mark.parametrize(
    ("thresholds", "compare", "told"),
    [
        (None, None, "no rule"),
        ({"accuracy": 0.9}, None, '"min"'),
        ({"accuracy": {"minimum": 0.9}}, None, '"min"'),
        ({"accuracy": {"min": "0.9"}}, None, "no number"),
        ({"accuracy": {"min": 2, "max": 1}}, None, "nothing passes"),
        ([0.9], None, "a mapping"),
        (None, {"accuracy": "better"}, '"higher" or "lower"'),
        (None, {"accuracy": {"better": "higher", "by": "a bit"}}, "no number"),
    ],
)
def test_rules_that_cannot_be_read_are_explained(thresholds, compare, told):
    with pytest.raises(ConfigurationError, match=told):
        Gate.of(thresholds, compare)


def test_the_champion_is_the_release_that_went_live_last():
    events = [
        {"artifact": {}, "metrics": {"accuracy": 0.99}},
        ended(A, {}, training=trained("one", accuracy=0.9)),
        ended(B, {}, training=trained("two", accuracy=0.95)),
        ended(release_of(16), {}, state="PAUSED", training=trained("three", accuracy=0.97)),
    ]

    assert champion_of(events) == Champion(release=B, metrics={"accuracy": 0.95})


def test_after_a_rollback_the_champion_is_the_release_gone_back_to():
    events = [
        ended(A, {}, training=trained("one", accuracy=0.9)),
        ended(B, {}, training=trained("two", accuracy=0.95)),
        ended(A, {}, kind="rollback", state="ROLLED_BACK"),
    ]

    assert champion_of(events) == Champion(release=A, metrics={"accuracy": 0.9})


def test_there_is_no_champion_where_no_metrics_are_known():
    assert champion_of([ended(A, {})]) is None
    assert champion_of([]) is None


def test_metrics_are_read_from_a_file_of_the_release(tmp_path):
    (tmp_path / "metrics.json").write_text(
        json.dumps({"accuracy": 0.9, "per_class": {"three": 0.8}, "name": "digits", "ok": True})
    )

    assert read_metrics(tmp_path / "metrics.json") == {"accuracy": 0.9, "per_class.three": 0.8}


@pytest.mark.parametrize("content", [None, "not json", "[1]"])
def test_a_release_without_readable_metrics_is_explained(tmp_path, content):
    if content is not None:
        (tmp_path / "metrics.json").write_text(content)

    with pytest.raises(ConfigurationError, match=r"metrics\.json"):
        read_metrics(tmp_path / "metrics.json")


def test_only_numbers_are_metrics():
    assert metrics_of({"a": 1, "b": True, "c": None, "d": "2"}) == {"a": 1.0}
    assert metrics_of(None) == {}
