"""Takes an activation back whose worker died: a process of its own, which the worker's death wakes.

A router goes back by itself, but nothing on an engine would stop one container and start another for us.
So where a container gives way on the same port, the worker leaves a guard beside itself. It sleeps as long as
the worker holds the other end of its input; then it waits for the deadline, as a retry may come, and does
what a retry would do first. It needs the worker's machine, and the way from there to the engine.
"""

from __future__ import annotations

import asyncio
import logging
import os
import pickle
import subprocess
import sys
import time
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

from hybrid_provider.exceptions import TargetError
from hybrid_provider.targets.docker.engine import Engine
from hybrid_provider.targets.target import Placement

if TYPE_CHECKING:
    from hybrid_provider.targets.docker.target import DockerTarget
    from hybrid_provider.targets.target import Order

_log = logging.getLogger(__name__)
_PACKAGES: Final = Path(__file__).parents[3]
# After the engine's own deadline for what is on trial, so that it is over when the guard looks.
_GRACE: Final = timedelta(seconds=6)


class Guard:
    """The worker's end of it."""

    def __init__(self, process: subprocess.Popen[bytes] | None) -> None:
        self._process = process

    @classmethod
    def beside(cls, target: DockerTarget, order: Order, lease_volume: str) -> Guard:
        """Set a guard up for what is about to be activated."""
        path = os.pathsep.join(filter(None, (str(_PACKAGES), os.environ.get("PYTHONPATH"))))
        # The release itself stays here: its files may be many, and nothing is brought.
        charge = pickle.dumps((target, replace(order, release=None), lease_volume))
        try:
            process = subprocess.Popen(
                [sys.executable, "-m", __name__],
                env=os.environ | {"PYTHONPATH": path},
                stdin=subprocess.PIPE,
                # Whoever waits for the end of the worker's output does not wait for the guard's.
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        except OSError as error:
            _log.warning("%s: nothing would undo its switch, should this worker die: %s", target.name, error)
            return cls(None)
        if process.stdin is not None:
            process.stdin.write(len(charge).to_bytes(8) + charge)
            process.stdin.flush()
        return cls(process)

    def dismiss(self) -> None:
        """There is nothing left to take back."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            if process.stdin is not None:
                process.stdin.close()


def main() -> None:
    """Sleep until the worker has gone and the deadline has come; then take back what is left."""
    began = time.monotonic()
    size = int.from_bytes(sys.stdin.buffer.read(8))
    # From the worker that started us, over a pipe that nobody else has.
    target, order, lease_volume = pickle.loads(sys.stdin.buffer.read(size))  # noqa: S301
    sys.stdin.buffer.read()
    time.sleep(max(0.0, began + (order.healthy_deadline + _GRACE).total_seconds() - time.monotonic()))
    asyncio.run(_take_back(target, order, lease_volume))


async def _take_back(target: DockerTarget, order: Order, lease_volume: str) -> None:
    """What a retry does first: it takes the lease over, undoes what is not committed, and gives it back."""
    engine = Engine(target.name, target.address)
    opened = target.open(Placement())
    try:
        # Where the lease is another's, or given back, somebody has seen to it.
        if await engine.there(f"/volumes/{lease_volume}") is not None:
            await opened.preflight(order)
            await opened.finish(order)
    except TargetError:
        # The next rollout undoes it, and says so; nobody would read it here.
        return
    finally:
        await engine.close()
        await opened.close()


if __name__ == "__main__":
    main()
