"""Whether a serving container will have the programs of a probe that runs in it.

The image is looked into through a container that is never started, as all that is asked before a release is.
"""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Final

from hybrid_provider.targets.docker import containers
from hybrid_provider.targets.docker.container import looked_into_body
from hybrid_provider.targets.docker.engine import EngineRefused

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hybrid_provider.targets.docker.engine import Engine, Json
    from hybrid_provider.targets.docker.serving import Serving

# Docker's own, where neither the image nor the serving has one.
_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_STAT: Final = "X-Docker-Container-Path-Stat"
# Of the modes in Go's words.
_IS_FOLDER: Final = 1 << 31
_RUNS: Final = 0o111


async def missing(engine: Engine, serving: Serving, model: str, programs: Sequence[str]) -> list[str]:
    """A fault for each program that the serving image lacks; ``curl/wget`` is one of these two.

    Args:
        engine: The engine, which has the image.
        serving: How the model is served.
        model: The model.
        programs: What the probe runs; all of it by ``sh``.
    """
    if not programs:
        return []
    made = await engine.ask("POST", "/containers/create", looked_into_body(serving, model))
    container = str(made["Id"])
    try:
        folders = _folders(await engine.ask("GET", f"/containers/{container}/json"))
        return [
            f"the probe runs {choice.replace('/', ' or ')} in the container, and image {serving.image} has "
            "none; take an image that has it, or a probe that asks from the worker"
            for choice in dict.fromkeys(("sh", *programs))
            if not await _has_any(engine, container, choice.split("/"), folders)
        ]
    finally:
        await containers.remove(engine, container)


def _folders(container: Json) -> list[str]:
    named = dict(each.partition("=")[::2] for each in container["Config"].get("Env") or [])
    return [folder for folder in (named.get("PATH") or _PATH).split(":") if folder.startswith("/")]


async def _has_any(engine: Engine, container: str, names: Sequence[str], folders: Sequence[str]) -> bool:
    for name in names:
        for folder in folders:
            if await _is_program(engine, container, f"{folder}/{name}"):
                return True
    return False


async def _is_program(engine: Engine, container: str, path: str) -> bool:
    found = await _stat(engine, container, path)
    # What it leads to in the end, in the container.
    if found is not None and found.get("linkTarget"):
        found = await _stat(engine, container, found["linkTarget"])
    return found is not None and not found["mode"] & _IS_FOLDER and bool(found["mode"] & _RUNS)


async def _stat(engine: Engine, container: str, path: str) -> Json:
    try:
        where = f"/containers/{container}/archive"
        async with engine.stream("HEAD", where, query={"path": path}) as answer:
            return json.loads(base64.b64decode(answer.headers[_STAT]))
    except EngineRefused:
        # Besides what is not there: a file on the PATH, or a link that leads round, is a 500 without a word.
        return None
