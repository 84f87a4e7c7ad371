"""What a policy is, what it refuses, and which waves it makes of a fleet."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid_provider.exceptions import ConfigurationError
from hybrid_provider.rollout.plan import checked_fleet, count_of, lease_of, plan_waves, same_places
from hybrid_provider.rollout.policy import OnBreach, OnUnreachable, RolloutPolicy, Verify
from hybrid_provider.rollout.states import (
    DEADLINES,
    ROLLOUT_STEPS,
    TARGET_STEPS,
    ImpossibleStep,
    RolloutState,
    TargetState,
    checked_rollout_step,
    checked_target_step,
)
from hybrid_provider.targets.target import Readiness


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


def test_words_are_settings():
    policy = RolloutPolicy.of({"unreachable": "skip", "verify": "all", "lock_wait": 0, "drain": 0})
    assert (policy.unreachable, policy.verify) == (OnUnreachable.SKIP, Verify.ALL)


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
        ({"healthy_deadline": 6, "min_healthy_time": 1}, "no probe could ever pass; give more than 6 s"),
        ({"probe_interval": 301}, "no probe could ever pass"),
        ({"probe_interval": 70}, "bake_time .* is over before a second probe"),
        ({"waves": ["100%", 1]}, "nothing is left after 100%"),
        ({"waves": ["60%", "60%"]}, "add up to 120%"),
        ({"unreachable": "ignore"}, "'fail' or 'skip'"),
        ({"verify": "none"}, "'changed' or 'all'"),
        ({"drain": -1}, "drain"),
        ({"transfer_retries": -1}, "transfer_retries -1: give a number from 0"),
        ({"connects": 0}, "connects"),
        ({"lock_wait": 10}, "lock_wait .* is over before the first lock_poll"),
        ({"progress_deadline": 10}, "before healthy_deadline"),
        ({"bake": 60}, "no setting is called bake; there are bake_time"),
        ("fast", "no mapping"),
    ],
)
def test_a_setting_that_cannot_be_right_is_named(settings, named):
    with pytest.raises(ConfigurationError, match=named):
        RolloutPolicy.of(settings)


def test_all_faults_are_in_one_message():
    with pytest.raises(ConfigurationError, match=r"waves.*max_failures.*verify.*bake_time"):
        RolloutPolicy.of({"waves": [], "max_failures": None, "bake_time": None, "verify": "some"})


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
        checked_fleet([])
    with pytest.raises(ConfigurationError, match="no targets"):
        checked_fleet(["a"], skip={"a"})
    with pytest.raises(ConfigurationError, match=r"twice: a.*not in the fleet: x, y"):
        checked_fleet(["a", "b", "a"], skip={"y", "x"})


@pytest.mark.parametrize(
    ("leases", "places"),
    [
        ({"a": ("1", ""), "b": ("2", "")}, ()),
        ({"a": ("1", "dead"), "b": ("2", "dead too")}, ()),
        ({"a": ("1", "2"), "b": ("2", "dead"), "c": ("3", "")}, (("a", "b"),)),
        ({"a": ("1", ""), "b": ("2", "3"), "c": ("3", "1"), "d": ("4", "")}, (("a", "b", "c"),)),
        ({"a": ("1", "2"), "b": ("2", ""), "c": ("3", "4"), "d": ("4", "")}, (("a", "b"), ("c", "d"))),
        ({"a": ("", ""), "b": ("", "")}, ()),
        # What no honest host says: it ends all the same.
        ({"a": ("1", "2"), "b": ("2", "1")}, ()),
    ],
)
def test_targets_are_one_place_where_one_took_the_lease_over_that_another_had_just_taken(leases, places):
    found = {name: Readiness(lease=lease, overtaken=overtaken) for name, (lease, overtaken) in leases.items()}
    assert same_places(found) == places


def test_a_skipped_target_is_in_no_wave():
    assert checked_fleet(["a", "b", "c"], skip=["b"]) == ("a", "c")


def test_a_lease_lasts_for_a_fleet_in_which_each_target_needs_its_deadline():
    policy = RolloutPolicy()
    waves = plan_waves([str(n) for n in range(8)], policy.waves)
    assert lease_of(policy, waves, 2) == policy.progress_deadline + policy.bake_time + 5 * (
        policy.drain + policy.healthy_deadline
    )


def test_every_state_in_which_a_target_does_something_has_a_deadline():
    policy = RolloutPolicy()
    assert {state for state in DEADLINES if policy.deadline_of(state) > timedelta(0)} == {
        TargetState.PREFLIGHT,
        TargetState.LOCKED,
        TargetState.STAGING,
        TargetState.DRAINING,
        TargetState.ACTIVATING,
        TargetState.PROBING,
        TargetState.SOAKING,
        TargetState.REVERTING,
    }


@pytest.mark.parametrize("steps", [ROLLOUT_STEPS, TARGET_STEPS])
def test_every_state_can_be_come_to_and_says_what_follows_it(steps):
    states = type(next(iter(steps)))
    assert set(steps) == set(states)
    assert set().union(*steps.values()) | {states.PENDING} == set(states)


def test_an_impossible_step_raises():
    assert checked_target_step(TargetState.STAGING, TargetState.VERIFIED) is TargetState.VERIFIED
    with pytest.raises(ImpossibleStep, match="from PENDING to SUCCEEDED"):
        checked_target_step(TargetState.PENDING, TargetState.SUCCEEDED)
    with pytest.raises(ImpossibleStep, match="from SUPERSEDED to PREFLIGHT"):
        checked_rollout_step(RolloutState.SUPERSEDED, RolloutState.PREFLIGHT)
