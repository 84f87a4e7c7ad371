"""What the operators of a fleet share: their arguments, their model's asset, and how a fleet is moved."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar, cast

from airflow.sdk import Asset, BaseOperator

from hybrid_provider.exceptions import ConfigurationError
from hybrid_provider.fleet.assets import SCHEME, model_asset
from hybrid_provider.fleet.state import FleetState
from hybrid_provider.hooks.fleet import fleet_of
from hybrid_provider.names import checked_name, is_name
from hybrid_provider.operators._literal import literal
from hybrid_provider.rollout.policy import RolloutPolicy
from hybrid_provider.rollout.probe_settings import probe_of
from hybrid_provider.targets.target import Placement

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from airflow.sdk import Context

    from hybrid_provider.fleet.rows import Kind
    from hybrid_provider.operators._rollout_state import RolloutMemory
    from hybrid_provider.rollout.operation import Operation
    from hybrid_provider.rollout.probe import Probe
    from hybrid_provider.rollout.result import RolloutResult
    from hybrid_provider.targets.target import Target

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """A fleet, and how it moves."""

    model: str
    targets: tuple[Target, ...]
    policy: RolloutPolicy
    probe: Probe

    def state(
        self,
        context: Context,
        *,
        kind: Kind,
        memory: RolloutMemory,
        release: str | None = None,
        digest: str | None = None,
    ) -> FleetState:
        """The rows of a rollout of this fleet."""
        return FleetState(
            context,
            kind=kind,
            rollout=memory.rollout,
            model=self.model,
            release=release,
            digest=digest,
            groups={target.name: target.group for target in self.targets},
            max_failures=self.policy.max_failures,
            continues=None if memory.first else memory.began,
        )

    @staticmethod
    def moved(operation: Operation, state: FleetState) -> RolloutResult:
        """The fleet moves, and its rows follow."""
        state.planned(operation.waves)
        with state:
            result = asyncio.run(operation.run())
            state.ended(result)
        return result


class FleetOperator(BaseOperator):
    """An operator of one model's fleet, whose state it writes.

    ``hybrid://model/<model_name>`` becomes an outlet of the task by itself, or an inlet where the task's
    success is no news for those who wait for the model: both give it the asset's state, and only an outlet
    makes an event.

    Args:
        model_name: The model; known where the DAG is parsed, as Airflow registers assets there.
        targets: See :func:`~hybrid_provider.hooks.fleet.fleet_of`. Templated.
        policy: A :class:`~hybrid_provider.rollout.policy.RolloutPolicy` or a mapping of its settings.
            Templated.
        probe: See :func:`~hybrid_provider.rollout.probe_settings.probe_of`. Templated.
        base_folder: On the targets. Templated.
        reload_command: Shell text, run on each target after each switch. Templated.
        announces: Whether the asset is an outlet.
        kwargs: Of ``BaseOperator``.
    """

    template_fields: Sequence[str] = ("targets", "policy", "probe", "base_folder", "reload_command")

    def __init__(
        self,
        *,
        model_name: str,
        targets: object,
        policy: object = None,
        probe: object = None,
        base_folder: str | None = None,
        reload_command: str | None = None,
        announces: bool = True,
        **kwargs: Any,  # noqa: ANN401 - BaseOperator's own arguments
    ) -> None:
        super().__init__(**with_asset(kwargs, model_name, announces=announces))
        self.model_name = model_name
        self.targets = targets
        self.policy = policy
        self.probe = probe
        self.base_folder = base_folder
        self.reload_command = reload_command
        self.announces = announces

    @classmethod
    def partial(cls, **kwargs: Any) -> Any:  # noqa: ANN401 - BaseOperator's own
        """As of ``BaseOperator``: a mapped task has its assets from here, not from ``__init__``."""
        announces = kwargs.get("stop_after") is None
        return super().partial(**with_asset(kwargs, kwargs.get("model_name"), announces=announces))

    def _fleet(self, on_breach: str | None = None) -> Fleet:
        """The arguments, read.

        Raises:
            ConfigurationError: All that is wrong with them, in one message.
        """
        checked_name("model", self.model_name)
        faults: list[ConfigurationError] = []
        policy = _read(lambda: _policy(self.policy, on_breach), faults)
        probe = _read(lambda: probe_of(literal("probe", self.probe)), faults)
        placement = Placement(base_folder=self.base_folder, reload_command=self.reload_command)
        targets = _read(
            lambda: tuple(spec.open(placement) for spec in fleet_of(literal("targets", self.targets))), faults
        )
        if policy is None or probe is None or targets is None:
            raise faults[0] if len(faults) == 1 else ConfigurationError("\n".join(map(str, faults)))
        return Fleet(model=self.model_name, targets=targets, policy=policy, probe=probe)


def _read(read: Callable[[], T], faults: list[ConfigurationError]) -> T | None:
    try:
        return read()
    except ConfigurationError as fault:
        faults.append(fault)
        return None


def _policy(given: object, on_breach: str | None) -> RolloutPolicy:
    policy = RolloutPolicy.of(cast("Mapping[str, object] | None", literal("policy", given)))
    if on_breach is None:
        return policy
    return replace(policy, on_breach=RolloutPolicy.of({"on_breach": on_breach}).on_breach)


def with_asset(kwargs: Mapping[str, Any], model_name: object, *, announces: bool) -> dict[str, Any]:
    """An operator's arguments with its model as an outlet or inlet; other models' outlets are not its own.

    A task that is mapped over models is given all of them in ``partial(outlets=…)``, so that Airflow knows
    them; each instance keeps the one it deploys.
    """
    if not isinstance(model_name, str) or not is_name(model_name):
        return dict(kwargs)
    asset = model_asset(model_name)
    outlets = [
        outlet for outlet in _listed(kwargs.get("outlets")) if not _is_model(outlet) or outlet == asset
    ]
    inlets = _listed(kwargs.get("inlets"))
    mine = outlets if announces else inlets
    if asset not in outlets and asset not in mine:
        mine.append(asset)
    return {**kwargs, "outlets": outlets, "inlets": inlets}


def _listed(assets: object) -> list[object]:
    if assets is None:
        return []
    return list(cast("Sequence[object]", assets)) if isinstance(assets, list | tuple | set) else [assets]


def _is_model(outlet: object) -> bool:
    return isinstance(outlet, Asset) and outlet.uri.startswith(f"{SCHEME}://")
