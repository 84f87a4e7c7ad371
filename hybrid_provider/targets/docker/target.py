"""A Docker Engine during one rollout."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from hybrid_provider.exceptions import TargetError, TargetFailed, TargetNotReady
from hybrid_provider.names import checked_name
from hybrid_provider.targets.docker import containers, lease
from hybrid_provider.targets.docker.activation import Activations
from hybrid_provider.targets.docker.address import EngineAddress
from hybrid_provider.targets.docker.container import spec_of
from hybrid_provider.targets.docker.engine import Engine
from hybrid_provider.targets.docker.guard import Guard
from hybrid_provider.targets.docker.holdings import Role, labels_of, name_of
from hybrid_provider.targets.docker.images import pull
from hybrid_provider.targets.docker.programs import missing
from hybrid_provider.targets.docker.serving import Strategy
from hybrid_provider.targets.docker.survey import holdings_of, survey
from hybrid_provider.targets.docker.switching import way_of
from hybrid_provider.targets.docker.tidying import prune, sweep
from hybrid_provider.targets.docker.volume import bring, changed_files, make_volume
from hybrid_provider.targets.target import Inspection, Placement, Readiness, Staged

if TYPE_CHECKING:
    from collections.abc import Callable

    from hybrid_provider.targets.docker.holdings import Holdings, Lease
    from hybrid_provider.targets.docker.serving import RegistryLogin, Serving
    from hybrid_provider.targets.shell import Finished
    from hybrid_provider.targets.target import Order


class OpenedDockerTarget:
    """One Docker Engine during one rollout; see :class:`hybrid_provider.targets.target.Target`."""

    def __init__(self, target: DockerTarget, placement: Placement) -> None:
        self._engine = Engine(target.name, target.address)
        self._target = target
        self._serving = target.serving
        self._placement = placement
        self._lease: Lease | None = None
        self._activations: Activations | None = None
        self._guard: Guard | None = None
        self._model = ""

    @property
    def name(self) -> str:
        """The target's name."""
        return self._engine.name

    @property
    def host(self) -> str:
        """The address that a probe asks."""
        return self._target.host or self._engine.address.host

    @property
    def probe_url(self) -> str | None:
        """The URL to probe here, where it is not the same for the whole fleet."""
        return self._placement.probe_url

    @property
    def group(self) -> str | None:
        """The site or rack, of which no two targets are down together."""
        return self._placement.group

    async def preflight(self, order: Order) -> Readiness:
        """Find all faults in one go, undo an interrupted activation, and take the lease.

        Raises:
            TargetNotReady: What is missing, all of it in one message.
            TargetLocked: Another rollout works on this target.
        """
        self._lease, self._activations, self._model = None, None, order.model
        surveyed = await survey(self._engine, self._serving, order.model, self._target.login, order.programs)
        if surveyed.faults:
            raise TargetNotReady(self.name, "; ".join(surveyed.faults))
        found = await self._holdings(order.model)
        self._lease = await self._reserved(order, found)
        self._activations = Activations(self._engine, self._serving, order, self._lease)
        undone = await self._activations.heal(await self._holdings(order.model))
        holdings = await self._holdings(order.model)
        await sweep(self._engine, holdings, order.drain)
        if holdings.record is not None and holdings.live is not None:
            await way_of(self._engine, self._serving, order.model).ensure(holdings.live, order.drain)
        return replace(
            _readiness(order, holdings, self._spec(surveyed.image_id), undone),
            lease=self._lease.nonce,
            overtaken=lease.overtaken(found, order),
        )

    async def _reserved(self, order: Order, found: Holdings) -> Lease:
        """The lease; who cuts short that it is taken has it given back by :meth:`finish` all the same."""
        taking = asyncio.create_task(lease.take(self._engine, order, found))
        try:
            return await asyncio.shield(taking)
        except asyncio.CancelledError:
            with suppress(TargetError):
                self._lease = await taking
            raise

    async def stage(self, order: Order, progress: Callable[[int], None]) -> Staged:
        """Bring the images and the release, inert and verified.

        Raises:
            TargetFailed: It did not arrive whole; nothing of it is left on the engine.
            TargetNotReady: The image that was pulled lacks programs of the probe.
        """
        await self._ours(order)
        release, model = order.brought, order.model
        await self._pull(order, progress)
        holdings = await self._holdings(model)
        if holdings.releases.get(release.release_id) == release.digest:
            where = (self._engine, model, release.release_id, release.digest)
            # A folder of the host's is somebody else's to change and to prune.
            trusted = not order.verify_all and self._serving.bind_from is None
            if trusted or not await changed_files(*where, progress):
                return Staged()
        bound = self._serving.brought_to(model, release.release_id)
        return Staged(bytes_sent=await bring(self._engine, release, progress, bound=bound))

    async def drain(self, order: Order) -> None:
        """Nothing: a container that gives way is drained behind the router, or has its grace to end."""

    async def activate(self, order: Order, release_id: str) -> None:
        """Make a release that is there live until :meth:`commit`, :meth:`revert` or the healthy deadline.

        Raises:
            TargetFailed: It is not live; the one before is.
        """
        activations = await self._ours(order)
        if self._serving.strategy is Strategy.RECREATE and self._lease is not None:
            self._unguarded()
            self._guard = Guard.beside(self._target, order, self._lease.volume)
        await activations.begin(release_id)

    async def commit(self, order: Order) -> None:
        """Keep what was activated.

        Raises:
            TargetFailed: It has gone back already, or is not what serves any more.
            TargetUnreachable: It is not known whether it has.
        """
        await (await self._ours(order)).commit()
        self._unguarded()

    async def revert(self, order: Order) -> bool:
        """Go back to what was live before :meth:`activate`; returns when that is so.

        Returns:
            False where the activation was committed before: then the commit's answer was lost, and it stays.

        Raises:
            TargetFailed: It could not go back.
            TargetUnreachable: Nobody can ask; it goes back by itself at its deadline.
        """
        undone = await (await self._ours(order)).revert()
        self._unguarded()
        return undone

    async def finish(self, order: Order) -> None:
        """Give the lease back and remove releases past ``keep_releases``."""
        if self._lease is None:
            return
        # Who lost the lease has nothing to clean up.
        with suppress(TargetFailed):
            await lease.check(self._engine, order.model, self._lease)
            holdings = await self._holdings(order.model)
            await sweep(self._engine, holdings, order.drain)
            await prune(self._engine, holdings, order.keep_releases)
            if holdings.record is None and not holdings.containers:
                await way_of(self._engine, self._serving, order.model).clear()
            await lease.give_back(self._engine, holdings, self._lease)
            self._lease = None
        self._unguarded()

    async def run(self, command: str, limit: timedelta) -> Finished:
        """Run shell text in the container that serves, by the ``sh`` of its image.

        Raises:
            TargetFailed: No container serves.
        """
        live = (await self._holdings(self._model)).live
        if live is None:
            raise TargetFailed(self.name, f"no container of model {self._model} runs")
        return await containers.run_in(self._engine, live.name, command, limit)

    async def inspect(self, model: str, *, rehash: bool = False) -> Inspection:
        """Say what is there and live; takes no lease, and leaves what it finds as it is."""
        self._model = model
        holdings = await self._holdings(model)
        live, record = holdings.live, holdings.record
        changed: tuple[str, ...] = ()
        if rehash and live is not None:
            changed = await changed_files(self._engine, model, live.release, live.digest, lambda _: None)
        holder = next((each.rollout for each in holdings.leases if each.expires > holdings.clock), None)
        return Inspection(
            release=live.release if live else None,
            digest=live.digest if live else None,
            committed=record.release if record else None,
            previous=holdings.previous,
            since=datetime.fromtimestamp(record.since, UTC) if record else None,
            rollout=record.rollout if record else None,
            holder=holder,
            pinned=holdings.pinned,
            releases=tuple(sorted(holdings.releases)),
            changed=changed,
        )

    async def pin(self, model: str, release_id: str | None) -> None:
        """Keep the target on a release that it has, whatever rollouts come, until it is None.

        Raises:
            TargetFailed: The release is not there.
        """
        holdings = await self._holdings(model)
        if release_id is not None and release_id not in holdings.releases:
            raise TargetFailed(self.name, f"release {release_id} is not here, whole; deploy it first")
        name = name_of(model, Role.PIN)
        await self._engine.remove(f"/volumes/{name}")
        if release_id is not None:
            await make_volume(self._engine, name, labels_of(model, Role.PIN, release=release_id))

    async def close(self) -> None:
        """Close the connections."""
        await self._engine.close()

    def _unguarded(self) -> None:
        if self._guard is not None:
            self._guard.dismiss()
            self._guard = None

    async def _pull(self, order: Order, progress: Callable[[int], None]) -> None:
        login, router = self._target.login, self._serving.router_image
        if await pull(self._engine, self._serving.image, login, progress):
            # What nobody could look into before it was here.
            faults = await missing(self._engine, self._serving, order.model, order.programs)
            if faults:
                raise TargetNotReady(self.name, "; ".join(faults))
        if router is not None:
            await pull(self._engine, router, login, progress)

    async def _holdings(self, model: str) -> Holdings:
        return await holdings_of(self._engine, model)

    async def _ours(self, order: Order) -> Activations:
        """The activations, once it is certain that the lease is still ours."""
        if self._lease is None or self._activations is None:
            raise TargetNotReady(
                self.name, "it was not found ready; the deploy begins again with a preflight"
            )
        await lease.check(self._engine, order.model, self._lease)
        return self._activations

    def _spec(self, image_id: str) -> str:
        """How the model would be served; not known before the image is here."""
        return spec_of(self._serving, image_id) if image_id else ""


