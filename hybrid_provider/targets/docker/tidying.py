"""What a rollout leaves on an engine, and what it takes away."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hybrid_provider.targets.docker import containers
from hybrid_provider.targets.docker.holdings import Role, name_of

if TYPE_CHECKING:
    from datetime import timedelta

    from hybrid_provider.targets.docker.engine import Engine
    from hybrid_provider.targets.docker.holdings import Holdings


async def sweep(engine: Engine, holdings: Holdings, drain: timedelta) -> None:
    """Take away what dead workers left, and what a newer one of the same replaced."""
    for loader in holdings.loaders:
        await engine.remove(f"/containers/{loader}", {"force": "1"})
    held = {lease.nonce for lease in holdings.leases}
    for gone in (each for each in holdings.seen if each.nonce not in held):
        await engine.remove(f"/volumes/{gone.volume}")
    for release_id in holdings.unproven:
        await engine.remove(f"/volumes/{name_of(holdings.model, Role.RELEASE, release_id)}")
    for record in holdings.records[1:]:
        await engine.remove(f"/volumes/{name_of(holdings.model, Role.RECORD, record.number)}")
    if holdings.record is None or holdings.trials:
        return
    for container in holdings.containers.values():
        if container.name == holdings.record.container:
            continue
        newest = holdings.kept(container.release)
        if newest is None or newest.name != container.name:
            await containers.remove(engine, container.name)
        elif container.running:
            await containers.stop(engine, container.name, drain)


async def prune(engine: Engine, holdings: Holdings, keep: int) -> None:
    """Remove releases past the newest ``keep``, each with its stopped containers; its proof goes first."""
    for release_id in holdings.prunable(keep):
        for container in holdings.containers.values():
            if container.release == release_id and not container.running:
                await containers.remove(engine, container.name)
        await engine.remove(f"/volumes/{name_of(holdings.model, Role.PROOF, release_id)}")
        await engine.remove(f"/volumes/{name_of(holdings.model, Role.RELEASE, release_id)}")
