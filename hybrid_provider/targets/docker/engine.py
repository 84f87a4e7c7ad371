"""One Docker Engine's HTTP API.

httpx speaks it, and not docker-py: its requests stream, can be cancelled and need no thread, and thirty
targets at once would wait for one another in a pool of six threads on two cores.
"""

from __future__ import annotations

import json
import ssl
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, Final

from hybrid_provider.exceptions import TargetFailed, TargetNotReady, TargetRefused, TargetUnreachable
from hybrid_provider.targets.docker.tunnel import Tunnel

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping
    from datetime import timedelta

    import httpx

    from hybrid_provider.targets.docker.address import EngineAddress

# 19.03's; and the newest whose answers were looked at. Engines from 29 on refuse what is older than 1.44.
_OLDEST_API: Final = (1, 40)
_NEWEST_API: Final = (1, 47)
_NOT_FOUND: Final = 404
_CONFLICT: Final = 409
_REFUSALS: Final = frozenset({401, 403})
_FAILED: Final = 400
_FULL: Final = "no space left on device"
# What an engine says of `gpus` where nothing of a GPU is installed.
_NO_GPU: Final = "could not select device driver"
# The longest answer that is read whole: the objects of a model, the end of a log.
_ANSWER_BYTES: Final = 2**26

Json = Any  # what an engine answers is checked where it is read


class EngineRefused(TargetFailed):
    """The engine answered that it will not or cannot; ``status`` is HTTP's."""

    def __init__(self, target: str, message: str, status: int) -> None:
        super().__init__(target, message)
        self.status = status

    @property
    def missing(self) -> bool:
        """Whether what was asked about is not there."""
        return self.status == _NOT_FOUND

    @property
    def conflict(self) -> bool:
        """Whether a name is taken, or a thing is in use or not in the state for it."""
        return self.status == _CONFLICT


