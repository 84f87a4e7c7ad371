"""What a rollout leaves in Airflow's metrics."""

from __future__ import annotations

from unittest import mock

from hybrid_provider.fleet import metrics
from tests.fleets import release_of


def target(name, state, sent=0):
    return {
        "name": name, "state": state, "from_release": None, "to_release": release_of(9), "seconds": 1.0,
        "bytes_sent": sent, "bytes_linked": 0, "error": None,
    }  # fmt: skip


def test_a_rollout_is_counted_with_its_duration_its_bytes_and_its_targets_by_state():
    result = {
        "model": "digits", "release_id": release_of(9), "digest": "d", "state": "PAUSED", "waves": [],
        "seconds": 12.5,
        "targets": [target("a", "SUCCEEDED", 100), target("b", "SUCCEEDED", 50), target("c", "REVERTED")],
    }  # fmt: skip
    with mock.patch.object(metrics, "stats", autospec=True) as stats:
        metrics.count_rollout("deploy", result)

    (name, duration), tags = stats.timing.call_args.args, stats.timing.call_args.kwargs["tags"]
    assert (name, duration.total_seconds()) == ("hybrid.rollout.duration", 12.5)
    assert tags == {"model": "digits", "kind": "deploy", "state": "PAUSED"}
    states = {call.kwargs["tags"]["state"]: call.args for call in stats.gauge.call_args_list}
    assert states == {"SUCCEEDED": ("hybrid.target.state", 2), "REVERTED": ("hybrid.target.state", 1)}
    assert [call.args[:2] for call in stats.incr.call_args_list if len(call.args) > 1] == [
        ("hybrid.rollout.bytes_sent", 150)
    ]
