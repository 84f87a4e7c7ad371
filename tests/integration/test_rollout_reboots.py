"""Hosts that start anew in the middle of a rollout, with all that runs on them or their service alone."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack

import pytest

from tests.integration.sshhosts import mortal_sshd
from tests.integration.test_rollout import rollout, states
from tests.releases import make_release

POLICY = {"drain": 0, "bake_time": 1, "min_healthy_time": 0.3, "waves": [1, "100%"], "probe_timeout": 0.5}
SWITCHED = ["SUCCEEDED", "SUCCEEDED"]


@pytest.fixture
def hosts(tmp_path):
    with ExitStack() as stack:
        yield [stack.enter_context(mortal_sshd(tmp_path / f"edge-{n}", f"edge-{n}")) for n in range(2)]


@pytest.fixture
def releases(tmp_path):
    return [make_release(tmp_path / "store", {"n": b"%d" % n * 1000}, minute=n) for n in range(2)]


@pytest.fixture
def rolled_out(hosts, releases):
    """Brings the first release to all, and then the second, with something that happens at some entries."""

    async def roll_out(happens, **policy):
        first, second = releases
        done = await rollout(first, hosts, "r-1", **POLICY).run()
        assert states(done) == SWITCHED, done.reasons()
        entries = []

        def journal(entry):
            entries.append(f"{entry.target or 'rollout'}: {entry.state}")
            happens(entries)

        return await rollout(second, hosts, "r-2", journal, **{**POLICY, **policy}).run()

    return roll_out


def reboot(host):
    host.die()
    host.revive()


def left_clean(hosts):
    assert [host.leftovers() for host in hosts] == [[]] * len(hosts)
    assert all(host.lock_is_free() for host in hosts)


async def test_a_canary_that_reboots_in_its_bake_and_serves_again_has_passed_it(hosts, releases, rolled_out):
    def happens(entries):
        if entries[-1] == "rollout: BAKING":
            reboot(hosts[0])

    result = await rolled_out(happens)

    assert (str(result.state), states(result)) == ("SUCCEEDED", SWITCHED), result.reasons()
    assert [host.current for host in hosts] == [releases[1].release_id] * 2
    left_clean(hosts)


@pytest.mark.parametrize(
    ("on_breach", "ends"), [("pause", "PAUSED"), ("rollback", "ROLLED_BACK")], ids=["pause", "rollback"]
)
async def test_a_service_that_dies_in_the_bake_and_lives_with_the_release_before_is_taken_back(
    hosts, releases, rolled_out, on_breach, ends
):
    def happens(entries):
        if entries[-1] == "rollout: BAKING":
            hosts[0].processes[0].kill()
            hosts[0].processes[0].wait()
        # As the reload command would start it.
        if entries.count("edge-0: ACTIVATING") == 2 and entries[-1] == "edge-0: PROBING":
            hosts[0].serve()

    result = await rolled_out(happens, on_breach=on_breach)

    assert (str(result.state), states(result)) == (ends, ["REVERTED", "VERIFIED"]), result.reasons()
    assert "it stopped to serve the release while it was watched" in result.targets[0].error
    assert [host.current for host in hosts] == [releases[0].release_id] * 2
    left_clean(hosts)


async def test_a_canary_that_is_away_for_longer_than_three_probes_is_taken_back_when_it_is_there_again(
    hosts, releases, rolled_out
):
    loop = asyncio.get_running_loop()

    def happens(entries):
        if entries[-1] == "rollout: BAKING":
            hosts[0].die()
        if entries.count("edge-0: ACTIVATING") == 2 and entries[-1] == "edge-0: ACTIVATING":
            loop.call_later(2, hosts[0].revive)

    result = await rolled_out(happens)

    assert (str(result.state), states(result)) == ("PAUSED", ["REVERTED", "VERIFIED"]), result.reasons()
    assert [host.current for host in hosts] == [releases[0].release_id] * 2
    left_clean(hosts)


async def test_a_host_that_reboots_before_its_commit_is_on_the_release_before(hosts, releases, rolled_out):
    def happens(entries):
        if entries[-1] == "edge-1: PROBING":
            reboot(hosts[1])

    result = await rolled_out(happens)

    assert states(result) == ["SUCCEEDED", "REVERTED"], result.reasons()
    assert "the activation was killed on the target, and was undone" in result.targets[1].error
    assert [host.current for host in hosts] == [release.release_id for release in reversed(releases)]
    left_clean(hosts)
