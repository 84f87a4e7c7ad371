"""The fleet, the store and the rollout that a command line names."""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

from hybrid_provider.artifacts.command_line import STORE_VARIABLE
from hybrid_provider.artifacts.store import ReleaseStore
from hybrid_provider.exceptions import ConfigurationError
from hybrid_provider.names import checked_name
from hybrid_provider.rollout.policy import OnBreach, RolloutPolicy
from hybrid_provider.rollout.probe_settings import probe_of
from hybrid_provider.targets.ansible import load_yaml
from hybrid_provider.targets.inventory import SUFFIXES, read_inventory
from hybrid_provider.targets.target import Placement

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping

    from hybrid_provider.rollout.probe import Probe
    from hybrid_provider.targets.target import Target, TargetSpec

_DATE: Final = "%Y%m%dT%H%M%SZ"
_ROLLOUT: Final = re.compile(r"by-hand-(\d{8}T\d{6}Z)-[0-9a-f]{8}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """A fleet, and how it moves; ``probe`` is None where nothing is to be asked."""

    model: str
    specs: tuple[TargetSpec, ...]
    placement: Placement
    policy: RolloutPolicy
    probe: Probe | None

    def opened(self) -> tuple[Target, ...]:
        """The targets, each to be closed by whoever uses it."""
        return tuple(spec.open(self.placement) for spec in self.specs)

    def only(self, names: list[str]) -> Fleet:
        """The targets of these names.

        Raises:
            ConfigurationError: One is not in the fleet.
        """
        if unknown := sorted(set(names) - {spec.name for spec in self.specs}):
            raise ConfigurationError(f"not in the fleet: {', '.join(unknown)}")
        return replace(self, specs=tuple(spec for spec in self.specs if spec.name in names))

    @property
    def proof(self) -> Probe:
        """What proves a switch.

        Raises:
            ConfigurationError: Nothing is to be asked, and so nothing would be proved.
        """
        if self.probe is None:
            raise ConfigurationError("probe is none; what is switched must be proved by one")
        return self.probe


def fleet_of(asked: argparse.Namespace) -> Fleet:
    """The fleet.

    Raises:
        ConfigurationError: What is wrong with the arguments.
    """
    given = vars(asked)
    policy = RolloutPolicy.of(cast("Mapping[str, object] | None", _value("policy", asked.policy)))
    if given.get("on_breach"):
        policy = replace(policy, on_breach=OnBreach(asked.on_breach))
    probe = _value("probe", given.get("probe"))
    return Fleet(
        model=_model(asked),
        specs=tuple(read_inventory(asked.inventory, asked.group, serving=_value("serving", asked.serving))),
        placement=Placement(base_folder=asked.base_folder, reload_command=given.get("reload_command")),
        policy=policy,
        probe=None if probe == "none" else probe_of(probe),
    )


def store_of(asked: argparse.Namespace) -> ReleaseStore:
    """The store of releases.

    Raises:
        ConfigurationError: None is named.
    """
    if asked.store is None:
        raise ConfigurationError(f"no store: give --store, or set {STORE_VARIABLE}")
    return ReleaseStore(Path(asked.store))


def rollout_of(asked: argparse.Namespace) -> tuple[str, timedelta]:
    """The id of the rollout, and how long ago it began; its id says so.

    Raises:
        ConfigurationError: It is none that a command of ours had printed.
    """
    now = datetime.now(UTC)
    if asked.rollout is None:
        return f"by-hand-{now.strftime(_DATE)}-{secrets.token_hex(4)}", timedelta(0)
    if not (found := _ROLLOUT.fullmatch(asked.rollout)):
        raise ConfigurationError(
            f"rollout {asked.rollout!r}: give the id that the interrupted command printed, such as "
            "by-hand-20261124T031500Z-0a1b2c3d"
        )
    began = datetime.strptime(found[1], _DATE).replace(tzinfo=UTC)
    return asked.rollout, max(now - began, timedelta(seconds=1))


def _model(asked: argparse.Namespace) -> str:
    if asked.model is not None:
        return checked_name("model", asked.model)
    store = store_of(asked)
    models = store.models()
    if len(models) == 1:
        return models[0]
    if models:
        raise ConfigurationError(f"{store.root} has the models {', '.join(models)}; give --model")
    raise ConfigurationError(f"{store.root} has no model; name the store by --store, or the model by --model")


def _value(what: str, given: str | None) -> object:
    """What an argument, or the file that it names, holds."""
    if given is None:
        return None
    try:
        text = Path(given).expanduser().read_text(encoding="utf-8") if given.endswith(SUFFIXES) else given
        return load_yaml(text)
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{what} {given!r}: {error}") from None