class Engine:
    """Asks one engine; connects when it is first asked, and again where the connection was lost."""

    def __init__(self, name: str, address: EngineAddress) -> None:
        self.name = name
        self.address = address
        self._client: httpx.AsyncClient | None = None
        self._tunnel: Tunnel | None = None
        self._version = ""

    async def ask(
        self,
        method: str,
        path: str,
        body: Mapping[str, object] | None = None,
        *,
        query: Mapping[str, str] | None = None,
        limit: timedelta | None = None,
    ) -> Json:
        """One request and its JSON, None where there is none.

        Raises:
            EngineRefused: The engine's answer is an error; the message is its own.
            TargetUnreachable: There is no answer.
            TargetRefused: It is not the engine that we know, or it does not know us.
        """
        async with self.stream(method, path, body=body, query=query, limit=limit) as response:
            content = await self._whole(response)
        return json.loads(content) if content.strip().startswith((b"{", b"[")) else None

    async def read(self, path: str, query: Mapping[str, str] | None = None) -> bytes:
        """The bytes of a short answer."""
        async with self.stream("GET", path, query=query) as response:
            return await self._whole(response)

    async def there(self, path: str) -> Json:
        """What a path names, None where it names nothing."""
        try:
            return await self.ask("GET", path)
        except EngineRefused as refused:
            if refused.missing:
                return None
            raise

    async def remove(self, path: str, query: Mapping[str, str] | None = None) -> bool:
        """Remove what a path names, if it is there; False where it is in use."""
        try:
            await self.ask("DELETE", path, query=query)
        except EngineRefused as refused:
            if not refused.missing and not refused.conflict:
                raise
            return refused.missing
        return True

    @asynccontextmanager
    async def stream(
        self,
        method: str,
        path: str,
        *,
        body: Mapping[str, object] | AsyncIterator[bytes] | bytes | None = None,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        limit: timedelta | None = None,
    ) -> AsyncIterator[httpx.Response]:
        """A request whose body, or whose answer, is a stream; as :meth:`ask` else."""
        client = await self._connected()
        content: dict[str, object] = {"json": body} if isinstance(body, dict) else {"content": body}
        with self._explained():
            request = client.build_request(
                method,
                f"/{self._version}{path}",
                params=query,
                headers=headers,
                timeout=self._timeout(limit),
                **content,  # type: ignore[arg-type]
            )
            response = await client.send(request, stream=True)
            try:
                if response.status_code >= _FAILED:
                    raise self._refusal(response.status_code, await response.aread())
                yield response
            finally:
                await response.aclose()

    async def close(self) -> None:
        """Let go of the connections."""
        client, tunnel, self._client, self._tunnel = self._client, self._tunnel, None, None
        if client is not None:
            await client.aclose()
        if tunnel is not None:
            await tunnel.close()

    async def _connected(self) -> httpx.AsyncClient:
        if self._client is not None and (self._tunnel is None or self._tunnel.open):
            return self._client
        await self.close()
        import httpx

        address = self.address
        socket = address.socket
        if address.ssh is not None and socket is not None:
            self._tunnel = await Tunnel.opened(self.name, address.ssh, socket)
            socket = str(self._tunnel.socket)
        if socket is not None:
            transport = httpx.AsyncHTTPTransport(uds=socket, retries=0)
        else:
            transport = httpx.AsyncHTTPTransport(verify=self._tls_context(), retries=0)
        client = httpx.AsyncClient(
            transport=transport, base_url=address.base_url, timeout=self._timeout(None)
        )
        with self._explained():
            response = await client.get("/_ping")
        self._version = self._api(response.headers.get("Api-Version", ""))
        self._client = client
        return client

    def _tls_context(self) -> ssl.SSLContext:
        tls = self.address.tls
        if tls is None:
            raise TargetRefused(self.name, f"{self.address} has no certificates")
        try:
            context = ssl.create_default_context(cafile=str(tls.ca_cert))
            context.load_cert_chain(tls.client_cert, tls.client_key)
        except (OSError, ssl.SSLError) as error:
            files = f"{tls.ca_cert}, {tls.client_cert} and {tls.client_key}"
            raise TargetRefused(
                self.name, f"the certificates {files} cannot be read: {error}; check the connection's extra"
            ) from None
        return context

    def _api(self, version: str) -> str:
        """The version of the API that both sides know."""
        try:
            major, minor = (int(word) for word in version.split("."))
        except ValueError:
            raise TargetUnreachable(
                self.name, f"what answers at {self.address} is no Docker Engine"
            ) from None
        if (major, minor) < _OLDEST_API:
            raise TargetNotReady(
                self.name, f"the engine at {self.address} speaks API {version}; Docker 19.03 (1.40) or newer"
            )
        return "v{}.{}".format(*min((major, minor), _NEWEST_API))

    def _timeout(self, limit: timedelta | None) -> httpx.Timeout:
        import httpx

        seconds = (limit or self.address.command_timeout).total_seconds()
        return httpx.Timeout(seconds, connect=self.address.connect_timeout.total_seconds(), pool=None)

    async def _whole(self, response: httpx.Response) -> bytes:
        pieces, size_bytes = [], 0
        async for piece in response.aiter_bytes():
            size_bytes += len(piece)
            if size_bytes > _ANSWER_BYTES:
                raise TargetFailed(self.name, f"the engine answered with more than {_ANSWER_BYTES} bytes")
            pieces.append(piece)
        return b"".join(pieces)

    def _refusal(self, status: int, content: bytes) -> TargetRefused | EngineRefused:
        try:
            said = str(json.loads(content)["message"])
        except (ValueError, KeyError, TypeError):
            said = content[:200].decode(errors="replace").strip() or f"HTTP {status}"
        if status in _REFUSALS:
            return TargetRefused(self.name, f"the engine refuses us: {said}")
        if _FULL in said:
            said = f"{said}; free space on the engine's disk or lower keep_releases"
        if _NO_GPU in said:
            said = f"{said}; install NVIDIA's driver and container toolkit on its host, or take out gpus"
        return EngineRefused(self.name, f"the engine: {said}", status)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Say in the words of targets what a request failed of."""
        import httpx

        where = self.address
        try:
            yield
        except httpx.TimeoutException:
            raise TargetUnreachable(self.name, f"the engine at {where} did not answer in time") from None
        # Under TLS 1.3 the engine's refusal comes with the first answer, where httpx passes it on as it is.
        except (httpx.TransportError, httpx.InvalidURL, ssl.SSLError) as error:
            causes = _causes(error)
            if any(isinstance(cause, ssl.SSLError) for cause in causes):
                raise TargetRefused(
                    self.name,
                    f"the engine at {where} and we do not know each other by TLS: {error}; check ca_cert, "
                    "client_cert and client_key, and the names in the engine's certificate",
                ) from None
            if any(isinstance(cause, PermissionError) for cause in causes):
                raise TargetRefused(
                    self.name, f"{where} may not be opened by this user; make it a member of the group docker"
                ) from None
            raise TargetUnreachable(
                self.name,
                f"no answer from the engine at {where}: {error or type(error).__name__}; check that it runs, "
                "the address, the network"
                + (" and that sshd allows the user to forward to that socket" if where.ssh else ""),
            ) from None


def _causes(error: BaseException) -> list[BaseException]:
    found: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in found:
        found.append(cause)
        cause = cause.__cause__ or cause.__context__
    return found
