"""Connections of type ``docker_engine``: the Docker Engines that models run on."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from airflow.sdk import BaseHook
from airflow.sdk.exceptions import AirflowNotFoundException

from hybrid_provider.exceptions import ConfigurationError, HybridError
from hybrid_provider.hooks.ssh import ssh_target
from hybrid_provider.names import checked_name
from hybrid_provider.rollout.probe_checks import checked_url
from hybrid_provider.targets.docker import (
    DockerTarget,
    EngineAddress,
    EngineTls,
    RegistryLogin,
    Serving,
)
from hybrid_provider.targets.docker.address import DEFAULT_URL
from hybrid_provider.targets.docker.engine import Engine
from hybrid_provider.targets.docker.serving import merged
from hybrid_provider.targets.target import Placement

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow.sdk import Connection
    from docker import DockerClient

_TLS_FILES: Final = ("ca_cert", "client_cert", "client_key")


def docker_target(
    conn_id: str,
    serving: Serving | Mapping[str, object] | None = None,
    *,
    docker_conn_id: str | None = None,
    fleet_serving: object = None,
) -> DockerTarget:
    """The engine of a ``docker_engine`` connection, as a target of the connection's name.

    Args:
        conn_id: The connection; its host is the engine's URL (``unix:///var/run/docker.sock``, or
            ``tcp://edge-07:2376`` with the files ``ca_cert``, ``client_cert`` and ``client_key`` in its
            extra). With ``ssh_conn_id`` in its extra, the URL's socket is on the host of that connection.
        serving: How the model is served; the extra's ``serving``, a mapping, where None.
        docker_conn_id: A connection of type ``docker``: the registry's credentials; the extra's
            ``docker_conn_id`` where None.
        fleet_serving: What holds where the extra's ``serving`` does not say.

    Raises:
        InvalidName: The connection's id is outside the grammar.
        ConfigurationError: There is no such connection, it does not say how the engine is known, or nothing
            says how the model is served.
    """
    checked_name("target", conn_id)
    connection = _connection(conn_id)
    extra = connection.extra_dejson
    if serving is None and (serving := merged(fleet_serving, extra.get("serving"))) is None:
        raise ConfigurationError(
            f"docker_engine connection {conn_id!r} has no serving in its extra; put it there, or give the "
            "operator serving, such as {'image': 'registry.example/models/server@sha256:…'}"
        )
    login = docker_conn_id or extra.get("docker_conn_id")
    probe_url = extra.get("probe_url")
    return DockerTarget(
        name=conn_id,
        serving=Serving.of(serving),
        address=engine_address(conn_id, connection),
        login=registry_login(str(login)) if login else None,
        host=extra.get("probe_host") or None,
        placement=Placement(
            probe_url=checked_url(str(probe_url)) if probe_url else None, group=extra.get("group") or None
        ),
    )


def engine_address(conn_id: str, connection: Connection) -> EngineAddress:
    """Where the engine of a connection is.

    Raises:
        ConfigurationError: The connection does not say how the engine is known.
    """
    extra = connection.extra_dejson
    files = {name: Path(str(extra[name])).expanduser() for name in _TLS_FILES if extra.get(name)}
    ssh_conn_id = extra.get("ssh_conn_id")
    try:
        return EngineAddress(
            url=_url(connection, over_ssh=bool(ssh_conn_id)),
            tls=EngineTls(**files) if len(files) == len(_TLS_FILES) else None,
            ssh=ssh_target(str(ssh_conn_id)).address if ssh_conn_id else None,
            connect_timeout=_seconds(conn_id, extra, "connect_timeout", 10),
            command_timeout=_seconds(conn_id, extra, "command_timeout", 60),
        )
    except ConfigurationError as fault:
        raise ConfigurationError(f"docker_engine connection {conn_id!r}: {fault}") from None


def registry_login(conn_id: str) -> RegistryLogin:
    """The registry's credentials in a connection of the docker provider's type.

    Raises:
        ConfigurationError: It is not there or not complete.
    """
    connection = _connection(conn_id)
    if not connection.host or not connection.login or not connection.password:
        raise ConfigurationError(
            f"docker connection {conn_id!r}: fill in its host (the registry), its login and its password"
        )
    port = f":{connection.port}" if connection.port else ""
    return RegistryLogin(
        server=f"{connection.host}{port}", username=connection.login, password=connection.password
    )


class DockerEngineHook(BaseHook):
    """Reaches one Docker Engine, for the UI's Test button and for a DAG's own tasks.

    Args:
        docker_engine_conn_id: The connection; see :func:`docker_target`.
    """

    conn_name_attr = "docker_engine_conn_id"
    default_conn_name = "docker_engine_default"
    conn_type = "docker_engine"
    hook_name = "Docker Engine (hybrid)"

    def __init__(self, docker_engine_conn_id: str = default_conn_name) -> None:
        super().__init__()
        self.docker_engine_conn_id = docker_engine_conn_id

    @property
    def address(self) -> EngineAddress:
        """Where the engine is."""
        return engine_address(self.docker_engine_conn_id, self.get_connection(self.docker_engine_conn_id))

    def get_conn(self) -> DockerClient:
        """A client of docker-py, not yet connected.

        Raises:
            ConfigurationError: The connection does not say how the engine is known, or it is over SSH, where
                docker-py would bring its own SSH that knows nothing of the connection's host key.
        """
        from docker import DockerClient
        from docker.tls import TLSConfig

        address = self.address
        if address.ssh is not None:
            raise ConfigurationError(
                f"docker_engine connection {self.docker_engine_conn_id!r} is over SSH: docker_target reaches "
                "it, docker-py does not"
            )
        if address.tls is None:
            return DockerClient(base_url=address.url)
        pair = (str(address.tls.client_cert), str(address.tls.client_key))
        tls = TLSConfig(client_cert=pair, ca_cert=str(address.tls.ca_cert), verify=True)
        return DockerClient(base_url=address.url, tls=tls)

    def test_connection(self) -> tuple[bool, str]:
        """Ask the engine for its version, for the UI's Test button."""
        try:
            return True, f"Docker Engine {asyncio.run(self._version())}"
        except HybridError as error:
            return False, str(error)

    async def _version(self) -> str:
        engine = Engine(self.docker_engine_conn_id, self.address)
        try:
            return str((await engine.ask("GET", "/version"))["Version"])
        finally:
            await engine.close()


def _connection(conn_id: str) -> Connection:
    try:
        return BaseHook.get_connection(conn_id)
    except AirflowNotFoundException:
        raise ConfigurationError(
            f"connection {conn_id!r} does not exist; add it under Admin, Connections, or with "
            f"`airflow connections add {conn_id} --conn-type docker_engine --conn-host unix:///…`"
        ) from None


def _url(connection: Connection, *, over_ssh: bool) -> str:
    """The engine's URL; the parts of one where the connection was given as a URI."""
    host = str(connection.host or "")
    if not host or (over_ssh and "://" not in host):
        return DEFAULT_URL
    if "://" not in host:
        host = f"tcp://{host}"
    port = f":{connection.port}" if connection.port and host.startswith("tcp://") else ""
    return f"{host}{port}"


def _seconds(conn_id: str, extra: Mapping[str, Any], name: str, default_seconds: float) -> timedelta:
    try:
        seconds = float(extra.get(name) or default_seconds)
    except (TypeError, ValueError):
        seconds = 0
    if seconds <= 0:
        raise ConfigurationError(f"{name} of {conn_id} is {extra.get(name)!r}; give seconds above 0")
    return timedelta(seconds=seconds)
