"""One life of a fleet from a seed: its hosts, faults, policies, and what people and machines do meanwhile."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from hybrid_provider.rollout.states import SERVING, RolloutState, TargetState
from tests.simulation.hosts import FOREVER
from tests.simulation.virtual_time import run_in_virtual_time
from tests.simulation.watch import problems_at_the_end
from tests.simulation.world import NEW, NEWER, OLD, World, short_policy, twin_of

DONE = {RolloutState.SUCCEEDED, RolloutState.SUPERSEDED, RolloutState.ROLLED_BACK}


class Schedule(World):
    """One seed's fleet and story."""

    def __init__(self, seed):
        super().__init__(seed)
        self.add_hosts(self.chance.choice([1, 2, 3, 4, 4, 5, 6]))
        self.break_things(self.chance.choice([0.0, 0.2, 0.5, 0.8]))
        self.policy = short_policy(self.chance)
        self.story += [str(self.policy), *self.told().splitlines()[1:]]
        self.tale = self.chance.choices(
            [
                self.plain,
                self.interrupted,
                self.dying,
                self.racing,
                self.in_parts,
                self.returning,
                self.relapsing,
                self.named_twice,
            ],
            [2, 3, 3, 2, 2, 3, 1, 1],
        )[0]

    def play(self):
        run_in_virtual_time(self._play())
        return self

    async def _play(self):
        # Of a killed worker's tasks nobody asks for the outcome.
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
        self.story.append(f"a tale: {self.tale.__name__}")
        await self.tale()

    async def plain(self):
        """A rollout; and a retry of it when all is well again."""
        await self._deploy()
        await self._retry()

    async def interrupted(self):
        """Somebody pauses, aborts, supersedes or rolls back at some moment; and goes on."""
        what = self.chance.choice(["pause", "pause", "abort", "supersede", "roll_back", "roll_back"])
        # Ends that come of a word from outside alone; the worker may die as it says so.
        end = {"abort": RolloutState.ABORTED, "supersede": RolloutState.SUPERSEDED}.get(what)
        die_in = end if self.chance.random() < 0.2 else None
        moving, watch = self.rollout(NEW, self.policy, "r-1", die_in=die_in)
        at = self.chance.uniform(0, 40)
        loop = asyncio.get_running_loop()
        loop.call_later(at, lambda: (self.story.append(f"          {what}"), getattr(moving, what)()))
        if what == "pause" and self.chance.random() < 0.5:
            loop.call_later(at + self.chance.uniform(0, 9), moving.resume)
        result = await self.run(moving, watch)
        if result is None:
            await self._retry()
            return
        await self._settled(watch, result)
        if result.state not in DONE and self.chance.random() < 0.5:
            watch.die_in = None
            watch.begin_anew()
            result = await self.run(moving, watch)
            await self._settled(watch, result)
        await self._retry()

    async def dying(self):
        """The worker is killed at some transition, and once more; its retry continues."""
        began = asyncio.get_running_loop().time()
        for _ in range(self.chance.choice([1, 1, 2])):
            age = asyncio.get_running_loop().time() - began
            die_at = int(self.chance.expovariate(1 / 25)) + 1
            moving, watch = self.rollout(NEW, self.policy, "r-1", age=age, die_at=die_at)
            result = await self.run(moving, watch)
            if result is not None:
                await self._settled(watch, result)
                break
            await asyncio.sleep(self.chance.choice([0, 1, 30, 300]))
        await self._retry(asyncio.get_running_loop().time() - began)

    async def racing(self):
        """A newer rollout begins while one is under way, or after its worker died."""
        dead = self.chance.random() < 0.3
        die_at = int(self.chance.expovariate(1 / 25)) + 1 if dead else None
        first = asyncio.create_task(self.run(*(one := self.rollout(NEW, self.policy, "r-1", die_at=die_at))))
        await asyncio.sleep(self.chance.choice([0, 0, self.chance.uniform(0, 60)]))
        patient = short_policy(self.chance, lock_wait=timedelta(seconds=self.chance.choice([60, 2000])))
        two = self.rollout(NEWER, patient, "r-2")
        if self.chance.random() < 0.2:
            # As after a lease that ended too early: the host is taken over from a worker that lives.
            for host in self.hosts:
                host.lease = None
        second = asyncio.create_task(self.run(*two))
        results = await asyncio.gather(first, second)
        await self.settle()
        for (_, watch), result, new in zip((one, two), results, (NEW, NEWER), strict=True):
            if result is not None:
                self.problems += [
                    p for p in problems_at_the_end(watch, result, result.rollout, new) if "locked" in p
                ]
        if any(host.committed == NEWER and host.history for host in self.hosts):
            self.mend()
            late, watch = self.rollout(NEW, self.policy, "r-1", age=FOREVER)
            result = await self.run(late, watch)
            if result.state is not RolloutState.SUPERSEDED:
                self.problems.append(
                    f"a newer release is there, and the older rollout ended as {result.state}"
                )

    async def in_parts(self):
        """The bake is waited for outside, or the rollout stops after the canary and is continued."""
        stop = self.chance.random() < 0.5
        began = asyncio.get_running_loop().time()
        moving = None
        for part in range(12):
            if moving is None or self.chance.random() < 0.7:
                age = asyncio.get_running_loop().time() - began + part / 100
                options = {"bake_outside": True, "stop_after_canary": stop}
                moving, watch = self.rollout(NEW, self.policy, "r-1", age=age, **options)
            else:
                watch.begin_anew()
            result = await self.run(moving, watch)
            self._locks_are_free(result)
            if result.state is not RolloutState.BAKING:
                break
            early = self.chance.choice([1, 1, 0.5])
            await asyncio.sleep(result.bake_left.total_seconds() * early)
        await self._settled(watch, result)
        if result.planned and self.chance.random() < 0.5:
            await self._go_back(only_from=NEW)
        else:
            await self._retry(asyncio.get_running_loop().time() - began)

    async def named_twice(self):
        """A host is in the fleet under two names: nothing is switched anywhere. Then each has one."""
        twin = self.chance.choice(self.hosts)
        moving, watch = self.rollout(NEW, self.policy, "r-1", named_twice=[twin])
        result = await self.run(moving, watch)
        await self.settle()
        refused = [t for t in result.targets if "one place under several names" in (t.error or "")]
        # Where its answer was lost it is only unreachable, and what holds then is that it is never switched.
        if refused and {target.name for target in refused} != {twin.name, twin_of(twin)}:
            self.problems.append(f"{[target.name for target in refused]} are told to be {twin.name}")
        if refused and (result.state is not RolloutState.FAILED or any(h.history for h in self.hosts)):
            self.problems.append(f"{twin.name} was there twice, and the rollout ended as {result.state}")
        if not refused and twin.history and not twin.lied and "preflight" not in twin.faults:
            self.problems.append(f"{twin.name} was there twice, and was switched")
        self._locks_are_free(result)
        await self._retry()

    async def relapsing(self):
        """The fleet has the release, of an earlier run; where it has stopped to serve, it is not switched again."""
        for host in self.hosts:
            if self.chance.random() < 0.9:
                host.live = host.committed = NEW
                host.previous = self.chance.choice([OLD, OLD, None])
                host.releases |= {NEW, OLD}
                host.owner, host.since, host.pinned = "r-1", -self.chance.uniform(0, 20), None
        moving, watch = self.rollout(NEW, self.policy, "r-1", age=20)
        result = await self.run(moving, watch)
        await self._settled(watch, result)
        await self._retry()

    async def returning(self):
        """A rollout, and then the fleet goes back; perhaps its worker dies on the way."""
        if self.chance.random() < 0.7:
            faults = {host.name: host.faults for host in self.hosts}
            for host in self.hosts:
                host.faults = {}
            await self._deploy()
            for host in self.hosts:
                host.faults = faults[host.name]
        die_at = int(self.chance.expovariate(1 / 20)) + 1 if self.chance.random() < 0.4 else None
        await self._go_back(die_at=die_at, only_from=self.chance.choice([None, None, NEW]))

    async def _deploy(self):
        skip = [host.name for host in self.hosts if self.chance.random() < 0.1]
        skip = skip if len(skip) < len(self.hosts) else []
        moving, watch = self.rollout(NEW, self.policy, "r-1", skip=skip)
        result = await self.run(moving, watch)
        await self._settled(watch, result)

    async def _settled(self, watch, result):
        await self.settle()
        self.check(watch, result, "r-1", NEW)

    async def _retry(self, age=FOREVER):
        """All is well again: whatever was left, the rollout comes to its end, and repeats nothing."""
        if self.watches["r-1"].state in DONE:
            return
        self.mend()
        for host in self.hosts:
            if host.group is None and host.pinned and self.chance.random() < 0.5:
                host.pinned = None
        serving = {h.name: len(h.history) for h in self.hosts if h.committed == h.live == NEW}
        policy = short_policy(self.chance)
        moving, watch = self.rollout(NEW, policy, "r-1", age=max(age, 1))
        result = await self.run(moving, watch)
        await self._settled(watch, result)
        free = [host for host in self.hosts if host.pinned in {None, NEW}]
        if free and result.state is not RolloutState.SUCCEEDED:
            self.problems.append(f"all was well, and the retry ended as {result.state}")
        self.problems += [
            f"{host.name} is on {host.live} after the retry" for host in free if host.live != NEW
        ]
        again = [h.name for h in self.hosts if h.name in serving and len(h.history) > serving[h.name]]
        if again:
            self.problems.append(f"the retry switched {again} again")

    async def _go_back(self, die_at=None, **options):
        before = {host.name: (host.committed, host.previous) for host in self.hosts}
        moving, watch = self.rollback(self.policy, "b-1", die_at=die_at, **options)
        if die_at is None and self.chance.random() < 0.3:
            what = self.chance.choice(["pause", "abort", "supersede"])
            asyncio.get_running_loop().call_later(self.chance.uniform(0, 30), getattr(moving, what))
        result = await self.run(moving, watch)
        await self.settle()
        if result is None:
            moving, watch = self.rollback(self.policy, "b-1", **options)
            result = await self.run(moving, watch)
            await self.settle()
        self.check(watch, result, "b-1")
        for host, target in zip(self.hosts, result.targets, strict=True):
            committed, previous = before[host.name]
            if host.committed not in {committed, previous}:
                self.problems.append(
                    f"{host.name} went from {committed} to {host.committed}, not to {previous}"
                )
            lied = host.lied & {"commit", "inspect"}
            if target.state in SERVING and host.committed != previous and not lied:
                self.problems.append(f"{host.name} was to go back to {previous} and is on {host.committed}")
            if options.get("only_from") not in {None, committed} and host.committed != committed:
                self.problems.append(f"{host.name} was on {committed} and was taken back")
            if target.state is TargetState.SKIPPED and host.committed != committed:
                self.problems.append(f"{host.name} was skipped and moved")

    def _locks_are_free(self, result):
        for host in self.hosts:
            hidden = {"finish", "preflight"} & host.faults.keys() or host.away_until > 0
            if host.holder == result.rollout and not hidden:
                self.problems.append(f"{host.name} is locked after {result.state}")
