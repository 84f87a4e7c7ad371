"""What containers write, from the engine's framed streams."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from hybrid_provider.targets.docker.engine import EngineRefused

if TYPE_CHECKING:
    from hybrid_provider.targets.docker.engine import Engine

_FRAME: Final = struct.Struct(">BxxxL")
_STDERR: Final = 2


def split_frames(content: bytes) -> tuple[str, str]:
    """Standard output and standard error of a stream in which each piece says which it is."""
    out, err = bytearray(), bytearray()
    start = 0
    while start + _FRAME.size <= len(content):
        kind, size_bytes = _FRAME.unpack_from(content, start)
        start += _FRAME.size
        (err if kind == _STDERR else out).extend(content[start : start + size_bytes])
        start += size_bytes
    return out.decode(errors="replace"), err.decode(errors="replace")


async def log_of(engine: Engine, container_path: str, *, lines: int) -> str:
    """The end of a container's log; empty where the engine keeps none that can be read."""
    query = {"stdout": "1", "stderr": "1", "tail": str(lines)}
    try:
        out, err = split_frames(await engine.read(f"{container_path}/logs", query))
    except EngineRefused:
        return ""
    return out + err
