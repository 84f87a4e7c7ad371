"""A model's containers on an engine: made, started, watched, stopped."""

from __future__ import annotations

import asyncio
import math
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from hybrid_provider.exceptions import TargetFailed, TargetUnreachable
from hybrid_provider.targets.docker.logs import log_of, split_frames
from hybrid_provider.targets.shell import Finished

if TYPE_CHECKING:
    from collections.abc import Iterable

    from hybrid_provider.targets.docker.engine import Engine, Json

_POLL_SECONDS: Final = 0.1
# SIGTERM comes before SIGKILL, however short the drain is.
_LEAST_GRACE_SECONDS: Final = 1
_SLACK: Final = timedelta(seconds=60)


async def create(engine: Engine, name: str, body: dict[str, object], networks: Iterable[str]) -> None:
    """Make a container, in all its networks, and do not start it."""
    await engine.ask("POST", "/containers/create", body, query={"name": name})
    for network in networks:
        await engine.ask("POST", f"/networks/{network}/connect", {"Container": name})


async def start(engine: Engine, name: str) -> None:
    """Start a container; one that runs is left alone.

    Raises:
        TargetFailed: It does not start: a port that is held, a command that is not there.
    """
    await engine.ask("POST", f"/containers/{name}/start")


async def stop(engine: Engine, name: str, grace: timedelta) -> None:
    """Ask a container to end, and make it when ``grace`` is over; one that is not there has ended."""
    seconds = max(_LEAST_GRACE_SECONDS, math.ceil(grace.total_seconds()))
    if await engine.there(f"/containers/{name}/json") is not None:
        path, query = f"/containers/{name}/stop", {"t": str(seconds)}
        await engine.ask("POST", path, query=query, limit=timedelta(seconds=seconds) + _SLACK)


async def remove(engine: Engine, name: str) -> None:
    """Remove a container, also one that runs."""
    await engine.remove(f"/containers/{name}", {"force": "1", "v": "1"})


async def restart(engine: Engine, name: str, policy: str) -> None:
    """Set what the engine does with a container when its host starts again, or when the container ends."""
    await engine.ask("POST", f"/containers/{name}/update", {"RestartPolicy": {"Name": policy}})


async def until_healthy(engine: Engine, name: str, limit: timedelta) -> None:
    """Wait until Docker calls a container healthy; one that has no check has only to run.

    Raises:
        TargetFailed: It ended, is unhealthy, or is not healthy within ``limit``.
    """
    try:
        async with asyncio.timeout(limit.total_seconds()):
            while True:
                if await is_healthy(engine, name):
                    return
                await asyncio.sleep(_POLL_SECONDS)
    except TimeoutError:
        seconds = limit.total_seconds()
        raise TargetFailed(
            engine.name, f"the container {name} was not healthy within {seconds:g} s"
        ) from None


async def run_in(engine: Engine, name: str, command: str, limit: timedelta) -> Finished:
    """Run shell text in a running container.

    Raises:
        TargetUnreachable: It did not end within ``limit``; Docker has no way to end it.
    """
    body = {"AttachStdout": True, "AttachStderr": True, "Cmd": ["sh", "-c", command]}
    try:
        async with asyncio.timeout(limit.total_seconds()):
            execution = (await engine.ask("POST", f"/containers/{name}/exec", body))["Id"]
            path, how = f"/exec/{execution}/start", {"Detach": False, "Tty": False}
            async with engine.stream("POST", path, body=how, limit=limit) as answer:
                out, err = split_frames(await answer.aread())
            ended = await engine.ask("GET", f"/exec/{execution}/json")
    except TimeoutError:
        raise TargetUnreachable(engine.name, f"a command did not end within {limit}") from None
    return Finished(exit_code=int(ended["ExitCode"] or 0), stdout=out, stderr=err)


async def is_healthy(engine: Engine, name: str) -> bool:
    """Whether Docker calls a container healthy, or it runs and has no check.

    Raises:
        TargetFailed: It ended, or is unhealthy.
    """
    state = (await engine.ask("GET", f"/containers/{name}/json"))["State"]
    if not state["Running"]:
        said = " ".join((await log_of(engine, f"/containers/{name}", lines=3)).split())
        why = state.get("Error") or said or "it wrote nothing"
        raise TargetFailed(engine.name, f"the container ended with exit code {state['ExitCode']}: {why}")
    health = state.get("Health") or {"Status": "none"}
    if health["Status"] == "unhealthy":
        raise TargetFailed(engine.name, f"the container is unhealthy: {_last_output(health)}")
    return str(health["Status"]) in {"healthy", "none"}


def _last_output(health: Json) -> str:
    last = (health.get("Log") or [{}])[-1]
    return f"exit code {last.get('ExitCode')}: {' '.join(str(last.get('Output', '')).split())[:300]}"
