"""Fleets in files: our own YAML, and inventories of Ansible.

::

    defaults:                                  # of every target, each with its own value
      user: models
      key_file: ~/.ssh/id_ed25519
      reload_command: systemctl --user reload digits
    targets:
      edge-01: {host: 10.0.0.11, group: rack-1}
      edge-02: {host: 10.0.0.12, group: rack-2, host_key: ssh-ed25519 AAAA…}
      edge-03:                                 # behind another host, which has a key of its own
        host: 10.1.0.13
        jump: {host: bastion.example, user: hop, host_key: ssh-ed25519 AAAA…}
      here: {kind: local}
      gpu-01:                                  # a Docker Engine; with a host, its socket over SSH
        kind: docker
        url: tcp://10.0.0.21:2376              # with ca_cert, client_cert and client_key
        serving: {image: "registry.example/server@sha256:…", port: 8080}

A host's key is its ``host_key``, or what its ``known_hosts`` file has; ``~/.ssh/known_hosts`` where none is
named. A host whose key is not known is a fault, and all faults of a file are in one message.
"""

from __future__ import annotations

import getpass
import json
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from hybrid_provider.exceptions import ConfigurationError
from hybrid_provider.targets import ansible
from hybrid_provider.targets.known_hosts import key_lines, known_keys
from hybrid_provider.targets.local import LocalTarget
from hybrid_provider.targets.shell import checked_folder
from hybrid_provider.targets.ssh import SshAddress, SshTarget
from hybrid_provider.targets.target import Placement

if TYPE_CHECKING:
    from hybrid_provider.targets.target import TargetSpec

SUFFIXES: Final = (".yml", ".yaml", ".json")
KNOWN_HOSTS: Final = "~/.ssh/known_hosts"
_SSH_PORT: Final = 22
_PLACEMENT: Final = frozenset({"base_folder", "reload_command", "probe_url", "group"})
_TIMEOUTS: Final = frozenset({"connect_timeout", "command_timeout"})
_LOGIN: Final = frozenset({"host", "port", "user", "key_file", "host_key", "known_hosts"}) | _TIMEOUTS
_SSH: Final = _LOGIN | {"jump", "proxy_command"}
_TLS: Final = frozenset({"ca_cert", "client_cert", "client_key"})
_KINDS: Final[Mapping[str, frozenset[str]]] = {
    "ssh": _PLACEMENT | _SSH,
    "local": _PLACEMENT | {"home"},
    "docker": _SSH | _TLS | {"url", "serving", "probe_host", "probe_url", "group"},
}


def read_inventory(
    source: str | Path | Mapping[str, Any], group: str | None = None, *, serving: object = None
) -> list[TargetSpec]:
    """The targets of an inventory, in its order.

    Args:
        source: A file, or what one holds: our own form, or Ansible's as YAML or as the JSON of
            ``ansible-inventory --list``.
        group: Only the targets of this group; all where None.
        serving: Of Docker Engines, where the inventory does not say.

    Raises:
        ConfigurationError: Everything that is wrong with it, in one message.
    """
    name, content = _content(source)
    if not isinstance(content, Mapping):
        raise ConfigurationError(
            f"{name}: no inventory; it holds 'targets', or is one of Ansible in YAML or JSON. For another "
            "form of Ansible's, `ansible-inventory -i … --list > inventory.json` writes JSON"
        )
    if "targets" in content:
        settings = _own(name, content, group)
    else:
        settings = ansible.targets_of(content, name, group)
    specs: list[TargetSpec] = []
    faults: list[str] = []
    for target, given in settings.items():
        try:
            specs.append(target_of(target, given, serving))
        except ConfigurationError as fault:
            faults.append(f"{name}: {target}: {fault}")
    if faults:
        raise ConfigurationError("\n".join(faults))
    return specs


def target_of(name: str, given: Mapping[str, Any], serving: object = None) -> TargetSpec:
    """One target from its settings.

    Raises:
        ConfigurationError: What is wrong with them.
    """
    settings = {key: value for key, value in given.items() if value is not None}
    kind = settings.pop("kind", "ssh")
    if kind not in _KINDS:
        raise ConfigurationError(f"kind {kind!r}: there are {', '.join(_KINDS)}")
    if unknown := sorted(map(str, settings.keys() - _KINDS[kind])):
        raise ConfigurationError(
            f"no setting is called {', '.join(unknown)}; there are kind, {', '.join(sorted(_KINDS[kind]))}"
        )
    if kind == "local":
        home = Path(str(settings.get("home", "~"))).expanduser()
        return LocalTarget(name=name, home=home, placement=_placement(settings))
    if kind == "docker":
        return _engine(name, settings, serving)
    return SshTarget(name=name, address=_address(name, settings), placement=_placement(settings))


