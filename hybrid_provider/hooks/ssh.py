"""The ``ssh`` connections of the ssh provider as targets, with further extras of ours.

``jump_conn_id`` is the ``ssh`` connection of the host over which this one is reached.
The fields of :class:`~hybrid_provider.targets.target.Placement`, such as ``base_folder``, ``reload_command``
and ``group``, go before the operator's arguments of the same names.
"""

from __future__ import annotations

import getpass
from dataclasses import fields
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseHook
from airflow.sdk.exceptions import AirflowNotFoundException

from hybrid_provider.exceptions import ConfigurationError
from hybrid_provider.names import checked_name
from hybrid_provider.rollout.probe_checks import checked_url
from hybrid_provider.targets.known_hosts import key_lines, known_keys
from hybrid_provider.targets.shell import checked_folder
from hybrid_provider.targets.ssh import SshAddress, SshTarget
from hybrid_provider.targets.target import Placement

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow.sdk import Connection

_SSH_PORT = 22


def ssh_target(conn_id: str) -> SshTarget:
    """The host of an ``ssh`` connection, as a target of the connection's name.

    Raises:
        InvalidName: The connection's id or host is outside the grammar.
        ConfigurationError: There is no such connection, it switches off the check of the host's key, no key
            is known for the host, or its jump hosts lead in a circle.
    """
    checked_name("target", conn_id)
    connection = _connection(conn_id)
    extra = connection.extra_dejson
    return SshTarget(name=conn_id, address=_address(conn_id, connection, ()), placement=_placement(extra))


def _connection(conn_id: str) -> Connection:
    try:
        connection = BaseHook.get_connection(conn_id)
    except AirflowNotFoundException:
        raise ConfigurationError(
            f"ssh connection {conn_id!r} does not exist; add it under Admin, Connections, or with "
            f"`airflow connections add {conn_id} --conn-type ssh --conn-host … --conn-login …`"
        ) from None
    if not connection.host:
        raise ConfigurationError(f"ssh connection {conn_id!r} names no host; fill in its host")
    return connection


def _address(conn_id: str, connection: Connection, behind: tuple[str, ...]) -> SshAddress:
    """The address of a connection, over which those in ``behind`` are reached."""
    extra = connection.extra_dejson
    host, port = str(connection.host), connection.port or _SSH_PORT
    if extra.get("key_file") and extra.get("private_key"):
        raise ConfigurationError(f"ssh connection {conn_id!r} has key_file and private_key; give one of them")
    return SshAddress(
        host=host,
        port=port,
        user=connection.login or getpass.getuser(),
        host_keys=_host_keys(conn_id, host, port, extra),
        key_file=Path(extra["key_file"]).expanduser() if extra.get("key_file") else None,
        private_key=extra.get("private_key"),
        passphrase=extra.get("private_key_passphrase"),
        password=connection.password,
        jump=_jump(conn_id, extra, (*behind, conn_id)),
        proxy_command=str(extra["host_proxy_cmd"]) if extra.get("host_proxy_cmd") else None,
        connect_timeout=_duration(conn_id, extra, "conn_timeout", 10),
        command_timeout=_duration(conn_id, extra, "cmd_timeout", 60),
    )


def _jump(conn_id: str, extra: Mapping[str, Any], behind: tuple[str, ...]) -> SshAddress | None:
    jump_conn_id = str(extra.get("jump_conn_id") or "")
    if not jump_conn_id:
        return None
    if jump_conn_id in behind:
        raise ConfigurationError(
            f"ssh connection {conn_id!r}: its jump hosts lead in a circle, "
            f"{' over '.join((*behind, jump_conn_id))}"
        )
    checked_name("target", jump_conn_id)
    return _address(jump_conn_id, _connection(jump_conn_id), behind)


def _placement(extra: Mapping[str, Any]) -> Placement:
    given = {field.name: str(extra[field.name]) for field in fields(Placement) if extra.get(field.name)}
    if "base_folder" in given:
        checked_folder(given["base_folder"])
    if "probe_url" in given:
        checked_url(given["probe_url"])
    return Placement(**given)


def _host_keys(conn_id: str, host: str, port: int, extra: Mapping[str, Any]) -> tuple[str, ...]:
    """The connection's host key, else what a known_hosts file has."""
    for switch in ("no_host_key_check", "ignore_hostkey_verification", "allow_host_key_change"):
        if str(extra.get(switch, "false")).lower() == "true":
            raise ConfigurationError(
                f"ssh connection {conn_id!r} sets {switch}, and a model is not sent to a host that nobody "
                f"can tell from another; take {switch} out and give host_key"
            )
    if extra.get("host_key"):
        return tuple(key_lines(str(extra["host_key"])))
    file = Path(extra.get("known_hosts") or "~/.ssh/known_hosts").expanduser()
    keys = known_keys(file, host, port)
    if not keys:
        raise ConfigurationError(
            f"ssh connection {conn_id!r} has no host_key, and {file} knows none for {host} port {port}; read "
            f"it with `ssh-keyscan -p {port} -t ed25519 {host}`, compare it with the host's own, and put it "
            "into the connection's extra as host_key"
        )
    return keys


def _duration(conn_id: str, extra: Mapping[str, Any], name: str, default_seconds: float) -> timedelta:
    try:
        seconds = float(extra.get(name) or default_seconds)
    except (TypeError, ValueError):
        seconds = 0
    if seconds <= 0:
        raise ConfigurationError(
            f"ssh connection {conn_id!r}: {name} is {extra.get(name)!r}; give seconds above 0"
        )
    return timedelta(seconds=seconds)
