"""Which artifacts may go where: an allow-list that no DAG can widen."""

from __future__ import annotations

import pytest

from hybrid_provider.exceptions import ConfigurationError
from hybrid_provider.rollout.direction import DirectionPolicy

POLICY = DirectionPolicy.of(
    [
        {"from": "s3://factory/models/", "to": ["hall-1", "hall-2"]},
        {"from": ["s3://factory/pilot/", "file:///srv/imports/"], "to": "laboratory"},
        {"from": "s3://public/", "to": "*"},
    ]
)


@pytest.mark.parametrize(
    ("source", "groups"),
    [
        ("s3://factory/models/digits/model.tar.gz", {"edge-1": "hall-1", "edge-2": "hall-2"}),
        ("s3://factory/pilot/model.tar.gz", {"bench": "laboratory"}),
        ("file:///srv/imports/model.onnx", {"bench": "laboratory"}),
        ("s3://public/model.onnx", {"edge-1": "hall-1", "kiosk": None}),
        ("s3://factory/pilot/model.tar.gz", {}),
    ],
)
def test_a_way_that_a_rule_opens_may_be_taken(source, groups):
    POLICY.check(source, groups)


@pytest.mark.parametrize(
    ("source", "groups", "named"),
    [
        (
            "s3://factory/models/m.tar.gz",
            {"edge-1": "hall-1", "bench": "laboratory"},
            "to bench .group laboratory",
        ),
        ("s3://factory/models/m.tar.gz", {"kiosk": None}, "kiosk .group none"),
        ("s3://factory/models-evil/m.tar.gz", {"edge-1": "hall-1"}, "edge-1"),
        ("s3://factory/models/../pilot/m.tar.gz", {"edge-1": "hall-1"}, "edge-1"),
        ("gs://factory/models/m.tar.gz", {"edge-1": "hall-1"}, "edge-1"),
        (None, {"edge-1": "hall-1"}, "an unknown source"),
    ],
)
def test_every_other_way_is_closed(source, groups, named):
    with pytest.raises(ConfigurationError, match=named):
        POLICY.check(source, groups)


def test_a_policy_without_rules_closes_every_way():
    with pytest.raises(ConfigurationError, match="no rule"):
        DirectionPolicy.of([]).check("s3://public/model.onnx", {"edge-1": "hall-1"})


def test_a_policy_is_read_from_yaml(tmp_path):
    path = tmp_path / "directions.yml"
    path.write_text("- from: s3://factory/\n  to: [hall-1]\n")
    assert DirectionPolicy.read(path).directions[0].groups == {"hall-1"}
    path.write_text("- from: [")
    with pytest.raises(ConfigurationError, match="nothing may go anywhere"):
        DirectionPolicy.read(path)
    with pytest.raises(ConfigurationError, match="nothing may go anywhere"):
        DirectionPolicy.read(tmp_path / "absent.yml")


@pytest.mark.parametrize(
    "rules",
    [None, {}, "s3://a/", [1], [{"from": "s3://a/"}], [{"from": "s3://a/", "to": []}],
     [{"from": "s3://a/", "to": "x", "unless": "y"}], [{"from": "bucket/a", "to": "x"}], [{"from": 1, "to": "x"}]],
)  # fmt: skip
def test_what_is_no_policy_is_refused(rules):
    with pytest.raises(ConfigurationError, match="direction policy"):
        DirectionPolicy.of(rules)
