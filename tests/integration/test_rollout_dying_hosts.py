"""Hosts of a fleet lose their power in the middle of a rollout; it ends as its policy says, and can be continued."""

from __future__ import annotations

import asyncio
import signal
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import timedelta

import pytest

from hybrid_provider.rollout.states import DEADLINES
from tests.integration.sshhosts import mortal_sshd
from tests.integration.test_rollout import rollout, states
from tests.releases import make_release

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
def fleet(hosts, tmp_path_factory):
    """The hosts, on a first release."""
    release = make_release(tmp_path_factory.mktemp("first"), {"model.onnx": b"1" * 1000})
    moving = rollout(release, hosts, "r-first", **WAVES)
    result = asyncio.run(moving.run())
    assert states(result) == ["SUCCEEDED"] * 8, result.reasons()
    return hosts


@dataclass(frozen=True, kw_only=True)
class Death:
    """Which host dies as what is entered, and how the rollout then ends, for it and for the others."""

    host: int
    entry: str
    ends: str
    host_ends: str = "REVERT_FAILED"
    others_end: str = "VERIFIED"
    settings: dict[str, object] = field(default_factory=dict)

    def __str__(self) -> str:
        policy = {**self.settings} if self.settings is not HASTY else {}
        return f"{self.entry}{''.join(f', {name} {value}' for name, value in policy.items())}"


# The canary is edge-0; all others are switched at once after it.
WAVES = {"waves": [1, "100%"], "max_unavailable": "100%"}
# Only the canary is switched, and it is to fail.
HASTY = {"healthy_deadline": 2, "probe_timeout": 0.5, "progress_deadline": 4}
NO_CHANGE = {"ends": "FAILED", "host_ends": "UNREACHABLE"}
DEATHS = (
    Death(host=3, entry="edge-3: PREFLIGHT", **NO_CHANGE, others_end="READY"),
    Death(host=3, entry="edge-3: READY", **NO_CHANGE),
    Death(host=3, entry="edge-3: STAGING", **NO_CHANGE),
    Death(
        host=3,
        entry="edge-3: PREFLIGHT",
        ends="SUCCEEDED",
        host_ends="SKIPPED",
        others_end="SUCCEEDED",
        settings={"unreachable": "skip"},
    ),
    *(
        Death(host=0, entry=f"edge-0: {state}", ends="PAUSED", settings=HASTY)
        for state in ("VERIFIED", "DRAINING", "ACTIVATING", "PROBING", "SOAKING", "REVERTING")
    ),
    Death(host=0, entry="rollout: BAKING", ends="PAUSED", settings=HASTY),
    Death(host=5, entry="edge-5: ACTIVATING", ends="PAUSED", others_end="SUCCEEDED"),
    Death(
        host=5,
        entry="edge-5: PROBING",
        ends="SUCCEEDED",
        others_end="SUCCEEDED",
        settings={"max_failures": 1},
    ),
    Death(
        host=5,
        entry="edge-5: SOAKING",
        ends="ROLLBACK_PAUSED",
        others_end="REVERTED",
        settings={"on_breach": "rollback"},
    ),
    Death(host=7, entry="edge-7: SUCCEEDED", ends="SUCCEEDED", host_ends="SUCCEEDED", others_end="SUCCEEDED"),
)


def states_of_a_death():
    return {death.entry.partition(": ")[2] for death in DEATHS}


def test_a_host_dies_in_every_state_in_which_something_is_done_there():
    """And while it waits for what is next; in the others nothing is done any more, or not yet."""
    waiting = {"READY", "VERIFIED", "SUCCEEDED"}
    assert states_of_a_death() == {*map(str, DEADLINES), *waiting, "BAKING"} - {"LOCKED"}


@pytest.mark.parametrize("death", DEATHS, ids=str)
async def test_of_eight_hosts_one_dies_and_the_rollout_ends_as_its_policy_says(
    fleet, tmp_path, monkeypatch, death
):
    """And when it is there again, the same rollout goes on, and leaves nothing behind."""
    monkeypatch.setattr("hybrid_provider.targets.staging._TRIES", 1)
    number = DEATHS.index(death)
    release = make_release(tmp_path / "store", {"model.onnx": b"1" * 1000, "n": b"%d" % number}, 10 + number)
    before, dying_host = [host.current for host in fleet], fleet[death.host]

    def journal(entry):
        if f"{entry.target or 'rollout'}: {entry.state}" == death.entry and dying_host.processes:
            dying_host.die()

    if death.entry.endswith("REVERTING"):
        # What it was to prove does not answer, and then it dies on its way back.
        dying_host.processes[0].send_signal(signal.SIGSTOP)
    policy = {**QUICK, "min_healthy_time": 0.1, **WAVES, **death.settings}
    result = await rollout(release, fleet, f"r-{number}", journal, **policy).run()

    assert str(result.state) == death.ends, result.reasons()
    expected = [death.host_ends if host is dying_host else death.others_end for host in fleet]
    assert states(result) == expected, result.reasons()
    # A host is on one whole release, whenever it died; and no other is where its state says it is not.
    assert dying_host.current in {before[death.host], release.release_id}
    moved = death.others_end == "SUCCEEDED"
    for host, was in zip(fleet, before, strict=True):
        assert host is dying_host or host.current == (release.release_id if moved else was)

    dying_host.revive()
    result = await rollout(release, fleet, f"r-{number}", age=timedelta(minutes=1), **WAVES).run()
    assert str(result.state) == "SUCCEEDED", result.reasons()
    assert [host.current for host in fleet] == [release.release_id] * 8
    assert [host.leftovers() for host in fleet] == [[]] * 8
    assert all(host.lock_is_free() for host in fleet)
