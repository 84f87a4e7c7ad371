"""What must hold at every moment of a rollout and at its end, read from its journal and from the hosts."""

from __future__ import annotations

import asyncio
from collections import Counter

from hybrid_provider.rollout.states import (
    DEADLINES,
    FAILURES,
    SERVING,
    TARGET_STEPS,
    RolloutState,
    TargetState,
)
from tests.simulation.hosts import Killed

R, T = RolloutState, TargetState
BEFORE_A_SWITCH = {T.PENDING, T.PREFLIGHT, T.READY, T.STAGING}
SWITCH = {T.DRAINING, T.ACTIVATING}
# These share one deadline, and a commit has one more; see DEADLINES.
PROVING = {T.ACTIVATING, T.PROBING, T.SOAKING}
ENDS = {
    R.SUCCEEDED,
    R.PAUSED,
    R.FAILED,
    R.ABORTED,
    R.SUPERSEDED,
    R.ROLLED_BACK,
    R.ROLLBACK_PAUSED,
}
TARGET_ENDS = FAILURES | SERVING | {T.PENDING, T.READY, T.VERIFIED, T.PINNED, T.SKIPPED}


def most_of(share, fleet):
    """How many of a fleet a share is, at least one; reckoned otherwise than the engine does."""
    return share if isinstance(share, int) else max(1, int(fleet * (int(share[:-1]) / 100)))


class Watch:
    """The journal of one run, which checks each promise at each step."""

    def __init__(self, world, policy, worker, hosts, *, kind, die_at=None, die_in=None):
        self.world, self.policy, self.worker, self.hosts = world, policy, worker, hosts
        self.kind = kind
        self.die_at, self.die_in = die_at, die_in
        self.entries = 0
        self.state = R.PENDING
        self.lanes = most_of(policy.max_unavailable, len(hosts))
        self.begin_anew()

    def begin_anew(self):
        """The same rollout runs once more."""
        self.states = dict.fromkeys((host.name for host in self.hosts), T.PENDING)
        self.since = {}
        self.failures = 0

    def __call__(self, entry):
        if self.worker.dead:
            raise Killed
        self.world.story.append(f"{entry}")
        self.entries += 1
        if entry.target is None:
            self._rollout_step(entry)
        else:
            self._target_step(entry)
        self._down(entry)
        if self.entries == self.die_at or (entry.target is None and entry.state is self.die_in):
            self.world.seen["death", str(entry.state)] += 1
            self.world.story.append("          the worker is killed")
            self.worker.dead = True
            raise Killed

    def _rollout_step(self, entry):
        self.world.seen["rollout", str(self.state), str(entry.state)] += 1
        self.state = entry.state

    def _target_step(self, entry):
        name, after = entry.target, entry.state
        # A host that is in the fleet under a second name has no other entry here.
        before = self.states.setdefault(name, T.PENDING)
        if after is before and after not in TARGET_STEPS[before]:
            return  # a remark, such as that cleaning up failed
        self.world.seen["target", str(before), str(after)] += 1
        if before not in SWITCH and after in SWITCH:
            self._may_switch(name, before, entry)
        self.failures += (after in FAILURES) - (before in FAILURES)
        self._in_time(name, before, after, entry)
        self.states[name] = after

    def _may_switch(self, name, before, entry):
        if self.kind == "deploy" and before is T.VERIFIED:
            if early := [other for other, state in self.states.items() if state in BEFORE_A_SWITCH]:
                self._problem(f"{name} is switched before {early} are staged", entry)
            if self.failures > self.policy.max_failures:
                self._problem(f"{name} is switched after {self.failures} failures", entry)

    def _in_time(self, name, before, after, entry):
        """A state's deadline is kept; one that is come back to within another's deadline does not begin it anew."""
        now = asyncio.get_running_loop().time()
        began = self.since.get(name, now)
        if not {before, after} <= PROVING:
            self.since[name] = now
        if before not in DEADLINES or before is T.LOCKED or {before, after} <= PROVING:
            return
        limit = self.policy.deadline_of(before).total_seconds()
        if before in PROVING:
            limit += self.policy.progress_deadline.total_seconds()
        if before is T.STAGING:
            limit *= 3  # bytes came twice
        if now - began > limit + 0.01:
            self._problem(f"{name} was {before} for {now - began:.0f} s, {limit:.0f} s may be", entry)

    def _down(self, entry):
        down = [host for host in self.hosts if host.down and host.worker is self.worker]
        if len(down) > self.lanes:
            self._problem(f"{len(down)} targets are down, {self.lanes} may be", entry)
        groups = [host.group for host in down if host.group is not None]
        if len(groups) > len(set(groups)):
            self._problem(f"two of one group are down: {[host.name for host in down]}", entry)

    def _problem(self, text, entry):
        self.world.problems.append(f"{text}: {entry}")


def problems_at_the_end(watch, result, rollout_id, new):
    """Whatever is not as a run's result says, once the hosts have settled."""
    ends = ENDS | {R.BAKING}
    if result.state not in ends:
        yield f"the run ended in {result.state}"
    if result.failures > watch.policy.max_failures and result.state in {R.SUCCEEDED, R.BAKING}:
        yield f"{result.state} with {result.failures} failures"
    if result.state is R.SUCCEEDED and not any(target.state in SERVING for target in result.targets):
        yield "SUCCEEDED, and nobody serves the release"
    for host, target in zip(watch.hosts, result.targets, strict=True):
        yield from _problems_of(host, target, rollout_id, new)
    yield from _problems_of_the_end(watch, result)


def _problems_of_the_end(watch, result):
    states = Counter(target.state for target in result.targets)
    if result.state is R.SUCCEEDED and (states[T.READY] or states[T.VERIFIED]):
        yield "SUCCEEDED with targets that were not switched"
    if result.state is R.ROLLED_BACK and watch.kind == "deploy" and states[T.REVERT_FAILED]:
        yield "ROLLED_BACK with targets that did not go back"


def _problems_of(host, target, rollout_id, new):
    name = host.name
    if target.state not in TARGET_ENDS:
        yield f"{name} ended in {target.state}"
    if not host.settled():
        yield f"{name} is on {host.live}, and committed {host.committed}"
    lied = host.lied & {"preflight", "commit", "revert", "activate"}
    if target.state in SERVING and host.live != target.to_release and not lied:
        yield f"{name} is told to serve {target.to_release} and is on {host.live}"
    unmoved = {T.READY, T.VERIFIED, T.PINNED, T.FAILED_NO_CHANGE}
    if target.state in unmoved and target.from_release not in {None, host.live} and not lied:
        yield f"{name} was not to be touched: it was on {target.from_release} and is on {host.live}"
    if target.live is not None and target.live != host.live and not lied:
        yield f"{name} is told to have {target.live} live and is on {host.live}"
    if target.state in FAILURES and not target.error:
        yield f"{name} ended in {target.state} and nobody says why"
    hidden = {"preflight", "finish"} & host.faults.keys() or host.away_until > 0
    # Stopped before it was asked: the lease is an earlier worker's, which died, and ends by itself.
    unasked = target.error == "the rollout was stopped" and target.from_release is None
    if host.holder == rollout_id and not hidden and not unasked:
        yield f"{name} is still locked"
