"""How a release comes to lie, verified, on a POSIX target, over streams that may be cut."""

from __future__ import annotations

import asyncio
import secrets
from typing import TYPE_CHECKING, Final

from hybrid_provider.exceptions import TargetFailed, TargetUnreachable
from hybrid_provider.targets.answers import read_arrived
from hybrid_provider.targets.target import Staged
from hybrid_provider.targets.tarstream import parts_of, rest_stream, tar_stream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping
    from typing import Protocol

    from hybrid_provider.artifacts.manifest import Manifest
    from hybrid_provider.artifacts.release import Release
    from hybrid_provider.targets.tarstream import Parts

    class Run(Protocol):
        """Runs scripts by their names, and gives what they answer."""

        async def __call__(
            self, *names: str, stdin: AsyncIterator[bytes] | None = None, **variables: str | int
        ) -> str:
            """Raises what :meth:`hybrid_provider.targets.shell.Shell.run` does, and TargetFailed."""


# As Greengrass and Mender; the rollout's own deadline is for a target that makes no progress.
_TRIES: Final = 10
_FIRST_PAUSE_SECONDS: Final = 0.5
_LONGEST_PAUSE_SECONDS: Final = 15
# A shorter beginning of a file is not worth a question of its own.
_WORTH_APPENDING_BYTES: Final = 2**20

Arrived = dict[str, tuple[str, int]]


class Staging:
    """One release on its way to one target.

    A stream that is cut leaves what arrived. The next one brings only what is missing: whole files are linked
    from there, and the file that was cut off is continued where it ended. All of it is proved at the end.
    """

    def __init__(
        self,
        name: str,
        run: Run,
        release: Release,
        there: Mapping[str, Manifest],
        progress: Callable[[int], None],
    ) -> None:
        self._name = name
        self._run = run
        self._release = release
        self._there = there
        self._progress = progress

    async def bring(self, *, resumed: bool) -> Staged:
        """Bring the release; ``resumed`` where an earlier try may have left something.

        Raises:
            TargetFailed: It did not arrive whole.
            TargetUnreachable: The connection was lost once too often; what arrived is kept.
        """
        for left in reversed(range(_TRIES)):
            try:
                return await self._bring_once(await self._arrived() if resumed else {})
            except TargetUnreachable:
                if not left:
                    raise
                resumed = True
                pause = _FIRST_PAUSE_SECONDS * 2 ** (_TRIES - 1 - left)
                await asyncio.sleep(min(pause, _LONGEST_PAUSE_SECONDS))
        raise TargetUnreachable(self._name, "no connection")

    async def _bring_once(self, arrived: Arrived) -> Staged:
        manifest = self._release.manifest
        try:
            parts = parts_of(manifest, self._there, await self._continued(arrived))
            return await self._send(parts)
        except TargetFailed as failure:
            # What was linked may have been changed since it was staged; then all bytes travel.
            if not failure.reason.startswith(("unproven", "unlinkable")):
                raise
        return await self._send(parts_of(manifest))

    async def _arrived(self) -> Arrived:
        return read_arrived(await self._run("library", "arrived"))

    async def _continued(self, arrived: Arrived) -> Arrived:
        """What arrived, with the rest of the file in which the stream was cut."""
        for file in parts_of(self._release.manifest, self._there, arrived).sent:
            where, size_bytes = arrived.get(file.path, ("", 0))
            if _WORTH_APPENDING_BYTES <= size_bytes < file.size_bytes:
                rest = rest_stream(self._release.path, file, self._progress, start=size_bytes)
                await self._run("library", "append", stdin=self._readable(rest), start=where, size=size_bytes)
                arrived[file.path] = (where, file.size_bytes)
        return arrived

    async def _send(self, parts: Parts) -> Staged:
        release = self._release
        stream = tar_stream(release.path, release.manifest, parts, self._progress)
        await self._run(
            "library",
            "proof",
            "stage",
            stdin=self._readable(stream),
            stream=secrets.token_hex(4),
            needed=parts.sent_bytes,
            files=len(release.manifest.files),
        )
        return Staged(bytes_sent=parts.sent_bytes, bytes_linked=parts.linked_bytes)

    async def _readable(self, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """The chunks; that they cannot be read here is no fault of the connection."""
        try:
            async for chunk in chunks:
                yield chunk
        except OSError as error:
            raise TargetFailed(self._name, f"the release cannot be read on this worker: {error}") from None
