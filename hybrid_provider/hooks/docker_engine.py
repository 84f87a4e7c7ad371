"""Connections of type ``docker_engine``: the Docker Engines that models run on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.sdk import BaseHook

from hybrid_provider.exceptions import ConfigurationError

if TYPE_CHECKING:
    from docker import DockerClient


class DockerEngineHook(BaseHook):
    """Opens a client of one Docker Engine.

    The connection's host is the engine's URL (``unix:///var/run/docker.sock``, ``tcp://edge-07:2376``); for
    ``tcp`` its extra names the files ``ca_cert``, ``client_cert`` and ``client_key`` of mutual TLS.

    Args:
        docker_engine_conn_id: The connection.
    """

    conn_name_attr = "docker_engine_conn_id"
    default_conn_name = "docker_engine_default"
    conn_type = "docker_engine"
    hook_name = "Docker Engine (hybrid)"

    def __init__(self, docker_engine_conn_id: str = default_conn_name) -> None:
        super().__init__()
        self.docker_engine_conn_id = docker_engine_conn_id

    def get_conn(self) -> DockerClient:
        """A client of the engine, not yet connected.

        Raises:
            ConfigurationError: The URL is not of a kind that proves the engine's identity.
        """
        from docker import DockerClient
        from docker.tls import TLSConfig

        connection = self.get_connection(self.docker_engine_conn_id)
        url, extra = connection.host or "", connection.extra_dejson
        if url.startswith("unix://"):
            return DockerClient(base_url=url)
        if not url.startswith("tcp://"):
            raise ConfigurationError(
                f"connection {self.docker_engine_conn_id}: engine URL {url!r} is neither unix:// nor tcp://"
            )
        missing = [name for name in ("ca_cert", "client_cert", "client_key") if not extra.get(name)]
        if missing:
            raise ConfigurationError(
                f"connection {self.docker_engine_conn_id}: {', '.join(missing)} missing in extra; "
                "an engine on tcp:// is root on its host and is only spoken to over mutual TLS"
            )
        tls = TLSConfig(
            client_cert=(extra["client_cert"], extra["client_key"]), ca_cert=extra["ca_cert"], verify=True
        )
        return DockerClient(base_url=url, tls=tls)

    def test_connection(self) -> tuple[bool, str]:
        """Ask the engine for its version, for the UI's Test button."""
        from docker.errors import DockerException

        try:
            version = self.get_conn().version()["Version"]
        except (ConfigurationError, DockerException) as error:
            return False, str(error)
        return True, f"Docker Engine {version}"
