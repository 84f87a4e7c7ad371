"""A fleet from what a DAG gives: connections, target objects, and inventories."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, cast

from airflow.sdk import BaseHook
from airflow.sdk.exceptions import AirflowNotFoundException

from hybrid_provider.exceptions import ConfigurationError, HybridError, InvalidName
from hybrid_provider.hooks.ssh import ssh_target
from hybrid_provider.names import checked_name
from hybrid_provider.targets.inventory import SUFFIXES, read_inventory

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from hybrid_provider.targets.target import TargetSpec

_INVENTORY_KEYS: Final = {"inventory", "group"}
# What an inventory has at its top: our own form's, and those of Ansible's two.
_CONTENT_KEYS: Final = {"targets", "all", "_meta"}


def fleet_of(given: object) -> list[TargetSpec]:
    """The fleet, in the order of its waves.

    Args:
        given: A list of ids of ``ssh`` or ``docker_engine`` connections, target objects, and inventories; or
            one of them. An inventory is a file's path, or ``{"inventory": path, "group": name}`` for one
            group of it, or its content as a mapping.

    Raises:
        InvalidName: Names are outside the grammar; all of them in one message.
        ConfigurationError: It is none of these, or connections are missing or not complete; likewise.
    """
    faults: list[HybridError] = []
    fleet: list[TargetSpec] = []
    for entry in _entries(given):
        try:
            fleet += _specs(entry)
        except ConfigurationError as fault:
            faults.append(fault)
    if len(faults) == 1:
        raise faults[0]
    if faults:
        kind = InvalidName if all(isinstance(fault, InvalidName) for fault in faults) else ConfigurationError
        raise kind("\n".join(map(str, faults)))
    return fleet


def _entries(given: object) -> Iterable[object]:
    if isinstance(given, list | tuple):
        return given
    if isinstance(given, Mapping) or _is_spec(given):
        return [given]
    if isinstance(given, str) and given and not re.search(r"[\s,]", given):
        return [given]
    raise ConfigurationError(
        f"targets is {given!r}; give a list of ssh or docker_engine connection ids, such as "
        "['edge_01', 'edge_02'], target objects, or an inventory's path"
    )


def _specs(entry: object) -> Iterator[TargetSpec]:
    if isinstance(entry, str):
        if entry.endswith(SUFFIXES):
            yield from read_inventory(entry)
        else:
            yield connected(entry)
    elif isinstance(entry, Mapping):
        yield from _from_mapping(entry)
    elif _is_spec(entry):
        yield cast("TargetSpec", entry)
    else:
        raise ConfigurationError(
            f"target {entry!r}: give the id of an ssh or docker_engine connection, a target object, or an "
            "inventory"
        )


def _from_mapping(entry: Mapping[str, Any]) -> list[TargetSpec]:
    if entry.keys() & _CONTENT_KEYS:
        return read_inventory(entry)
    if "inventory" not in entry or entry.keys() - _INVENTORY_KEYS:
        raise ConfigurationError(
            f"targets has {dict(entry)!r}; an inventory is {{'inventory': '/path/hosts.yml', "
            "'group': 'edge'}"
        )
    group = entry.get("group")
    return read_inventory(entry["inventory"], str(group) if group is not None else None)


def connected(conn_id: str) -> TargetSpec:
    """The target of a connection, an engine or a host by the connection's type.

    Raises:
        InvalidName: The id is outside the grammar.
        ConfigurationError: There is no such connection, or it is not complete.
    """
    checked_name("target", conn_id)
    try:
        kind = BaseHook.get_connection(conn_id).conn_type
    except AirflowNotFoundException:
        kind = "ssh"
    if kind == "docker_engine":
        raise ConfigurationError(f"docker_engine connection {conn_id!r}: engines are no targets yet")
    return ssh_target(conn_id)


def _is_spec(target: object) -> bool:
    return hasattr(target, "open") and hasattr(target, "name") and not isinstance(target, str)
