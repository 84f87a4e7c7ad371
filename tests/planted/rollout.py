"""Bugs in the engine: what it decides, when, and what it forgets."""

from __future__ import annotations

from tests.planted.bug import Bug

SCHEDULES = "tests/simulation/test_rollout_schedules.py"
STORIES = "tests/simulation/test_rollout_stories.py"
COMPLAINTS = "tests/simulation/test_rollout_complaints.py"
ALL = (SCHEDULES, STORIES, COMPLAINTS)
BUGS = (
    Bug(
        "the budget allows one failure more",
        "rollout/engine.py",
        "self._request is None and self._failures <= self._policy.max_failures",
        "self._request is None and self._failures <= self._policy.max_failures + 1",
        ALL,
    ),
    Bug(
        "failures count wave by wave",
        "rollout/engine.py",
        "        if waiting:\n            state = RolloutState.WAVE",
        "        if waiting:\n            self._counts[TargetState.REVERTED] = 0\n            state = RolloutState.WAVE",
        ALL,
    ),
    Bug(
        "only the canary is staged before the switch",
        "rollout/engine.py",
        "await self._each(self._in_state(TargetState.READY), self._stage)",
        "await self._each(self._in_state(TargetState.READY)[:1], self._stage)",
        ALL,
    ),
    Bug(
        "the canary does not bake",
        "rollout/engine.py",
        "            return self._policy.bake_time\n",
        "            return _NONE\n",
        ALL,
    ),
    Bug(
        "SUCCEEDED though no target serves the release",
        "rollout/engine.py",
        "self._enter(RolloutState.SUCCEEDED if self._served else RolloutState.FAILED)",
        "self._enter(RolloutState.SUCCEEDED)",
        ALL,
    ),
    Bug(
        "a retry goes over a newer release",
        "rollout/engine.py",
        "if newer := await self._newer():",
        "if newer := None:",
        ALL,
    ),
    Bug(
        "a breach in a retry forgets what an earlier try switched",
        "rollout/engine.py",
        "taken = SERVING if self._age else {TargetState.SUCCEEDED}",
        "taken = {TargetState.SUCCEEDED}",
        ALL,
    ),
    Bug(
        "the release is taken to be served where the host says that it has it",
        "rollout/member.py",
        "            reason = await self.watch(timedelta(0))\n            self.sick",
        "            reason = None\n            self.sick",
        ALL,
    ),
    Bug(
        "a failed target is not taken back",
        "rollout/member.py",
        "undone = await self.target.revert(self._order)",
        "undone = True",
        ALL,
    ),
    Bug(
        "what was proved is not committed",
        "rollout/member.py",
        "await self.target.commit(self._order)",
        "pass",
        ALL,
    ),
    Bug(
        "one good answer is enough for min_healthy_time",
        "rollout/member.py",
        "                since = None\n",
        "                pass\n",
        ALL,
    ),
    Bug(
        "a hanging step ends long after its deadline",
        "rollout/member.py",
        "asyncio.timeout(0 if self._stop.is_set() else limit)",
        "asyncio.timeout(0 if self._stop.is_set() else 10 * limit)",
        ALL,
    ),
    Bug(
        "a lease is kept",
        "rollout/member.py",
        "        if self._reserved:\n",
        "        if False:\n",
        ALL,
    ),
    Bug(
        "a pin is ignored",
        "rollout/member.py",
        "if self.readiness.pinned not in {None, self.goal}:",
        "if False:",
        ALL,
    ),
    Bug(
        "an unreachable target is no failure",
        "rollout/member.py",
        "skips = self._policy.unreachable is OnUnreachable.SKIP",
        "skips = True",
        ALL,
    ),
    Bug(
        "what another rollout took over is fought for",
        "rollout/member.py",
        "            self.outrun, self._live = True, None\n",
        "            self._live = None\n",
        ALL,
    ),
    Bug(
        "a rollback that fails counts as one that went well",
        "rollout/member.py",
        "        elif proven is TargetState.REVERTED:\n",
        "        elif False:\n",
        ALL,
    ),
    Bug(
        "a rollback goes on where the release before is no better",
        "rollout/rollback.py",
        "return self._request is None and fallen <= self._policy.max_failures",
        "return self._request is None",
        ALL,
    ),
    Bug(
        "a share is rounded up",
        "rollout/plan.py",
        'fleet_size * int(share.removesuffix("%")) // 100',
        '-(-fleet_size * int(share.removesuffix("%")) // 100)',
        ALL,
    ),
    Bug(
        "a target between two waves is forgotten",
        "rollout/plan.py",
        "        start += size\n",
        "        start += size + (len(planned) == 2)\n",
        ALL,
    ),
    Bug(
        "a group with a lost target is touched",
        "rollout/lanes.py",
        "blocked = {member.group for member in down}",
        "blocked = set()",
        ALL,
    ),
    Bug(
        "lost targets do not count as unavailable",
        "rollout/lanes.py",
        "min(lanes - len(down), len(queues))",
        "min(lanes, len(queues))",
        ALL,
    ),
    Bug(
        "a target that reboots is not waited for on its way back",
        "rollout/member.py",
        "                if not self._returning:\n",
        "                if True:\n",
        ALL,
    ),
    Bug(
        "an abort lets go on what is under way",
        "rollout/operation.py",
        "        if self._stopped:\n",
        "        if False:\n",
        ALL,
    ),
)
