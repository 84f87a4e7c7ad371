"""Ansible's inventories: YAML files, and the JSON of ``ansible-inventory --list``.

Of a host's variables these are read: ``ansible_host``, ``ansible_port``, ``ansible_user``,
``ansible_ssh_private_key_file`` and ``ansible_connection`` (``ssh`` or ``local``); and of ours
``hybrid_base_folder``, ``hybrid_reload_command``, ``hybrid_probe_url``, ``hybrid_group``,
``hybrid_host_key``, ``hybrid_known_hosts``, ``hybrid_jump`` and ``hybrid_proxy_command``. A variable of a
host goes before its groups', and a child group's before its parent's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from hybrid_provider.exceptions import ConfigurationError

_SETTINGS: Final[Mapping[str, tuple[str, ...]]] = {
    "host": ("ansible_host", "ansible_ssh_host"),
    "port": ("ansible_port", "ansible_ssh_port"),
    "user": ("ansible_user", "ansible_ssh_user"),
    "key_file": ("ansible_ssh_private_key_file", "ansible_private_key_file"),
    "base_folder": ("hybrid_base_folder",),
    "reload_command": ("hybrid_reload_command",),
    "probe_url": ("hybrid_probe_url",),
    "group": ("hybrid_group",),
    "host_key": ("hybrid_host_key",),
    "known_hosts": ("hybrid_known_hosts",),
    "jump": ("hybrid_jump",),
    "proxy_command": ("hybrid_proxy_command",),
}
_CONNECTIONS: Final = {
    "ssh": "ssh",
    "smart": "ssh",
    "paramiko": "ssh",
    "paramiko_ssh": "ssh",
    "local": "local",
}
_ARGUMENTS: Final = ("ansible_ssh_common_args", "ansible_ssh_extra_args", "ansible_ssh_args")
_RANGE: Final = re.compile(r"\[([0-9]+|[a-zA-Z]):([0-9]+|[a-zA-Z])(?::([0-9]+))?\]")
_ALL: Final = "all"


def load_yaml(text: str) -> object:
    """What a YAML file holds; values that are encrypted or marked unsafe are their text.

    Raises:
        ValueError: It is no YAML; says where.
    """
    import yaml

    class Loader(yaml.SafeLoader):
        """Knows Ansible's tags."""

    def as_text(loader: yaml.SafeLoader, node: yaml.Node) -> object:
        return loader.construct_scalar(node) if isinstance(node, yaml.ScalarNode) else None

    for tag in ("!vault", "!unsafe"):
        Loader.add_constructor(tag, as_text)
    try:
        return yaml.load(text, Loader)  # noqa: S506 - it is a SafeLoader
    except yaml.YAMLError as error:
        raise ValueError(f"no YAML: {error}") from None


def targets_of(inventory: Mapping[str, Any], source: str, group: str | None) -> dict[str, dict[str, Any]]:
    """The settings of each host of a group, in the inventory's order; of all hosts where it is None.

    Raises:
        ConfigurationError: There is no such group or host, or variables that cannot be followed; all faults.
    """
    groups = _from_list(inventory) if "_meta" in inventory else _from_tree(inventory)
    wanted = group or _ALL
    if wanted not in groups:
        known = ", ".join(sorted(groups.keys() - {_ALL, "ungrouped"})) or "none"
        raise ConfigurationError(f"{source}: there is no group {wanted!r}; there are {known}")
    hosts = _hosts(groups, wanted, ())
    if not hosts:
        raise ConfigurationError(f"{source}: group {wanted!r} has no hosts")
    hostvars = _variables(groups)
    faults: list[str] = []
    settings = {}
    for host in hosts:
        variables = hostvars.get(host, {})
        faults += [f"{source}: {host}: {fault}" for fault in _faults(variables)]
        settings[host] = _settings(variables)
    if faults:
        raise ConfigurationError("\n".join(faults))
    return settings


class _Group:
    """One group: its hosts with their own variables there, its variables, and its children."""

    def __init__(self) -> None:
        self.hosts: dict[str, dict[str, Any]] = {}
        self.variables: dict[str, Any] = {}
        self.children: list[str] = []


def _from_list(inventory: Mapping[str, Any]) -> dict[str, _Group]:
    """The form of ``--list``: groups by name, and the variables of hosts in ``_meta``."""
    hostvars = _mapping(_mapping(inventory["_meta"]).get("hostvars"))
    groups: dict[str, _Group] = {_ALL: _Group()}
    for name, given in inventory.items():
        if name == "_meta":
            continue
        group = groups.setdefault(name, _Group())
        content = {"hosts": given} if isinstance(given, list) else _mapping(given)
        group.hosts = {str(host): _mapping(hostvars.get(host)) for host in content.get("hosts") or ()}
        group.variables = _mapping(content.get("vars"))
        group.children = [str(child) for child in content.get("children") or ()]
    if not groups[_ALL].children and not groups[_ALL].hosts:
        groups[_ALL].children = [name for name in groups if name != _ALL]
    return groups