def _readiness(order: Order, holdings: Holdings, spec: str, undone: str | None) -> Readiness:
    record, live, release = holdings.record, holdings.live, order.release
    committed = record is not None and live is not None and live.name == record.container
    same = release is not None and live is not None and live.digest == release.digest and live.spec == spec
    return Readiness(
        current=holdings.settled.release if holdings.settled else None,
        previous=holdings.previous,
        committed=committed and same,
        live=timedelta(seconds=max(0.0, holdings.clock - record.since)) if record else timedelta(0),
        present=release is not None and holdings.releases.get(release.release_id) == release.digest,
        undone=undone,
        pinned=holdings.pinned,
    )


@dataclass(frozen=True, kw_only=True)
class DockerTarget:
    """A Docker Engine, as a member of a fleet.

    Attributes:
        name: Unique in the fleet.
        serving: How the model is served.
        address: Where the engine is.
        login: For pulling images that are not there.
        host: What a probe asks, where it is not the engine's own address.
        placement: ``probe_url`` and ``group``; a folder and a reload command mean nothing to an engine.
    """

    name: str
    serving: Serving
    address: EngineAddress = field(default_factory=EngineAddress)
    login: RegistryLogin | None = None
    host: str | None = None
    placement: Placement = field(default_factory=Placement)

    def __post_init__(self) -> None:
        checked_name("target", self.name)

    def open(self, fleet: Placement) -> OpenedDockerTarget:
        """See :class:`hybrid_provider.targets.target.TargetSpec`."""
        return OpenedDockerTarget(self, self.placement.over(fleet))
