"""What an engine is and holds, and all that is wrong with it, before anything is done."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from hybrid_provider.targets.docker.holdings import PREFIX, Role, read_clock, read_holdings
from hybrid_provider.targets.docker.images import find
from hybrid_provider.targets.docker.programs import missing
from hybrid_provider.targets.docker.serving import Strategy

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from hybrid_provider.targets.docker.engine import Engine, Json
    from hybrid_provider.targets.docker.holdings import Holdings
    from hybrid_provider.targets.docker.serving import RegistryLogin, Serving

_ANY_ADDRESS: Final = frozenset({"", "0.0.0.0", "::"})  # noqa: S104 - compared, not bound


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """One look at an engine.

    Attributes:
        image_id: Of the serving image; empty where it will be pulled.
        faults: Why no release can be served here, all of them.
    """

    image_id: str
    faults: tuple[str, ...]


async def clock_of(engine: Engine) -> float:
    """The engine's clock, in seconds since 1970."""
    return read_clock((await engine.ask("GET", "/info"))["SystemTime"])


async def holdings_of(engine: Engine, model: str) -> Holdings:
    """All that the engine holds of a model."""
    labelled = {"filters": json.dumps({"label": [f"{PREFIX}model={model}"]})}
    clock = await clock_of(engine)
    volumes = (await engine.ask("GET", "/volumes", query=labelled))["Volumes"] or []
    containers = await engine.ask("GET", "/containers/json", query={**labelled, "all": "1"})
    return read_holdings(model, clock, volumes, containers or [])


async def survey(
    engine: Engine, serving: Serving, model: str, login: RegistryLogin | None, programs: Sequence[str]
) -> Survey:
    """Look for all faults in one go; in an image that is here, also for the programs of a probe."""
    info = await engine.ask("GET", "/info")
    machine = str(info.get("Architecture", ""))
    faults = _host_faults(serving, info)
    image = await find(engine, serving.image, machine, login)
    images = [image]
    if serving.strategy is Strategy.BLUE_GREEN:
        images.append(await find(engine, str(serving.router_image), machine, login))
    faults += [each.fault for each in images if each.fault]
    if image.image_id:
        faults += await missing(engine, serving, model, programs)
    for network in serving.networks:
        if await engine.there(f"/networks/{network}") is None:
            faults.append(f"network {network} is not on the engine; make it with `docker network create`")
    faults += _port_faults(serving, model, await engine.ask("GET", "/containers/json") or [])
    return Survey(image_id=image.image_id, faults=tuple(faults))


def _host_faults(serving: Serving, info: Json) -> list[str]:
    faults = []
    if (system := info.get("OSType", "linux")) != "linux":
        faults.append(f"the engine runs containers of {system}; models are served in those of linux")
    memory, cpus = int(info.get("MemTotal") or 0), int(info.get("NCPU") or 0)
    if serving.memory_bytes and memory and serving.memory_bytes > memory:
        faults.append(f"memory_bytes is {serving.memory_bytes}, and the host has {memory}")
    if serving.cpus and cpus and serving.cpus > cpus:
        faults.append(f"cpus is {serving.cpus:g}, and the host has {cpus}")
    return faults


def _port_faults(serving: Serving, model: str, running: Iterable[Json]) -> list[str]:
    """Containers that hold the port; a process of the host's that does is found at the start only."""
    faults = []
    for container in running:
        labels = container.get("Labels") or {}
        name = str((container.get("Names") or ["/"])[0]).removeprefix("/")
        role = labels.get(f"{PREFIX}role") if labels.get(f"{PREFIX}model") == model else None
        ours = Role.SERVING if serving.strategy is Strategy.RECREATE else Role.ROUTER
        if role == ours or not _holds(container, serving):
            continue
        remedy = f"remove it with `docker rm -f {name}`"
        if role is not None:
            remedy = f"it serves the model by another strategy; to change that, {remedy} first"
        faults.append(f"port {serving.port} is held by the container {name}; {remedy}")
    return faults


def _holds(container: Json, serving: Serving) -> bool:
    for port in container.get("Ports") or []:
        if port.get("PublicPort") != serving.port or port.get("Type") != "tcp":
            continue
        address = str(port.get("IP", ""))
        if address == serving.address or _ANY_ADDRESS & {address, serving.address}:
            return True
    return False
