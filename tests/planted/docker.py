"""Bugs in how one container gives way to the next."""

from __future__ import annotations

from tests.planted.bug import Bug

ROLLOUTS = ("tests/integration/docker/test_rollouts.py",)
BUGS = (
    Bug(
        "the old container ends under its requests",
        "targets/docker/switching.py",
        "            await self._router.drained(switch.drain)\n            await containers.restart",
        "            await containers.restart",
        ROLLOUTS,
    ),
    Bug(
        "the router is stopped and started, not told to take its routes up",
        "targets/docker/router.py",
        'query={"signal": "SIGUSR2"}',
        'query={"signal": "SIGTERM"}',
        ROLLOUTS,
    ),
    Bug(
        "a container gets requests before it is ready",
        "targets/docker/switching.py",
        "        await self._router.until_ready(generation, new, switch.limit, alive=alive)\n",
        "        del generation, alive\n",
        ROLLOUTS,
    ),
    Bug(
        "nobody takes back what a dead worker switched",
        "targets/docker/guard.py",
        "            await opened.preflight(order)\n",
        "            pass\n",
        ROLLOUTS,
    ),
)
