"""Proofs that a target serves the release."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlsplit

from hybrid_provider.exceptions import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import httpx

    from hybrid_provider.targets.target import Target


@dataclass(frozen=True, slots=True)
class Answer:
    """What one probe found.

    Attributes:
        fault: Why the target is not healthy; empty when it is.
    """

    fault: str = ""

    @property
    def healthy(self) -> bool:
        """Whether the target serves the release."""
        return not self.fault


class Probe(Protocol):
    """Asks a target whether it serves a release."""

    async def check(self, target: Target, release_id: str) -> Answer:
        """Ask once. Whatever goes wrong is an unhealthy answer with its reason; may be cancelled."""


@dataclass(frozen=True, kw_only=True)
class HttpProbe:
    """One HTTP request from this machine; redirects are not followed, proxies are not used.

    Attributes:
        url: What to ask, the same for the whole fleet but for ``{host}`` and ``{name}``, the target's address
            and name. None: ``http://{host}:<port><path>``. A target's own ``probe_url`` goes before both.
        port: Of that URL. 8080, as SageMaker's containers.
        path: Of that URL. ``/ping``, as SageMaker's containers.
        method: The request's method.
        body: The request's body.
        headers: The request's headers.
        expect_status: The only status that is healthy.
        release_header: The response's header that must name the release, which is what proves that no older
            one answers. None asks for no such proof: then a target may pass while the old release serves.
    """

    url: str | None = None
    port: int = 8080
    path: str = "/ping"
    method: str = "GET"
    body: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    expect_status: int = 200
    release_header: str | None = "X-Release-Id"

    def __post_init__(self) -> None:
        if self.url is not None:
            checked_url(self.url)
        if not self.path.startswith("/"):
            raise ConfigurationError(f"probe path {self.path!r}: it begins with '/'")

    def url_of(self, target: Target) -> str:
        """The URL that is asked for one target."""
        host = f"[{target.host}]" if ":" in target.host else target.host
        url = target.probe_url or self.url or f"http://{{host}}:{self.port}{self.path}"
        return url.replace("{host}", host).replace("{name}", target.name)

    async def check(self, target: Target, release_id: str) -> Answer:
        """See :meth:`Probe.check`."""
        import httpx

        url = self.url_of(target)
        client = httpx.AsyncClient(
            trust_env=False,
            follow_redirects=False,
            verify=_tls() if url.startswith("https:") else False,
            timeout=None,  # noqa: S113 - whoever asks limits the whole request; httpx limits its parts
        )
        try:
            async with (
                client,
                client.stream(self.method, url, content=self.body, headers=dict(self.headers)) as response,
            ):
                return self._judged(url, response, release_id)
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            return Answer(f"{url}: {error or type(error).__name__}")

    def _judged(self, url: str, response: httpx.Response, release_id: str) -> Answer:
        if response.status_code != self.expect_status:
            return Answer(f"{url}: HTTP {response.status_code}, expected {self.expect_status}")
        if self.release_header is None:
            return Answer()
        served = response.headers.get(self.release_header)
        if served is None:
            return Answer(f"{url}: no header {self.release_header} says which release answers")
        if served != release_id:
            return Answer(f"{url}: release {served[:80]!r} answers, not {release_id}")
        return Answer()


def checked_url(url: str) -> str:
    """Return a URL for a probe unchanged if it is one.

    Raises:
        ConfigurationError: It is not ``http://…`` or ``https://…`` with a host.
    """
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.netloc:
        raise ConfigurationError(f"probe URL {url!r}: it looks like http://edge-01:8080/ping")
    return url


@cache
def _tls() -> ssl.SSLContext:
    """Loading the certificates takes 20 ms, which is too much for each probe."""
    return ssl.create_default_context()
