"""Who works on an engine, and what becomes of what a dead worker began."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from functools import partial

import pytest

from hybrid_provider.exceptions import (
    TargetFailed,
    TargetLocked,
)
from hybrid_provider.rollout.engine import Rollout
from hybrid_provider.rollout.policy import RolloutPolicy
from hybrid_provider.rollout.probe import HttpProbe
from hybrid_provider.targets.docker import survey
from hybrid_provider.targets.target import Placement
from tests.integration.docker.targets import (
    behind_a_router,
    deploy,
    inspect,
    opened,
    order_of,
    served,
)
from tests.releases import make_release


async def clock(right, engine, **off):
    """What the engine says, as if its clock were off by so much."""
    return await right(engine) + timedelta(**off).total_seconds()


async def test_a_deploy_cancelled_in_mid_stream_leaves_no_release(target, tmp_path, model, docker):
    release = make_release(tmp_path / "store", {"model.onnx": bytes(5_000_000)}, model=model)
    order = order_of(release)
    async with opened(target) as each:
        await each.preflight(order)
        staging = asyncio.create_task(each.stage(order, lambda count: count and staging.cancel()))
        with pytest.raises(asyncio.CancelledError):
            await staging
        assert (await each.inspect(model)).releases == ()
        assert (await each.stage(order, lambda _: None)).bytes_sent == 5_000_000
        await each.finish(order)


@pytest.mark.parametrize("milliseconds", range(0, 120, 10))
async def test_a_preflight_that_is_cut_short_at_any_moment_leaves_no_lease(
    target, releases, model, docker, milliseconds
):
    """The engine may have made it when nobody waits for the answer any more."""
    order = order_of(releases[0])
    async with opened(target) as each:
        with suppress(TimeoutError):
            async with asyncio.timeout(milliseconds / 1000):
                await each.preflight(order)
        await each.finish(order)
    assert docker.names("volume", model) == []


async def test_two_rollouts_do_not_share_an_engine(target, releases, docker, model):
    async with opened(target) as one, opened(target) as other:
        await one.preflight(order_of(releases[0], "r-1"))
        with pytest.raises(TargetLocked, match=r"rollout r-1 works on this target for at most [56][0-9] s"):
            await other.preflight(order_of(releases[1], "r-2"))
        assert (await other.inspect(model)).holder == "r-1"
        await one.finish(order_of(releases[0], "r-1"))
        await other.preflight(order_of(releases[1], "r-2"))
        await other.finish(order_of(releases[1], "r-2"))
    assert docker.names("volume", model) == []


async def test_one_engine_under_two_names_is_found_before_anything_is_brought(
    target, releases, docker, model
):
    names = ("edge", "edge-by-another-name")
    opened_ones = [replace(target, name=name).open(Placement()) for name in names]
    policy = RolloutPolicy.of({"lock_poll": 0.1, "max_failures": 2})
    result = await Rollout(releases[0], opened_ones, HttpProbe(), policy, rollout_id="r-1").run()
    assert str(result.state) == "FAILED"
    told = "edge and edge-by-another-name are one place under several names; name it once"
    assert [result.detail, *(target.error for target in result.targets)] == [told] * 3
    assert docker.names("volume", model) == []


async def test_a_dead_worker_s_lease_does_not_outlive_an_engine_s_clock_that_was_put_back(
    target, releases, docker, model, monkeypatch
):
    with monkeypatch.context() as while_it_is_ahead:
        while_it_is_ahead.setattr(survey, "clock_of", partial(clock, survey.clock_of, days=365))
        async with opened(target) as dead:
            await dead.preflight(order_of(releases[0], "r-dead"))
    other = order_of(releases[1], "r-other")
    async with opened(target) as each:
        with pytest.raises(
            TargetLocked, match=r"rollout r-dead works on this target for at most [56][0-9] s"
        ):
            await each.preflight(other)
        monkeypatch.setattr(survey, "clock_of", partial(clock, survey.clock_of, seconds=61))
        await each.preflight(other)
        await each.finish(other)
    assert docker.names("volume", model) == []


async def test_of_two_that_take_an_engine_at_once_at_most_one_gets_it(target, releases):
    for _ in range(5):
        async with opened(target) as one, opened(target) as other:
            orders = [order_of(releases[0], "r-1"), order_of(releases[0], "r-2")]
            outcomes = await asyncio.gather(
                one.preflight(orders[0]), other.preflight(orders[1]), return_exceptions=True
            )
            assert sum(isinstance(each, TargetLocked) for each in outcomes) >= 1
            await one.finish(orders[0])
            await other.finish(orders[1])


async def test_a_worker_that_was_thought_dead_cannot_act_any_more(target, releases):
    order = order_of(releases[0])
    async with opened(target) as slow, opened(target) as retry:
        await slow.preflight(order)
        await slow.stage(order, lambda _: None)
        await retry.preflight(order)
        for act in (slow.activate(order, releases[0].release_id), slow.commit(order), slow.revert(order)):
            with pytest.raises(TargetFailed, match="superseded: rollout r-1"):
                await act
        await slow.finish(order)
        await retry.activate(order, releases[0].release_id)
        await retry.commit(order)
        await retry.finish(order)
    assert await served(target) == releases[0].release_id


@pytest.mark.parametrize("way", [lambda target: target, behind_a_router])
async def test_an_engine_is_not_locked_for_ever_by_a_worker_that_died(target, releases, way):
    """Another rollout takes the engine over when the lease has run out, and undoes what was begun."""
    target = way(target)
    await deploy(target, releases[0])
    dying = replace(order_of(releases[1], "r-2"), lease=timedelta(seconds=0.1))
    async with opened(target) as each:
        await each.preflight(dying)
        await each.stage(dying, lambda _: None)
        await each.activate(dying, releases[1].release_id)
    assert await served(target) == releases[1].release_id
    async with opened(target) as each:
        order = order_of(releases[2], "r-3")
        found = await each.preflight(order)
        assert (found.undone, found.current) == (releases[1].release_id, releases[0].release_id)
        await each.finish(order)
    assert await served(target) == releases[0].release_id


async def test_behind_a_router_a_trial_gives_way_where_the_clock_is_put_back_to_before_it(
    target, releases, monkeypatch
):
    """Its deadline would come later by as much."""
    target = behind_a_router(target)
    await deploy(target, releases[0])
    # As if it had been begun tomorrow.
    monkeypatch.setattr("hybrid_provider.targets.docker.activation._SLEW", timedelta(days=-1))
    order = order_of(releases[1], "r-2")
    async with opened(target) as each:
        await each.preflight(order)
        await each.stage(order, lambda _: None)
        await each.activate(order, releases[1].release_id)
        assert await served(target) == releases[0].release_id
        assert (await each.inspect(releases[0].model)).release == releases[0].release_id
        assert await each.revert(order)
        await each.finish(order)
    assert await served(target) == releases[0].release_id


async def test_behind_a_router_a_dead_worker_s_release_gives_way_by_itself_at_its_deadline(
    target, releases, monkeypatch
):
    monkeypatch.setattr("hybrid_provider.targets.docker.activation._GRACE", timedelta(seconds=1))
    target = behind_a_router(target)
    await deploy(target, releases[0])
    order = order_of(releases[1], "r-2", seconds=3)
    async with opened(target) as each:
        await each.preflight(order)
        await each.stage(order, lambda _: None)
        await each.activate(order, releases[1].release_id)
        assert await served(target) == releases[1].release_id
        async with asyncio.timeout(30):
            while True:
                if await served(target) == releases[0].release_id:
                    break
                await asyncio.sleep(0.2)
        with pytest.raises(TargetFailed, match="no commit came by the deadline"):
            await each.commit(order)
        assert await each.revert(order)
        await each.finish(order)
    assert (await inspect(target, releases[0].model)).release == releases[0].release_id
