"""Where a Docker Engine is, and how to know that it is this engine."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from hybrid_provider.exceptions import ConfigurationError

if TYPE_CHECKING:
    from pathlib import Path

    from hybrid_provider.targets.ssh import SshAddress

DEFAULT_URL: Final = "unix:///var/run/docker.sock"
_TLS_PORT: Final = 2376


@dataclass(frozen=True, kw_only=True)
class EngineTls:
    """The files of mutual TLS: an engine on a port is root on its host, and lets in whoever it knows alone.

    Attributes:
        ca_cert: What signed the engine's certificate.
        client_cert: What the engine knows us by.
        client_key: Its private key.
    """

    ca_cert: Path
    client_cert: Path
    client_key: Path


@dataclass(frozen=True, kw_only=True)
class EngineAddress:
    """How to reach one Docker Engine.

    Attributes:
        url: ``unix:///var/run/docker.sock``, or ``tcp://edge-07:2376`` together with ``tls``.
        tls: For ``tcp`` alone.
        ssh: The host whose socket ``url`` names; its host key is enforced. None: the socket of this machine.
        connect_timeout: For a connection, with its TLS.
        command_timeout: For one answer of the engine that streams nothing.
    """

    url: str = DEFAULT_URL
    tls: EngineTls | None = None
    ssh: SshAddress | None = None
    connect_timeout: timedelta = timedelta(seconds=10)
    command_timeout: timedelta = timedelta(seconds=60)

    def __post_init__(self) -> None:
        if fault := self._fault():
            raise ConfigurationError(f"engine URL {self.url!r}: {fault}")

    def _fault(self) -> str:
        kind, _, path = self.url.partition("://")
        if kind == "unix":
            plain = path.startswith("/") and "\0" not in path and ".." not in path.split("/")
            tls = "mutual TLS is for tcp://" if self.tls else ""
            return tls if plain else "give the socket's absolute path, such as unix:///var/run/docker.sock"
        if kind != "tcp" or self.ssh:
            return "it is no tcp://edge-07:2376, and no unix:///var/run/docker.sock as an engine over SSH has"
        if not self.tls:
            return (
                "ca_cert, client_cert and client_key are missing; an engine on tcp:// is root on its host "
                "and is only spoken to over mutual TLS"
            )
        return "" if self._names_a_host() else "it is like tcp://edge-07:2376"

    @property
    def socket(self) -> str | None:
        """The path of the engine's socket, None for an engine on a port."""
        return self.url.removeprefix("unix://") if self.url.startswith("unix://") else None

    @property
    def base_url(self) -> str:
        """Of the engine's API, for an HTTP client."""
        if self.socket:
            return "http://engine"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"https://{host}:{self._port}"

    @property
    def host(self) -> str:
        """The address that a probe asks."""
        if self.ssh is not None:
            return self.ssh.host
        return "127.0.0.1" if self.socket else str(urlsplit(self.url).hostname)

    def _names_a_host(self) -> bool:
        try:
            return bool(urlsplit(self.url).hostname and self._port)
        except ValueError:
            return False

    @property
    def _port(self) -> int:
        return urlsplit(self.url).port or _TLS_PORT

    def __str__(self) -> str:
        return f"{self.url} on {self.ssh.host}" if self.ssh else self.url
