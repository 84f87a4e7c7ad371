"""What a policy is, what it refuses, and which waves it makes of a fleet."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid_provider.exceptions import ConfigurationError
from hybrid_provider.rollout.plan import count_of, plan_waves
from hybrid_provider.rollout.policy import OnBreach, RolloutPolicy


def test_a_mapping_as_json_has_it_is_a_policy_with_durations_in_seconds():
    policy = RolloutPolicy.of(
        {"waves": [1, "50%"], "bake_time": 3, "probe_interval": 0.5, "on_breach": "rollback"}
    )
    assert policy == RolloutPolicy(
        waves=(1, "50%"),
        bake_time=timedelta(seconds=3),
        probe_interval=timedelta(seconds=0.5),
        on_breach=OnBreach.ROLLBACK,
    )


def test_nothing_is_the_default_policy_and_a_policy_is_itself():
    assert RolloutPolicy.of(None) == RolloutPolicy()
    assert RolloutPolicy.of(RolloutPolicy(max_failures=2)).max_failures == 2


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"waves": []}, "waves"),
        ({"waves": ["0%"]}, "waves"),
        ({"waves": ["101%"]}, "waves"),
        ({"waves": [True]}, "waves"),
        ({"max_unavailable": 0}, "max_unavailable"),
        ({"max_failures": -1}, "max_failures"),
        ({"keep_releases": 0}, "keep_releases"),
        ({"on_breach": "panic"}, "on_breach"),
        ({"bake_time": -1}, "bake_time"),
        ({"probe_interval": 0}, "probe_interval"),
        ({"bake_time": "60"}, "bake_time"),
        ({"min_healthy_time": 300}, "leaves no time"),
        ({"progress_deadline": 10}, "before healthy_deadline"),
        ({"bake": 60}, "no setting is called bake; there are bake_time"),
        ("fast", "no mapping"),
    ],
)
def test_a_setting_that_cannot_be_right_is_named(settings, named):
    with pytest.raises(ConfigurationError, match=named):
        RolloutPolicy.of(settings)


def test_all_faults_are_in_one_message():
    with pytest.raises(ConfigurationError, match=r"waves.*max_failures.*bake_time"):
        RolloutPolicy.of({"waves": [], "max_failures": None, "bake_time": None})


def test_the_default_waves_are_one_then_a_quarter_then_the_rest():
    names = [f"edge-{n}" for n in range(12)]
    assert [len(wave) for wave in plan_waves(names, RolloutPolicy().waves)] == [1, 3, 8]


def test_the_last_wave_repeats():
    assert plan_waves(list("abcde"), (1, 2)) == (("a",), ("b", "c"), ("d", "e"))


@given(
    st.integers(1, 60),
    st.lists(st.integers(1, 9) | st.integers(1, 100).map(lambda n: f"{n}%"), min_size=1, max_size=4),
)
def test_each_target_is_in_one_wave_in_the_order_of_the_fleet(size, waves):
    names = [str(n) for n in range(size)]
    planned = plan_waves(names, waves)
    assert [name for wave in planned for name in wave] == names
    assert all(planned)


@pytest.mark.parametrize(("share", "count"), [("25%", 2), ("1%", 1), ("100%", 8), (3, 3)])
def test_a_share_is_rounded_down_and_at_least_one(share, count):
    assert count_of(share, 8) == count


def test_a_fleet_without_targets_or_with_one_twice_is_refused():
    with pytest.raises(ConfigurationError, match="no targets"):
        plan_waves([], (1,))
    with pytest.raises(ConfigurationError, match="twice: a"):
        plan_waves(["a", "b", "a"], (1,))