def _from_tree(inventory: Mapping[str, Any]) -> dict[str, _Group]:
    """The form of YAML files: groups within groups."""
    groups: dict[str, _Group] = {_ALL: _Group()}

    def read(name: str, given: object) -> None:
        content = _mapping(given)
        group = groups.setdefault(name, _Group())
        for pattern, variables in _mapping(content.get("hosts")).items():
            for host in expanded(str(pattern)):
                group.hosts.setdefault(host, {}).update(_mapping(variables))
        group.variables.update(_mapping(content.get("vars")))
        for child, inner in _mapping(content.get("children")).items():
            group.children.append(str(child))
            read(str(child), inner)

    for name, given in inventory.items():
        read(str(name), given)
        if name != _ALL:
            groups[_ALL].children.append(str(name))
    return groups


def expanded(pattern: str) -> list[str]:
    """The hosts of a pattern such as ``edge[01:12].site``."""
    found = _RANGE.search(pattern)
    if found is None:
        return [pattern]
    first, last, step = found[1], found[2], int(found[3] or 1)
    if first.isdigit():
        items = [str(number).zfill(len(first)) for number in range(int(first), int(last) + 1, step)]
    else:
        items = [chr(code) for code in range(ord(first), ord(last) + 1, step)]
    before, after = pattern[: found.start()], pattern[found.end() :]
    return [host for item in items for host in expanded(f"{before}{item}{after}")]


def _hosts(groups: Mapping[str, _Group], name: str, above: tuple[str, ...]) -> dict[str, None]:
    """The hosts of a group and of those below it, each once."""
    found: dict[str, None] = {}
    group = groups.get(name)
    if group is None or name in above:
        return found
    found.update(dict.fromkeys(group.hosts))
    for child in group.children:
        found.update(_hosts(groups, child, (*above, name)))
    return found


def _variables(groups: Mapping[str, _Group]) -> dict[str, dict[str, Any]]:
    """Each host's variables: of its groups, from the top down, and over them its own."""
    inherited: dict[str, dict[str, Any]] = {}
    own: dict[str, dict[str, Any]] = {}

    def walk(name: str, variables: Mapping[str, Any], above: tuple[str, ...]) -> None:
        group = groups.get(name)
        if group is None or name in above:
            return
        merged = {**variables, **group.variables}
        for host, given in group.hosts.items():
            inherited.setdefault(host, {}).update(merged)
            own.setdefault(host, {}).update(given)
        for child in group.children:
            walk(child, merged, (*above, name))

    walk(_ALL, {}, ())
    return {host: {**inherited[host], **own[host]} for host in own}


def _settings(variables: Mapping[str, Any]) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    for name, sources in _SETTINGS.items():
        for source in sources:
            if variables.get(source) is not None:
                settings.setdefault(name, variables[source])
    if isinstance(settings.get("port"), str) and settings["port"].isdigit():
        settings["port"] = int(settings["port"])
    if variables.get("ansible_connection") == "local":
        return {"kind": "local"} | {
            name: settings[name]
            for name in settings
            if name in {"base_folder", "reload_command", "probe_url", "group"}
        }
    return settings


def _faults(variables: Mapping[str, Any]) -> list[str]:
    """What cannot be followed, and must not be passed over."""
    faults = []
    connection = str(variables.get("ansible_connection", "ssh"))
    if connection not in _CONNECTIONS:
        faults.append(f"ansible_connection {connection!r}: there are ssh and local")
    for name in _ARGUMENTS:
        arguments = str(variables.get(name) or "")
        if "StrictHostKeyChecking=no" in arguments.replace(" ", "") or "/dev/null" in arguments:
            faults.append(f"{name} switches off the check of the host's key; take that out")
        if "ProxyJump" in arguments or "ProxyCommand" in arguments or "-J" in arguments.split():
            faults.append(
                f"{name} has a jump host, and is not read; give it as hybrid_jump or hybrid_proxy_command"
            )
    faults += [
        f"{source} is a template of Ansible's; `ansible-inventory --list` may resolve it"
        for sources in _SETTINGS.values()
        for source in sources
        if "{{" in str(variables.get(source, ""))
    ]
    return faults


def _mapping(value: object) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise ConfigurationError(f"inventory: {str(value)[:60]!r} stands where a mapping is expected")
    return {str(key): inner for key, inner in value.items()}
