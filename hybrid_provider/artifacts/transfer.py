"""Reading objects: ranges in parallel, each pinned to the version that was looked at, handed on in order."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, islice, pairwise
from typing import TYPE_CHECKING, Self

from hybrid_provider.artifacts.behind import step_back
from hybrid_provider.artifacts.clock import clock_said_refused
from hybrid_provider.artifacts.reading import open_store
from hybrid_provider.artifacts.redirects import redirect_in
from hybrid_provider.exceptions import (
    ArtifactNotFound,
    ArtifactUnavailable,
    ConfigurationError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from concurrent.futures import Future

    from obstore import GetOptions

    from hybrid_provider.artifacts.objects import Location, StoredObject
    from hybrid_provider.artifacts.reading import Access
    from hybrid_provider.artifacts.transfer_policy import TransferPolicy

# Of one request where bytes come slowly: small enough that they are seen to come.
_PIECE_BYTES = 1 << 20
_FIRST_CUTS: tuple[int, ...] = (1 << 20, 4 << 20)
# A part that takes longer is slow; as long as between two lines of progress.
_FAST_SECONDS = 5.0
_SECONDS_BETWEEN_LOOKS = 1.0
_LANDING_AT_ONCE = 2
# In flight; one more each time the next one is awaited. What comes sooner than it can be taken costs memory.
_BATCHES_AT_FIRST = 2
# Small parts go from thread to thread together: each time costs as much as one of them.
_PARTS_AT_ONCE = 16
# For each part that may be in flight: a small one mostly waits for its answer. The batches bound the memory.
_REQUESTS_PER_PART = 4


@dataclass(frozen=True, slots=True)
class Part:
    """Bytes ``start`` to ``end`` (exclusive) of one object."""

    item: StoredObject
    start: int
    end: int

    @property
    def size_bytes(self) -> int:
        """How many bytes that is."""
        return self.end - self.start


def parts_of(objects: Sequence[StoredObject], part_bytes: int) -> Iterator[Part]:
    """All parts of all objects in order; an empty object has one empty part.

    The very first part comes in three: whoever reads it need not wait for the whole. All others begin at a
    multiple of their length: stores keep objects in pieces of some MiB, and read each that a range touches.
    """
    cuts = _FIRST_CUTS
    for item in objects:
        first = (cut for cut in cuts if cut < min(part_bytes, item.size_bytes))
        rest = range(part_bytes, item.size_bytes, part_bytes)
        for start, end in pairwise(chain((0,), first, rest, (item.size_bytes,))):
            yield Part(item, start, end)
        cuts = ()


def batches_of(parts: Iterable[Part], most_bytes: int) -> Iterator[list[Part]]:
    """The same parts in order, small objects together; a batch is not longer than the longest part may be."""
    batch: list[Part] = []
    batch_bytes = 0
    for part in parts:
        is_full = batch_bytes + part.size_bytes > most_bytes or len(batch) == _PARTS_AT_ONCE
        if batch and (is_full or part.start > 0):
            yield batch
            batch, batch_bytes = [], 0
        batch.append(part)
        batch_bytes += part.size_bytes
    if batch:
        yield batch


@dataclass(frozen=True, slots=True)
class Arrived:
    """A part that is here; its bytes in the pieces that they came in, which spares a copy."""

    part: Part
    chunks: tuple[memoryview, ...]
    was_kept: bool = False


class Download:
    """Objects of one bucket, read ahead in parts and handed on in order.

    A context manager and an iterator. Leaving it, or :meth:`stop` from any thread, ends all requests at once,
    however long the object store is silent.

    Args:
        access: The account.
        location: Of the object or prefix; all parts are of its bucket.
        parts: What to read, in order; taken as there is room.
        policy: How.
        landing: Called on another thread with each part that was fetched, before its turn.
        kept: Called on another thread for each part first; what it gives is not fetched.
        on_bytes: Called with how many bytes have come since the last call; about once in a second with 0
            while the next part is awaited. On the thread that iterates.
        steps_back: Whether whoever iterates goes first where the processor is busy: if its work takes long.

    Raises:
        ArtifactChanged: An object is not the one that was looked at.
        ArtifactNotFound: An object is gone.
        ArtifactUnavailable: A part could not be read in several attempts.
        ConfigurationError: Reading is not allowed.
    """

    def __init__(
        self,
        access: Access,
        location: Location,
        parts: Iterable[Part],
        policy: TransferPolicy,
        *,
        landing: Callable[[Arrived], None] | None = None,
        kept: Callable[[Part], memoryview | None] | None = None,
        on_bytes: Callable[[int], None] | None = None,
        steps_back: bool = False,
    ) -> None:
        self._store = open_store(access, location, policy)
        self._batches = batches_of(parts, policy.part_bytes)
        self._requests = asyncio.Semaphore(policy.parts_in_flight * _REQUESTS_PER_PART)
        self._policy = policy
        self._landing = landing
        self._kept = kept
        self._on_bytes = on_bytes or (lambda _: None)
        self._steps_back = steps_back
        self._arrived_bytes = 0
        self._reported_bytes = 0
        self._stopped = False
        self._is_fast = False
        self._pending: deque[Future[list[Arrived]]] = deque()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="download", daemon=True)
        self._pace = _Pace(policy.max_bytes_per_second)
        self._disk = ThreadPoolExecutor(_LANDING_AT_ONCE, thread_name_prefix="landing")

    def _run(self) -> None:
        if self._steps_back:
            step_back()  # obstore's threads begin with the first request, and inherit it
        self._loop.run_forever()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._disk.shutdown(cancel_futures=True)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def stop(self) -> None:
        """End all requests; whoever iterates gets an ArtifactUnavailable."""
        self._stopped = True
        asyncio.run_coroutine_threadsafe(_cancel_all(), self._loop).result()

    def __iter__(self) -> Iterator[Arrived]:
        """Begin to read, and hand on what comes; once."""
        self._submit(min(_BATCHES_AT_FIRST, self._policy.parts_in_flight))
        return self._in_order()

    def _in_order(self) -> Iterator[Arrived]:
        while self._pending:
            batch = self._awaited(self._pending[0])
            self._pending.popleft()
            self._submit(1)
            yield from batch

    def _submit(self, count: int) -> None:
        for batch in islice(self._batches, count):
            self._pending.append(asyncio.run_coroutine_threadsafe(self._brought(batch), self._loop))

    def _awaited(self, future: Future[list[Arrived]]) -> list[Arrived]:
        while not future.done():
            if len(self._pending) < self._policy.parts_in_flight:
                self._submit(1)
            if not wait([future], _SECONDS_BETWEEN_LOOKS).done:
                self._report()
        if future.cancelled():
            raise ArtifactUnavailable("the transfer was stopped")
        batch = future.result()
        self._report()
        return batch

    def _report(self) -> None:
        arrived_bytes = self._arrived_bytes
        self._on_bytes(arrived_bytes - self._reported_bytes)
        self._reported_bytes = arrived_bytes

    async def _brought(self, parts: list[Part]) -> list[Arrived]:
        batch = await asyncio.gather(*(self._fetched(part) for part in parts))
        if self._landing is not None:
            await self._loop.run_in_executor(self._disk, self._land, self._landing, batch)
        return batch

    @staticmethod
    def _land(landing: Callable[[Arrived], None], batch: list[Arrived]) -> None:
        for arrived in batch:
            if not arrived.was_kept:
                landing(arrived)

    async def _fetched(self, part: Part) -> Arrived:
        async with self._requests:
            if self._stopped:
                raise ArtifactUnavailable("the transfer was stopped")
            body = await self._loop.run_in_executor(self._disk, self._kept, part) if self._kept else None
            if body is not None:
                self._arrived_bytes += len(body)
                return Arrived(part, (body,), was_kept=True)
            return await self._read_with_retries(part)

    async def _read_with_retries(self, part: Part) -> Arrived:
        for attempt in range(1, self._policy.attempts):
            try:
                return await self._read_in_time(part)
            except ArtifactUnavailable:
                pause = self._policy.first_pause * 2 ** (attempt - 1)
                spread = random.uniform(0.5, 1.5)  # noqa: S311 - spreads the load, no secret
                await asyncio.sleep(pause.total_seconds() * spread)
        return await self._read_in_time(part)

    async def _read_in_time(self, part: Part) -> Arrived:
        """Read within the time for a request: obstore takes up a broken body again while bytes trickle."""
        seconds = self._policy.request_timeout.total_seconds()
        try:
            async with asyncio.timeout(seconds):
                return await self._read(part)
        except TimeoutError as error:
            raise ArtifactUnavailable(
                f"{part.item.location}: {part.size_bytes} bytes did not come in {seconds:g} s; "
                "the same call may work later"
            ) from error

    async def _read(self, part: Part) -> Arrived:
        chunks: list[memoryview] = []
        try:
            for piece in self._pieces(part):
                chunks.append(await self._read_piece(piece))
                self._arrived_bytes += piece.size_bytes
                await self._pace.take(piece.size_bytes)
        except BaseException:
            self._arrived_bytes -= sum(map(len, chunks))
            raise
        return Arrived(part, tuple(chunks))

    def _pieces(self, part: Part) -> Iterator[Part]:
        """What to ask for at a time: all that is left of a part, or where that takes long a little of it.

        One body could be taken as it comes, too. But obstore copies each piece of it, into memory that it
        zeroes first, and holds the GIL meanwhile; whole, it lends its own memory.
        """
        start = part.start
        while start < part.end:
            end = part.end if self._is_fast else min(start + _PIECE_BYTES, part.end)
            yield Part(part.item, start, end)
            start = end

    async def _read_piece(self, piece: Part) -> memoryview:
        import obstore

        item = piece.item
        etag = f'"{item.etag}"'
        options: GetOptions = {"if_match": etag, "range": (piece.start, piece.end)}
        if item.version_id is not None:
            options["version"] = item.version_id
        begun = time.monotonic()
        with _read_errors_explained(item):
            answer = await obstore.get_async(self._store, item.location.key, options=options)
            # An emulator may not heed If-Match.
            if answer.meta["size"] != item.size_bytes or (answer.meta["e_tag"] or etag) != etag:
                raise item.changed()
            body = memoryview(await answer.bytes_async())
        if len(body) != piece.size_bytes or answer.range != (piece.start, piece.end):
            raise ArtifactUnavailable(
                f"{item.location}: the store sent {len(body)} bytes for the range {piece.start} to "
                f"{piece.end}"
            )
        self._judge(piece.size_bytes, time.monotonic() - begun)
        return body

    def _judge(self, size_bytes: int, seconds: float) -> None:
        """Whether whole parts are fast enough; a small object's time is that of its request."""
        if size_bytes >= _PIECE_BYTES and self._policy.max_bytes_per_second is None:
            self._is_fast = seconds * self._policy.part_bytes <= _FAST_SECONDS * size_bytes


