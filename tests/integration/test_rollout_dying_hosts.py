"""Hosts of a fleet lose their power in the middle of a rollout; it ends as its policy says, and can be continued."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from tests.integration.sshhosts import mortal_sshd
from tests.integration.test_rollout import rollout, states
from tests.releases import make_release

# Each host dies as it enters its state, and what its policy makes of it: where nothing could be switched, no change;
# where nobody can ask how a switch ended, the way back is not known to have worked.
ENDS = {
    "PREFLIGHT": {"UNREACHABLE"},
    "STAGING": {"UNREACHABLE", "FAILED_NO_CHANGE"},
    "VERIFIED": {"REVERT_FAILED", "REVERTED"},
    "DRAINING": {"REVERT_FAILED", "REVERTED"},
    "ACTIVATING": {"REVERT_FAILED"},
    "PROBING": {"REVERT_FAILED"},
    "SOAKING": {"REVERT_FAILED"},
    "SUCCEEDED": {"SUCCEEDED"},
}
QUICK = {
    "drain": 1,
    "healthy_deadline": 5,
    "progress_deadline": 6,
    "transfer_retries": 0,
    "min_healthy_time": 0.3,
}


@pytest.fixture(scope="module")
def hosts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mortal")
    with ExitStack() as stack:
        yield [stack.enter_context(mortal_sshd(folder / f"edge-{n}", f"edge-{n}")) for n in range(8)]


@pytest.fixture(scope="module")
def releases(tmp_path_factory):
    store = tmp_path_factory.mktemp("store")
    return [
        make_release(store, {"model.onnx": b"1" * 1000, "n": str(n).encode()}, minute=n) for n in range(4)
    ]


def dying(hosts, at):
    """A journal that switches hosts off: each at a state."""

    def journal(entry):
        for host in hosts:
            if entry.target == host.name and at.get(host.name) == entry.state and host.processes:
                host.die()

    return journal


async def test_eight_hosts_of_which_each_dies_in_another_state(hosts, releases, monkeypatch):
    monkeypatch.setattr("hybrid_provider.targets.staging._TRIES", 2)
    result = await rollout(releases[0], hosts, "r-1").run()
    assert states(result) == ["SUCCEEDED"] * 8, result.reasons()
    at = {host.name: state for host, state in zip(hosts, ENDS, strict=True)}
    tolerant = {"waves": ["100%"], "max_unavailable": "100%", "max_failures": 8}
    fleet = rollout(releases[1], hosts, "r-2", dying(hosts, at), **QUICK, **tolerant)
    result = await fleet.run()
    for state, expected in zip(states(result), ENDS.values(), strict=True):
        assert state in expected, result.reasons()
    assert [host.processes for host in hosts] == [[]] * 8
    # A host is on one whole release, whenever it died.
    assert {host.current for host in hosts} <= {releases[0].release_id, releases[1].release_id}
    for host in hosts:
        host.revive()
    result = await rollout(releases[1], hosts, "r-2").run()
    assert str(result.state) == "SUCCEEDED", result.reasons()
    assert [host.current for host in hosts] == [releases[1].release_id] * 8
    assert [host.leftovers() for host in hosts] == [[]] * 8
    assert all(host.lock_is_free() for host in hosts)


async def test_a_canary_that_dies_stops_the_fleet_before_any_other_is_switched(hosts, releases):
    before = [host.current for host in hosts]
    fleet = rollout(releases[2], hosts, "r-3", dying(hosts, {"edge-0": "PROBING"}), **QUICK)
    result = await fleet.run()
    assert str(result.state) == "PAUSED"
    assert states(result) == ["REVERT_FAILED", *["VERIFIED"] * 7]
    assert [host.current for host in hosts][1:] == before[1:]
    hosts[0].revive()
    result = await rollout(releases[2], hosts, "r-3").run()
    assert str(result.state) == "SUCCEEDED", result.reasons()
    assert [host.leftovers() for host in hosts] == [[]] * 8
