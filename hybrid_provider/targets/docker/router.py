"""The small router in front of a model's containers: HAProxy, driven through the engine alone.

A new configuration is put into its container and taken up at SIGUSR2 by a new process; the old process ends
what it began. No port of the host's is needed for that, and no program in the image but HAProxy.
"""

from __future__ import annotations

import asyncio
import secrets
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from hybrid_provider.exceptions import TargetFailed
from hybrid_provider.targets.docker.container import NETWORK, ROUTER_FOLDER, router_body
from hybrid_provider.targets.docker.engine import EngineRefused
from hybrid_provider.targets.docker.haproxy import (
    Routes,
    configuration,
    failed_marker,
    loaded_marker,
    ready_marker,
)
from hybrid_provider.targets.docker.holdings import Role, name_of
from hybrid_provider.targets.docker.logs import log_of
from hybrid_provider.targets.docker.volume import put

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from hybrid_provider.targets.docker.engine import Engine
    from hybrid_provider.targets.docker.haproxy import Server
    from hybrid_provider.targets.docker.serving import Serving

_CONFIGURATION: Final = f"{ROUTER_FOLDER.removeprefix('/')}/haproxy.cfg"
_POLL_SECONDS: Final = 0.1
# Reading a page of configuration takes milliseconds; resolving names that are not there, a few seconds.
_LOAD: Final = timedelta(seconds=30)
# HAProxy's master and the one process that serves; more are old ones with something left to end.
_SETTLED: Final = 2


class Router:
    """The router of one model on one engine."""

    def __init__(self, engine: Engine, serving: Serving, model: str) -> None:
        self._engine = engine
        self._serving = serving
        self._model = model
        self._path = f"/containers/{name_of(model, Role.ROUTER)}"

    async def route(self, routes: Routes, drain: timedelta) -> str:
        """Take these routes up; returns the generation in the log once they are what works.

        Raises:
            TargetFailed: They are not; the routes before still are.
        """
        generation = secrets.token_hex(4)
        running = await self._made()
        text = configuration(routes, generation, drain).encode()
        await put(
            self._engine, self._path.rpartition("/")[2], "/", {f"{ROUTER_FOLDER[1:]}/haproxy.cfg": text}
        )
        if running:
            await self._engine.ask("POST", f"{self._path}/kill", query={"signal": "SIGUSR2"})
        else:
            await self._engine.ask("POST", f"{self._path}/start")
        try:
            async with asyncio.timeout(_LOAD.total_seconds()):
                await self._logged(loaded_marker(generation))
        except TimeoutError:
            raise TargetFailed(
                self._engine.name,
                f"the router did not take its routes up within {_LOAD}: {await self._said()}",
            ) from None
        return generation

    async def until_ready(
        self, generation: str, candidate: Server, limit: timedelta, *, alive: Callable[[], Awaitable[object]]
    ) -> None:
        """Wait until the router finds a candidate ready; ``alive`` raises where that cannot be any more.

        Raises:
            TargetFailed: It does not within ``limit``.
        """
        try:
            async with asyncio.timeout(limit.total_seconds()):
                while ready_marker(generation, candidate) not in await self._log():
                    await alive()
                    await asyncio.sleep(_POLL_SECONDS)
        except TimeoutError:
            asked = candidate.ready_path or "a connection"
            failed = failed_marker(generation, candidate)
            said = [line for line in (await self._log()).splitlines() if failed in line]
            why = said[-1].partition("reason: ")[2].partition(", check duration")[0] if said else "no answer"
            raise TargetFailed(
                self._engine.name, f"the router asked it for {asked}, and it was not ready: {why}"
            ) from None

    async def drained(self, limit: timedelta) -> bool:
        """Wait until all that went by earlier routes has ended; False when it has not within ``limit``."""
        try:
            async with asyncio.timeout(limit.total_seconds()):
                while True:
                    if await self._processes() <= _SETTLED:
                        return True
                    await asyncio.sleep(_POLL_SECONDS)
        except TimeoutError:
            return False

    async def network(self) -> None:
        """Make the network in which containers have names."""
        if await self._engine.there(f"/networks/{NETWORK}") is None:
            try:
                await self._engine.ask("POST", "/networks/create", {"Name": NETWORK, "CheckDuplicate": True})
            except EngineRefused as refused:
                if not refused.conflict:
                    raise

    async def running(self) -> bool:
        """Whether it is there and runs."""
        there = await self._engine.there(f"{self._path}/json")
        return there is not None and bool(there["State"]["Running"])

    async def remove(self) -> None:
        """Take the router away; nobody answers at its port."""
        await self._engine.remove(self._path, {"force": "1"})

    async def _made(self) -> bool:
        """Make the router where there is none like it; whether it runs already."""
        await self.network()
        body = router_body(self._serving, self._model)
        there = await self._engine.there(f"{self._path}/json")
        if there is not None and there["Config"]["Labels"] != {
            **(there["Config"]["Labels"] or {}),
            **body["Labels"],  # type: ignore[dict-item]
        }:
            # Another port or image: a short gap, as the port is one.
            await self.remove()
            there = None
        if there is None:
            name = name_of(self._model, Role.ROUTER)
            await self._engine.ask("POST", "/containers/create", body, query={"name": name})
            return False
        return bool(there["State"]["Running"])

    async def _logged(self, marker: str) -> None:
        while True:
            if marker in await self._log():
                return
            await asyncio.sleep(_POLL_SECONDS)

    async def _log(self) -> str:
        return await log_of(self._engine, self._path, lines=400)

    async def _said(self) -> str:
        return " ".join((await log_of(self._engine, self._path, lines=3)).split())

    async def _processes(self) -> int:
        """How many processes it has; where the host has no ``ps`` to ask, as if old ones were left."""
        try:
            return len((await self._engine.ask("GET", f"{self._path}/top"))["Processes"])
        except EngineRefused:
            return _SETTLED + 1