class _Pace:
    """Spreads bytes over time, however many requests they come by."""

    def __init__(self, bytes_per_second: int | None) -> None:
        self._bytes_per_second = bytes_per_second
        self._free_at = 0.0

    async def take(self, size_bytes: int) -> None:
        """Wait until so many more bytes may have come."""
        if self._bytes_per_second is None:
            return
        now = time.monotonic()
        self._free_at = max(now, self._free_at) + size_bytes / self._bytes_per_second
        await asyncio.sleep(self._free_at - now)


async def _cancel_all() -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@contextmanager
def _read_errors_explained(item: StoredObject) -> Iterator[None]:
    from obstore.exceptions import BaseError, PermissionDeniedError, PreconditionError, UnauthenticatedError

    try:
        yield
    except PreconditionError as error:
        raise item.changed() from error
    except FileNotFoundError as error:
        raise ArtifactNotFound(f"{item.location} was removed; sync what is there now") from error
    except (PermissionDeniedError, UnauthenticatedError) as error:
        clock = clock_said_refused(str(error))
        if clock is not None:
            raise ArtifactUnavailable(f"{item.location}: {clock}") from error
        raise ConfigurationError(
            f"{item.location}: access denied; grant the connection's identity to read it (s3:GetObject)"
        ) from error
    except ValueError as error:
        raise ConfigurationError(
            f"{item.location}: an empty part, '.' or '..' in a key cannot be read; rename the object"
        ) from error
    except BaseError as error:
        redirected = redirect_in(error)
        if redirected is not None:
            raise ConfigurationError(f"{item.location}: {redirected}") from error
        raise ArtifactUnavailable(
            f"{item.location}: {_first_line(error)}; the same call may work later"
        ) from error


def _first_line(error: Exception) -> str:
    """What obstore's error says; a page of its internals follows."""
    return str(error).partition("\n")[0].strip()
