"""A probe from what a DAG, a template or a YAML file gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any, cast

from hybrid_provider.exceptions import ConfigurationError
from hybrid_provider.rollout.golden import GoldenProbe
from hybrid_provider.rollout.probe import AllProbes, CommandProbe, HttpProbe, TcpProbe

if TYPE_CHECKING:
    from hybrid_provider.artifacts.release import Release
    from hybrid_provider.rollout.probe import Probe

_KINDS: dict[str, type] = {"http": HttpProbe, "command": CommandProbe, "tcp": TcpProbe, "golden": GoldenProbe}


def probe_of(given: object) -> Probe:
    """A probe from itself, None for the default, a mapping, or a list of them, all of which must pass.

    A mapping is ``{"kind": "http", "port": 8080}`` with the arguments of :class:`HttpProbe`,
    :class:`CommandProbe`, :class:`TcpProbe` or :class:`GoldenProbe` for the kinds ``http``, which is the
    default, ``command``, ``tcp`` and ``golden``.

    Raises:
        ConfigurationError: It is none of these; says which settings there are.
    """
    if given is None:
        return HttpProbe()
    if isinstance(given, list | tuple):
        return AllProbes(tuple(map(probe_of, given)))
    if isinstance(given, Mapping):
        return _from_settings(given)
    if isinstance(given, str) or not hasattr(given, "check"):
        raise ConfigurationError(
            f"probe is {given!r}; give a probe, a mapping such as {{'kind': 'http', 'port': 8080}}, or a list"
        )
    return cast("Probe", given)


def bound(probe: Probe, release: Release) -> Probe:
    """The probe with what it needs of the release that is deployed.

    Raises:
        ConfigurationError: The release lacks it.
    """
    if isinstance(probe, GoldenProbe):
        return probe.bound(release)
    if isinstance(probe, AllProbes):
        return AllProbes(tuple(bound(one, release) for one in probe.probes))
    return probe


def _from_settings(given: Mapping[str, Any]) -> Probe:
    settings = dict(given)
    kind = settings.pop("kind", "http")
    if kind not in _KINDS:
        raise ConfigurationError(f"probe kind {kind!r}: there are {', '.join(_KINDS)}")
    names = {field.name for field in fields(_KINDS[kind])} - {"cases"}
    if unknown := sorted(map(str, settings.keys() - names)):
        raise ConfigurationError(
            f"{kind} probe: no setting is called {', '.join(unknown)}; there are {', '.join(sorted(names))}"
        )
    if kind == "golden" and isinstance(settings.get("ping"), Mapping):
        settings["ping"] = _from_settings({**settings["ping"], "kind": "http"})
    try:
        return cast("Probe", _KINDS[kind](**settings))
    except (TypeError, AttributeError) as error:
        raise ConfigurationError(f"{kind} probe: {error}") from None
