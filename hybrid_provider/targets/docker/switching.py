"""The two ways from one container to the next.

Each way has three steps: ``begin`` makes the new container live for a while, ``keep`` (before the record of
it) and ``retire`` (after it) make it so for good, ``back`` makes the old one live again. Each may be done
again after a crash in the middle of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from hybrid_provider.exceptions import TargetFailed
from hybrid_provider.targets.docker import containers
from hybrid_provider.targets.docker.container import alias_of
from hybrid_provider.targets.docker.haproxy import Routes, Server
from hybrid_provider.targets.docker.router import Router
from hybrid_provider.targets.docker.serving import Strategy
from hybrid_provider.targets.docker.survey import clock_of

if TYPE_CHECKING:
    from datetime import timedelta

    from hybrid_provider.targets.docker.engine import Engine
    from hybrid_provider.targets.docker.holdings import Container, Trial
    from hybrid_provider.targets.docker.serving import Serving


@dataclass(frozen=True, slots=True, kw_only=True)
class Switch:
    """From one container to the next.

    Attributes:
        trial: What is begun.
        origin: The container that serves, or served, before; None if none did.
        drain: How long the one that gives way may take to end what it does.
        limit: How long the new one may take to become healthy.
    """

    trial: Trial
    origin: Container | None
    drain: timedelta
    limit: timedelta


class Way(Protocol):
    """How one container gives way to the next."""

    async def prepare(self) -> None:
        """What a new container needs is there."""

    async def begin(self, switch: Switch) -> None:
        """Start the new container, healthy and live."""

    async def keep(self, switch: Switch) -> None:
        """Before the record: nothing undoes the switch by itself any more."""

    async def retire(self, switch: Switch) -> None:
        """After the record: the old container ends, and is kept."""

    async def back(self, switch: Switch) -> None:
        """The old container is live again, and the new one not."""

    async def ensure(self, live: Container, drain: timedelta) -> None:
        """What is in front of the live container is there."""

    async def clear(self) -> None:
        """Nothing is live: leave nothing in front of it."""


def way_of(engine: Engine, serving: Serving, model: str) -> Way:
    """The way that is asked for."""
    if serving.strategy is Strategy.BLUE_GREEN:
        return BlueGreen(engine, serving, model)
    return Recreate(engine)


class Recreate:
    """The old container ends, the new one starts on its port.

    Until the switch is kept, the old container is the one that starts when the engine's host does.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def prepare(self) -> None:
        """Nothing is needed."""

    async def begin(self, switch: Switch) -> None:
        """See :class:`Way`."""
        if switch.origin is not None:
            await containers.restart(self._engine, switch.origin.name, "always")
            await containers.stop(self._engine, switch.origin.name, switch.drain)
        await containers.start(self._engine, switch.trial.container)
        await containers.until_healthy(self._engine, switch.trial.container, switch.limit)

    async def keep(self, switch: Switch) -> None:
        """Nothing here undoes a switch by itself."""

    async def retire(self, switch: Switch) -> None:
        """See :class:`Way`."""
        await containers.restart(self._engine, switch.trial.container, "unless-stopped")
        if switch.origin is not None:
            await containers.restart(self._engine, switch.origin.name, "no")
            await containers.stop(self._engine, switch.origin.name, switch.drain)

    async def back(self, switch: Switch) -> None:
        """See :class:`Way`."""
        await containers.stop(self._engine, switch.trial.container, switch.drain)
        if switch.origin is not None:
            await containers.start(self._engine, switch.origin.name)
            await containers.restart(self._engine, switch.origin.name, "unless-stopped")
            await containers.until_healthy(self._engine, switch.origin.name, switch.limit)

    async def ensure(self, live: Container, drain: timedelta) -> None:
        """There is nothing in front."""

    async def clear(self) -> None:
        """There is nothing in front."""


class BlueGreen:
    """Both run; the router takes requests from one to the other.

    Until the switch is kept, the router itself goes back at the trial's deadline, whatever became of us.
    """

    def __init__(self, engine: Engine, serving: Serving, model: str) -> None:
        self._engine = engine
        self._serving = serving
        self._model = model
        self._router = Router(engine, serving, model)

    async def prepare(self) -> None:
        """The network in which the router finds a container by name."""
        await self._router.network()

    async def begin(self, switch: Switch) -> None:
        """See :class:`Way`."""
        trial = switch.trial
        await containers.start(self._engine, trial.container)
        await containers.until_healthy(self._engine, trial.container, switch.limit)
        live, new = self._origin(switch), self._server(trial.container, trial.release)
        generation = await self._router.route(Routes(live=live, candidate=new), switch.drain)

        async def alive() -> None:
            await containers.is_healthy(self._engine, trial.container)

        await self._router.until_ready(generation, new, switch.limit, alive=alive)
        routes = Routes(live=live, trial=new, begun=trial.begun, deadline=trial.deadline)
        await self._router.route(routes, switch.drain)

    async def keep(self, switch: Switch) -> None:
        """See :class:`Way`.

        Raises:
            TargetFailed: The router has gone back already.
        """
        trial = switch.trial
        if await clock_of(self._engine) >= trial.deadline:
            raise TargetFailed(self._engine.name, "no commit came by the deadline, and the router went back")
        new = self._server(trial.container, trial.release)
        await self._router.route(Routes(live=new), switch.drain)

    async def retire(self, switch: Switch) -> None:
        """See :class:`Way`."""
        await containers.restart(self._engine, switch.trial.container, "unless-stopped")
        if switch.origin is not None:
            await self._router.drained(switch.drain)
            await containers.restart(self._engine, switch.origin.name, "no")
            await containers.stop(self._engine, switch.origin.name, switch.drain)

    async def back(self, switch: Switch) -> None:
        """See :class:`Way`."""
        if switch.origin is None:
            await self._router.remove()
        else:
            await containers.start(self._engine, switch.origin.name)
            await self._router.route(Routes(live=self._origin(switch)), switch.drain)
            await self._router.drained(switch.drain)
        await containers.stop(self._engine, switch.trial.container, switch.drain)

    async def ensure(self, live: Container, drain: timedelta) -> None:
        """Somebody may have removed or stopped the router."""
        if not await self._router.running():
            await self._router.route(Routes(live=self._server(live.name, live.release)), drain)

    async def clear(self) -> None:
        """See :class:`Way`."""
        await self._router.remove()

    def _origin(self, switch: Switch) -> Server | None:
        return self._server(switch.origin.name, switch.origin.release) if switch.origin else None

    def _server(self, container: str, release_id: str) -> Server:
        return Server(
            alias=alias_of(container),
            port=self._serving.served_port,
            release=release_id,
            ready_path=self._serving.asked_for_readiness(self._model),
        )
