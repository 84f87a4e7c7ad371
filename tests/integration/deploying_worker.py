"""A worker that deploys in a process of its own, to be killed (-9) as it enters a state."""

from __future__ import annotations

import asyncio
import multiprocessing
from typing import TYPE_CHECKING

import asyncssh  # noqa: F401 - what a worker needs is there before it is forked
import httpx  # noqa: F401 - likewise

from hybrid_provider.rollout.engine import Rollout
from hybrid_provider.rollout.policy import RolloutPolicy
from hybrid_provider.rollout.probe import HttpProbe
from hybrid_provider.targets.target import Placement

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from multiprocessing.connection import Connection

    from hybrid_provider.artifacts.release import Release
    from hybrid_provider.targets.target import TargetSpec

SECONDS = 120


def killed_at(
    entry: str, release: Release, specs: Sequence[TargetSpec], rollout_id: str, policy: Mapping[str, object]
) -> None:
    """Deploy, and kill the worker as ``who: state`` is entered.

    Raises:
        AssertionError: It never was.
    """
    # Forked from a process that has imported all: as many workers as there are states are not started for long.
    forks = multiprocessing.get_context("forkserver")
    forks.set_forkserver_preload([__name__])
    told, tells = forks.Pipe(duplex=False)
    worker = forks.Process(target=_deploy, args=(release, tuple(specs), rollout_id, dict(policy), tells))
    worker.start()
    tells.close()
    seen = []
    try:
        while told.poll(SECONDS):
            seen.append(told.recv())
            if seen[-1] == entry:
                return
    except EOFError:
        pass
    finally:
        worker.kill()
        worker.join()
        told.close()
    raise AssertionError(f"the worker never came to {entry}, only to {seen}")


def _deploy(
    release: Release,
    specs: Sequence[TargetSpec],
    rollout_id: str,
    policy: dict[str, object],
    tells: Connection,
) -> None:
    rollout = Rollout(
        release,
        [spec.open(Placement()) for spec in specs],
        HttpProbe(),
        RolloutPolicy.of(policy),
        rollout_id=rollout_id,
        journal=lambda entry: tells.send(f"{entry.target or 'rollout'}: {entry.state}"),
    )
    asyncio.run(rollout.run())
