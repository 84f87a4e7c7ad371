"""Clients that keep their connections open and count what fails; none of them asks twice."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

_LIMIT_SECONDS = 60


@dataclass
class Load:
    """What clients asked, and got.

    Attributes:
        answers: How many requests each release answered.
        failed: What came in place of an answer.
        slow: How many slow requests are under way.
        over: Whether clients stop after the request that they are at.
    """

    answers: dict[str, int] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)
    slow: int = 0
    over: bool = False
    _changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def answered_by(self, release_id: str) -> None:
        """Return when the release has answered one more request."""
        before = self.answers.get(release_id, 0)
        await self._until(lambda: self.answers.get(release_id, 0) > before)

    async def slow_ones(self, count: int) -> None:
        """Return when as many slow requests are under way."""
        await self._until(lambda: self.slow >= count)

    async def note(self) -> None:
        """Something has changed."""
        async with self._changed:
            self._changed.notify_all()

    async def _until(self, reached: Callable[[], bool]) -> None:
        async with asyncio.timeout(_LIMIT_SECONDS), self._changed:
            await self._changed.wait_for(lambda: reached() or bool(self.failed))


@asynccontextmanager
async def load(port: int, *, quick: int, slow: int, seconds: float) -> AsyncIterator[Load]:
    """Quick clients one request after the other, and slow ones whose requests take as long as ``seconds``."""
    counted = Load()
    async with asyncio.TaskGroup() as clients:
        for number in range(quick + slow):
            clients.create_task(_client(port, counted, seconds if number >= quick else 0))
        try:
            yield counted
        finally:
            counted.over = True


async def _client(port: int, counted: Load, seconds: float) -> None:
    body = b"%g" % seconds
    request = b"POST /invocations HTTP/1.1\r\nHost: model\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
    connection = None
    try:
        while not counted.over:
            if connection is None:
                connection = await asyncio.open_connection("127.0.0.1", port)
            counted.slow += seconds > 0
            await counted.note()
            release_id, stays = await _answer(*connection, request)
            counted.slow -= seconds > 0
            counted.answers[release_id] = counted.answers.get(release_id, 0) + 1
            await counted.note()
            if not stays:
                connection[1].close()
                connection = None
            await asyncio.sleep(0.01)
    except (OSError, EOFError, ValueError, TimeoutError) as error:
        counted.failed.append(repr(error))
        await counted.note()
    finally:
        if connection is not None:
            connection[1].close()


async def _answer(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes
) -> tuple[str, bool]:
    """The release that answered, and whether the connection stays: a server has to say when it does not."""
    async with asyncio.timeout(_LIMIT_SECONDS):
        writer.write(request)
        head = (await reader.readuntil(b"\r\n\r\n")).decode().splitlines()
        headers = {
            name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])
        }
        await reader.readexactly(int(headers["content-length"]))
    if head[0].split()[1] != "200":
        raise ValueError(head[0])
    return headers["x-release-id"], headers.get("connection") != "close"
