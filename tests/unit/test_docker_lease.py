"""Who works on a Docker Engine, by an engine whose clock stands still until it is set."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from urllib.parse import unquote

import pytest

from hybrid_provider.exceptions import TargetFailed, TargetLocked
from hybrid_provider.targets.docker import Serving, lease
from hybrid_provider.targets.docker.activation import Activations
from hybrid_provider.targets.docker.holdings import Role, labels_of, name_of
from hybrid_provider.targets.docker.survey import holdings_of
from hybrid_provider.targets.docker.tidying import sweep
from hybrid_provider.targets.target import Order

MODEL = "digits"
NOW = datetime(2026, 11, 23, 18, 46, tzinfo=UTC)
YEAR = timedelta(days=365)
FIRST, SECOND = "20261123T180000Z-aaaaaaaaaaaa", "20261123T180100Z-bbbbbbbbbbbb"


class StoppedEngine:
    """An engine in memory; whatever is done, it is the same second."""

    name = "edge"

    def __init__(self):
        self.clock = NOW
        self.volumes = {}
        self.containers = {}
        for release in (FIRST, SECOND):
            for role in (Role.RELEASE, Role.PROOF):
                labels = labels_of(MODEL, role, release=release, digest=f"digest of {release}")
                self.volumes[name_of(MODEL, role, release)] = labels

    async def ask(self, method, path, body=None, query=None, limit=None):
        kind, _, rest = path.removeprefix("/").partition("/")
        if kind == "info":
            return {"SystemTime": f"{self.clock:%Y-%m-%dT%H:%M:%S}.25Z"}
        if kind == "images":
            return {"Id": "sha256:1"}
        return getattr(self, f"_{kind}")(method, unquote(rest), body, query or {})

    async def there(self, path):
        kind, name = path.split("/")[1:3]
        return getattr(self, kind).get(name) and await self.ask("GET", path)

    async def remove(self, path, query=None):
        kind, name = path.split("/")[1:3]
        return getattr(self, kind).pop(name, None) is not None

    def _volumes(self, method, rest, body, query):
        if rest == "create":
            self.volumes.setdefault(body["Name"], body["Labels"])
        elif rest:
            return {"Name": rest, "Labels": self.volumes[rest]}
        return {"Volumes": [{"Name": name, "Labels": labels} for name, labels in self.volumes.items()]}

    def _containers(self, method, rest, body, query):
        name, _, act = rest.partition("/")
        if name == "create":
            self.containers[query["name"]] = {"Labels": body["Labels"], "State": "created"}
        elif act in {"start", "stop"}:
            self.containers[name]["State"] = {"start": "running", "stop": "exited"}[act]
        elif act == "json":
            return {"State": {"Running": self.containers[name]["State"] == "running"}}
        return [{"Names": [f"/{name}"], **container} for name, container in self.containers.items()]


@pytest.fixture
def engine():
    return StoppedEngine()


def order_of(rollout):
    return Order(
        model=MODEL,
        release=None,
        rollout=rollout,
        healthy_deadline=timedelta(seconds=20),
        lease=timedelta(seconds=60),
        keep_releases=5,
    )


async def take(engine, rollout):
    """The lease, and what is activated under it."""
    order = order_of(rollout)
    held = await lease.take(engine, order, await holdings_of(engine, MODEL))
    return held, Activations(engine, Serving(image="server"), order, held)


async def give_back(engine, held):
    assert await engine.remove(f"/volumes/{held.volume}")


async def test_what_a_rollout_begins_is_never_taken_for_what_another_committed_in_the_same_second(engine):
    held, activations = await take(engine, "r-1")
    await activations.begin(FIRST)
    await activations.commit()
    assert not await activations.revert()
    await give_back(engine, held)

    held, activations = await take(engine, "r-2")
    await activations.begin(SECOND)
    assert await activations.revert()
    with pytest.raises(TargetFailed, match="somebody undid it"):
        await activations.commit()
    found = await holdings_of(engine, MODEL)
    assert (found.live.release, found.record.release, found.trials) == (FIRST, FIRST, ())


async def test_a_rollout_that_began_nothing_has_committed_nothing(engine):
    """Its first activation failed, say, before anything was noted on the engine."""
    held, activations = await take(engine, "r-1")
    await activations.begin(FIRST)
    await activations.commit()
    await give_back(engine, held)
    held, activations = await take(engine, "r-2")
    with pytest.raises(TargetFailed, match="pruned"):
        await activations.begin("20261123T180200Z-cccccccccccc")
    assert await activations.revert()
    with pytest.raises(TargetFailed, match="somebody undid it"):
        await activations.commit()


async def test_each_epoch_is_later_than_those_before_it_though_the_clock_stands_still(engine):
    epochs = []
    for rollout in ("r-1", "r-2", "r-3"):
        held, activations = await take(engine, rollout)
        await activations.begin(FIRST if rollout == "r-1" else SECOND)
        await activations.commit()
        epochs.append(held.epoch)
        await give_back(engine, held)
    first = epochs[0]
    assert epochs == [first, first + 1, first + 2]


async def test_a_clock_that_was_set_back_makes_no_epoch_earlier(engine):
    held, activations = await take(engine, "r-1")
    await activations.begin(FIRST)
    await activations.commit()
    await give_back(engine, held)
    found = await holdings_of(engine, MODEL)
    assert replace(found, clock=5.0).next_epoch == held.epoch + 1
    # A record of an earlier version, or of none.
    for token, epoch in (("17-1", 18), ("?", 5)):
        assert replace(found, clock=5.0, records=(replace(found.record, token=token),)).next_epoch == epoch


async def test_a_retry_fences_off_the_try_before_it_and_another_rollout_waits(engine):
    slow, _ = await take(engine, "r-1")
    held, _ = await take(engine, "r-1")
    assert held.epoch == slow.epoch + 1
    await lease.check(engine, MODEL, held)
    with pytest.raises(TargetFailed, match=rf"superseded: rollout r-1 \(epoch {held.epoch}\)"):
        await lease.check(engine, MODEL, slow)
    with pytest.raises(TargetLocked, match="rollout r-1 works on this target for at most 60 s"):
        await take(engine, "r-2")


async def test_a_dead_worker_s_lease_does_not_outlive_a_clock_that_was_put_back(engine):
    """It would hold for the year by which the clock had been ahead."""
    engine.clock = NOW + YEAR
    await take(engine, "r-dead")
    # However often it is put back, and whoever looks.
    for clock in (NOW, NOW + timedelta(seconds=1), NOW - YEAR, NOW - YEAR + timedelta(seconds=1)):
        engine.clock = clock
        with pytest.raises(TargetLocked, match=r"r-dead works on this target for at most (60|59) s"):
            await take(engine, "r-other")
    engine.clock = NOW - YEAR + timedelta(seconds=61)
    held, _ = await take(engine, "r-other")
    found = await holdings_of(engine, MODEL)
    assert [each.rollout for each in found.leases] == ["r-other"]
    await sweep(engine, found, timedelta(0))
    await lease.give_back(engine, await holdings_of(engine, MODEL), held)
    assert {each.split("..")[2] for each in engine.volumes} == {"release", "proof"}


async def test_a_living_worker_s_lease_stays_its_own_where_the_clock_is_put_back(engine):
    engine.clock = NOW + YEAR
    held, activations = await take(engine, "r-living")
    engine.clock = NOW
    with pytest.raises(TargetLocked):
        await take(engine, "r-other")
    await lease.check(engine, MODEL, held)
    await activations.begin(FIRST)
    await activations.commit()
    await lease.give_back(engine, await holdings_of(engine, MODEL), held)
    assert not [each for each in engine.volumes if each.split("..")[2] in {"lease", "seen"}]
    await take(engine, "r-other")
    # Later than any before, it lies in the future and is as long as any.
    with pytest.raises(TargetLocked, match="at most 60 s"):
        await take(engine, "r-third")
