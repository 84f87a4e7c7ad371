"""POSIX targets whose clocks are ahead, behind, or put right in the middle of what they do."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from hybrid_provider.exceptions import TargetFailed, TargetLocked
from hybrid_provider.rollout.engine import Rollout
from hybrid_provider.rollout.policy import RolloutPolicy
from hybrid_provider.rollout.probe import CommandProbe
from hybrid_provider.targets.local import LocalTarget
from hybrid_provider.targets.target import Placement
from tests.integration.posixtargets import order_of, with_program
from tests.releases import make_release

FAST = {"bake_time": 0.2, "min_healthy_time": 0, "drain": 0, "probe_interval": 0.1, "lock_wait": 0}
SERVES = CommandProbe(command="true")
OFF = {"a year ahead": "365 day", "three hours behind": "-3 hour", "right": "0 day"}
# Each look at the clock is a day from the one before, now ahead and now behind.
JUMPS = """n=0; read -r n <"$0.n" 2>/dev/null; echo $((1 - n)) >"$0.n"
exec /bin/date -d "$((2 * n - 1)) day" "$@\""""


def opened_with(folder, *, off=None, date=None, name="edge"):
    """A target in the folder, with a clock that is off by so much."""
    base = Placement(base_folder=str(folder / "models"))
    opened = LocalTarget(name=name, placement=base).open(Placement())
    return with_program(opened, folder / "bin", "date", date or f'exec /bin/date -d "{off}" "$@"')


@pytest.fixture
def releases(tmp_path):
    return [make_release(tmp_path / "store", {"n": b"%d" % n * 1000}, minute=n) for n in range(4)]


async def roll_out(release, folders, rollout, age=timedelta(0), **policy):
    for folder in folders.values():
        folder.mkdir(exist_ok=True)
    targets = [
        opened_with(folder, off=OFF[name], name=name.replace(" ", "-")) for name, folder in folders.items()
    ]
    settings = RolloutPolicy.of({**FAST, **policy})
    return await Rollout(release, targets, SERVES, settings, rollout_id=rollout, age=age).run()


async def test_hosts_whose_clocks_disagree_take_releases_and_find_them_done(tmp_path, releases):
    folders = {name: tmp_path / name.replace(" ", "-") for name in OFF}
    for number, release in enumerate(releases[:2]):
        result = await roll_out(release, folders, f"r-{number}")
        assert str(result.state) == "SUCCEEDED", result.reasons()

    # What was done a second ago is done, whatever year it is there; and its bake of an hour is not over.
    again = await roll_out(releases[1], folders, "r-1", timedelta(minutes=1))
    assert [str(target.state) for target in again.targets] == ["ALREADY_CURRENT"] * 3, again.reasons()
    assert sum(target.bytes_sent + target.bytes_linked for target in again.targets) == 0
    for name, folder in folders.items():
        opened = opened_with(folder, off=OFF[name])
        # When it was proved is told by the host's own clock.
        there = datetime.now(UTC) + {"365 day": 1, "-3 hour": 0, "0 day": 0}[OFF[name]] * timedelta(days=365)
        there -= timedelta(hours=3) if name == "three hours behind" else timedelta(0)
        found = await opened.inspect("digits", rehash=True)
        assert abs(found.since - there) < timedelta(minutes=5)
        assert (found.changed, found.holder) == ((), None)
        live = (await opened.preflight(order_of(releases[1], "r-1"))).live
        assert timedelta(0) <= live < timedelta(minutes=5)
        await opened.finish(order_of(releases[1], "r-1"))
        await opened.close()


@pytest.mark.parametrize("off", OFF.values(), ids=OFF.keys())
async def test_a_dead_worker_s_lease_ends_after_its_time_by_the_host_s_own_clock(tmp_path, releases, off):
    dead, other = order_of(releases[0], "r-dead"), order_of(releases[1], "r-other")
    await opened_with(tmp_path, off=off).preflight(dead)
    with pytest.raises(TargetLocked, match=r"rollout r-dead works on this target for at most [56][0-9] s"):
        await opened_with(tmp_path, off=off).preflight(other)
    later = opened_with(tmp_path, off=f"{off} 61 second")
    await later.preflight(other)
    await later.finish(other)


async def test_a_dead_worker_s_lease_does_not_outlive_a_clock_that_was_put_back(tmp_path, releases):
    """It would hold for the year by which the clock had been ahead."""
    dead, other = order_of(releases[0], "r-dead"), order_of(releases[1], "r-other")
    await opened_with(tmp_path, off="365 day").preflight(dead)
    for off in ("0 day", "1 second"):
        with pytest.raises(TargetLocked, match=r"r-dead works on this target for at most [56][0-9] s"):
            await opened_with(tmp_path, off=off).preflight(other)
    later = opened_with(tmp_path, off="62 second")
    await later.preflight(other)
    await later.stage(other, lambda _: None)
    await later.finish(other)


async def test_a_living_worker_s_lease_stays_its_own_where_the_clock_is_put_back(tmp_path, releases):
    living, other = order_of(releases[0], "r-living"), order_of(releases[1], "r-other")
    opened = opened_with(tmp_path, off="365 day")
    await opened.preflight(living)
    with pytest.raises(TargetLocked):
        await opened_with(tmp_path, off="0 day").preflight(other)
    await opened.stage(living, lambda _: None)
    await opened.activate(living, releases[0].release_id)
    await opened.commit(living)
    await opened.finish(living)
    assert (await opened.inspect("digits")).committed == releases[0].release_id


async def test_a_retry_s_lease_is_as_long_as_any_where_the_clock_was_put_back_before_it(tmp_path, releases):
    """Its epoch, later than any before, lies in the future; each who looked made it shorter."""
    retried, other = order_of(releases[0], "r-retried"), order_of(releases[1], "r-other")
    for off in ("30 second", "0 second"):
        await opened_with(tmp_path, off=off).preflight(retried)
    for off in ("1 second", "2 second", "40 second"):
        with pytest.raises(TargetLocked, match=r"r-retried works on this target for at most [125][0-9] s"):
            await opened_with(tmp_path, off=off).preflight(other)
    later = opened_with(tmp_path, off="62 second")
    await later.preflight(other)
    await later.finish(other)


async def test_an_activation_s_deadline_is_no_matter_of_the_clock(tmp_path, releases):
    """It neither ends early nor late where each look finds the clock a day from the one before."""
    for number, release in enumerate(releases[:2]):
        opened, order = opened_with(tmp_path, date=JUMPS), order_of(release, "r-0", seconds=1)
        await opened.preflight(order)
        await opened.stage(order, lambda _: None)
        await opened.activate(order, release.release_id)
        if number == 0:
            await opened.commit(order)
        else:
            # One second, and the five that the worker's own deadline is ahead of it.
            with pytest.raises(TargetFailed, match="no commit came within 6 s"):
                await opened._until(order, "committed")
        await opened.finish(order)
        assert (await opened.inspect("digits")).committed == releases[0].release_id
        await opened.close()
    assert (tmp_path / "models/digits/current").readlink().name == releases[0].release_id


async def test_a_clock_that_is_a_day_off_and_put_right_again_hinders_nothing(tmp_path, releases):
    for day, release in zip((1, -1, 0), releases, strict=False):
        opened, order = opened_with(tmp_path, off=f"{day} day"), order_of(release, f"r-{day}")
        assert (await opened.preflight(order)).live >= timedelta(0)
        await opened.stage(order, lambda _: None)
        await opened.activate(order, release.release_id)
        await opened.commit(order)
        await opened.finish(order)
        await opened.close()
        assert (tmp_path / "models/digits/current").readlink().name == release.release_id