def _engine(name: str, settings: Mapping[str, Any], fleet_serving: object) -> TargetSpec:
    from hybrid_provider.targets.docker import DockerTarget, EngineAddress, EngineTls, Serving
    from hybrid_provider.targets.docker.address import DEFAULT_URL
    from hybrid_provider.targets.docker.serving import merged

    serving = merged(fleet_serving, settings.get("serving"))
    if serving is None:
        raise ConfigurationError("it has no serving; give one, such as {image: registry.example/server}")
    files = {key: Path(str(settings[key])).expanduser() for key in _TLS & settings.keys()}
    address = EngineAddress(
        url=str(settings.get("url", DEFAULT_URL)),
        tls=EngineTls(**files) if len(files) == len(_TLS) else None,
        ssh=_address(name, settings) if "host" in settings else None,
        **_timeouts(settings),
    )
    return DockerTarget(
        name=name,
        serving=Serving.of(serving),
        address=address,
        host=settings.get("probe_host"),
        placement=_placement(settings),
    )


def _address(name: str, settings: Mapping[str, Any]) -> SshAddress:
    host, port = str(settings.get("host", name)), settings.get("port", _SSH_PORT)
    if not isinstance(port, int):
        raise ConfigurationError(f"port {port!r}: give a number")
    known_hosts = Path(str(settings.get("known_hosts", KNOWN_HOSTS))).expanduser()
    if settings.get("host_key"):
        keys = tuple(key_lines(str(settings["host_key"])))
    else:
        keys = known_keys(known_hosts, host, port)
    if not keys:
        raise ConfigurationError(
            f"{known_hosts} knows no key for {host} port {port}, and there is no host_key; read it with "
            f"`ssh-keyscan -p {port} -t ed25519 {host}` and compare it with the host's own"
        )
    key_file, command = settings.get("key_file"), settings.get("proxy_command")
    return SshAddress(
        host=host,
        port=port,
        user=str(settings.get("user") or getpass.getuser()),
        host_keys=keys,
        key_file=Path(str(key_file)).expanduser() if key_file else None,
        jump=_jump(settings["jump"]) if settings.get("jump") else None,
        proxy_command=str(command) if command else None,
        **_timeouts(settings),
    )


def _jump(given: object) -> SshAddress:
    if not isinstance(given, Mapping) or "host" not in given or given.keys() - _SSH:
        raise ConfigurationError(
            f"jump {given!r}: write {{host: …, user: …, host_key: …}}; there are {', '.join(sorted(_SSH))}"
        )
    return _address("jump", given)


def _timeouts(settings: Mapping[str, Any]) -> dict[str, Any]:
    found = {}
    for name in ("connect_timeout", "command_timeout"):
        seconds = settings.get(name)
        if seconds is None:
            continue
        if not isinstance(seconds, int | float) or isinstance(seconds, bool) or seconds <= 0:
            raise ConfigurationError(f"{name} {seconds!r}: give seconds above 0")
        found[name] = timedelta(seconds=seconds)
    return found


def _placement(settings: Mapping[str, Any]) -> Placement:
    # The probes are a layer above; what is no URL is found when it is asked.
    text = {key: str(settings[key]) for key in _PLACEMENT & settings.keys()}
    if "base_folder" in text:
        checked_folder(text["base_folder"])
    return Placement(**text)


def _own(name: str, content: Mapping[str, Any], group: str | None) -> dict[str, dict[str, Any]]:
    defaults, targets = content.get("defaults") or {}, content["targets"]
    if unknown := sorted(map(str, content.keys() - {"defaults", "targets"})):
        raise ConfigurationError(f"{name}: it holds defaults and targets, and no {', '.join(unknown)}")
    if not isinstance(defaults, Mapping) or not isinstance(targets, Mapping) or not targets:
        raise ConfigurationError(f"{name}: defaults is a mapping, and targets maps names to settings")
    settings = {
        str(target): _with_defaults(defaults, given if given is not None else {}, f"{name}: {target}")
        for target, given in targets.items()
    }
    chosen = {
        target: given for target, given in settings.items() if group is None or given.get("group") == group
    }
    if not chosen:
        groups = sorted({str(given["group"]) for given in settings.values() if given.get("group")})
        raise ConfigurationError(f"{name}: no target is in group {group!r}; there are {groups}")
    return chosen


def _with_defaults(defaults: Mapping[str, Any], given: object, where: str) -> dict[str, Any]:
    """A target's settings; of the defaults only those that its kind knows."""
    if not isinstance(given, Mapping):
        raise ConfigurationError(f"{where}: {given!r} are no settings; write {{host: …}}")
    kind = given.get("kind", defaults.get("kind", "ssh"))
    known = _KINDS.get(kind, frozenset()) | {"kind"}
    every = frozenset().union(*_KINDS.values())
    settings = {
        **{key: value for key, value in defaults.items() if key in known or key not in every},
        **given,
    }
    both = defaults.get("serving"), given.get("serving")
    if all(isinstance(serving, Mapping) for serving in both):
        settings["serving"] = {**defaults["serving"], **given["serving"]}
    return settings


def _content(source: str | Path | Mapping[str, Any]) -> tuple[str, object]:
    if isinstance(source, Mapping):
        return "inventory", source
    path = Path(source).expanduser()
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"inventory {path}: {getattr(error, 'strerror', None) or error}; the file must be where this runs"
        ) from None
    try:
        return str(path), json.loads(text) if path.suffix == ".json" else ansible.load_yaml(text)
    except ValueError as error:
        raise ConfigurationError(f"inventory {path}: {error}") from None
