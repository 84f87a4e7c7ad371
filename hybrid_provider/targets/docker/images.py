"""Images on an engine: found, found to be pullable, pulled, and the empty one that carries files."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from hybrid_provider.exceptions import TargetFailed, TargetRefused
from hybrid_provider.targets.docker.engine import EngineRefused

if TYPE_CHECKING:
    from collections.abc import Callable

    from hybrid_provider.targets.docker.engine import Engine
    from hybrid_provider.targets.docker.serving import RegistryLogin

# An image without a file, made on the engine itself: containers of it hold volumes, and none is ever started.
_CARRIER: Final = ("hybrid-provider/carrier", "1")
# Two blocks of nothing are the shortest tar.
_EMPTY_TAR: Final = bytes(1024)
# What Linux calls a machine, and what images do.
_ARCHITECTURES: Final = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386"}


@dataclass(frozen=True, slots=True)
class Found:
    """What is known of an image before anything is done.

    Attributes:
        image_id: Empty where it is not there and will be pulled.
        fault: Why no container can be made of it; empty if one can.
    """

    image_id: str = ""
    fault: str = ""


async def find(engine: Engine, image: str, machine: str, login: RegistryLogin | None) -> Found:
    """Look for an image on the engine, else in its registry, without pulling it.

    Args:
        engine: The engine.
        image: Its name.
        machine: What the engine's host is, in Linux's word.
        login: For the registry.
    """
    there = await engine.there(f"/images/{quote(image, safe='')}/json")
    if there is not None:
        needed, has = _ARCHITECTURES.get(machine, machine), str(there.get("Architecture", ""))
        if has and needed and has != needed:
            return Found(fault=f"image {image} is made for {has}, and the engine's host is {needed}")
        return Found(image_id=str(there["Id"]))
    try:
        async with engine.stream(
            "GET", f"/distribution/{quote(image, safe='')}/json", headers=_credentials(login)
        ):
            return Found()
    # A registry that wants another password looks as an engine does that refuses us.
    except (TargetFailed, TargetRefused) as error:
        return Found(
            fault=f"image {image} is not on the engine and cannot be pulled ({error.reason}); load it there, "
            "or correct its name or the registry's credentials"
        )


async def pull(
    engine: Engine, image: str, login: RegistryLogin | None, progress: Callable[[int], None]
) -> bool:
    """Pull an image that is not there; whether it was not.

    Raises:
        TargetFailed: It cannot be pulled.
    """
    if await engine.there(f"/images/{quote(image, safe='')}/json") is not None:
        return False
    # Without a tag the engine would pull all that there are.
    tagged = image if "@" in image or ":" in image.rpartition("/")[2] else f"{image}:latest"
    query, headers = {"fromImage": tagged}, _credentials(login)
    async with engine.stream("POST", "/images/create", query=query, headers=headers) as answer:
        async for line in answer.aiter_lines():
            progress(0)
            if (error := _error_of(line)) is not None:
                raise TargetFailed(engine.name, f"image {image} could not be pulled: {error}")
    return True


async def carrier(engine: Engine) -> str:
    """The empty image's name, once it is there."""
    name = ":".join(_CARRIER)
    if await engine.there(f"/images/{name}/json") is None:
        repository, tag = _CARRIER
        query = {"fromSrc": "-", "repo": repository, "tag": tag}
        async with engine.stream("POST", "/images/create", query=query, body=_EMPTY_TAR) as answer:
            said = (await answer.aread()).decode(errors="replace")
        for line in said.splitlines():
            if (error := _error_of(line)) is not None:
                raise EngineRefused(engine.name, f"the engine takes no image of ours: {error}", 0)
    return name


def _error_of(line: str) -> str | None:
    """What a line of progress says that went wrong."""
    try:
        told = json.loads(line) if line.strip() else {}
    except ValueError:
        return None
    return str(told["error"]) if isinstance(told, dict) and "error" in told else None


def _credentials(login: RegistryLogin | None) -> dict[str, str]:
    if login is None:
        return {}
    words = {"username": login.username, "password": login.password, "serveraddress": login.server}
    return {"X-Registry-Auth": base64.urlsafe_b64encode(json.dumps(words).encode()).decode()}
