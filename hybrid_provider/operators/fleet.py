"""What the operators of a fleet share: their arguments, their model's asset, and how a fleet is moved."""

from __future__ import annotations

import asyncio
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from airflow.sdk import Asset, BaseOperator, conf

from hybrid_provider.artifacts.store import ReleaseStore
from hybrid_provider.exceptions import ConfigurationError
from hybrid_provider.fleet.assets import SCHEME, model_asset
from hybrid_provider.fleet.state import FleetState
from hybrid_provider.hooks.fleet import fleet_of
from hybrid_provider.names import checked_name, is_name
from hybrid_provider.operators._arguments import names
from hybrid_provider.operators._literal import literal
from hybrid_provider.rollout.policy import RolloutPolicy
from hybrid_provider.rollout.probe_settings import probe_of
from hybrid_provider.targets.target import Placement

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from os import PathLike

    from airflow.sdk import Context

    from hybrid_provider.fleet.rows import Kind
    from hybrid_provider.operators._rollout_state import RolloutMemory
    from hybrid_provider.rollout.activations import Activations
    from hybrid_provider.rollout.operation import Operation
    from hybrid_provider.rollout.preflight import Preflight
    from hybrid_provider.rollout.probe import Probe
    from hybrid_provider.rollout.result import JournalEntry, RolloutResult
    from hybrid_provider.targets.target import Target, TargetSpec

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
        digests: Mapping[str, str],
        release: str | None = None,
        approved_by: str | None = None,
    ) -> FleetState:
        """The rows of a rollout of this fleet."""
        return FleetState(
            context,
            kind=kind,
            rollout=memory.rollout,
            model=self.model,
            release=release,
            digests=digests,
            groups={target.name: target.group for target in self.targets},
            max_failures=self.policy.max_failures,
            continues=None if memory.first else memory.began,
            approved_by=approved_by,
        )


class FleetOperator(BaseOperator):
    """What the deploy, the rollback and the audit of a fleet have in common, their arguments first of all.

    The asset ``hybrid://model/<model_name>`` becomes an outlet of the task by itself, or an inlet where the
    task's success is no news for those who wait for the model: both give it the asset's state, which shows
    the fleet while it moves, and only an outlet makes an event, which carries the outcome.

    Mapped over target groups (``partial(…).expand(targets=[…])``) a task works on one queue, in no order. For
    a queue or an order for each site, make one task, or TaskGroup, per site in a loop. Mapped over models it
    is given the assets of all of them, ``partial(outlets=[model_asset(name), …])``; each instance tells of
    its own.

    What a connection or an inventory says of one target goes before the arguments.

    Args:
        model_name: The model; letters, digits, ``.``, ``_`` and ``-``. Known where the DAG is parsed, as
            Airflow registers assets there.
        targets: The fleet; the first targets are the canary. A list of ids of ``ssh`` or ``docker_engine``
            connections, of target objects such as :class:`~hybrid_provider.targets.local.LocalTarget`, and
            of inventories: a YAML or JSON file of ours or Ansible's, or ``{"inventory": path, "group":
            name}``. Templated.
        policy: A :class:`~hybrid_provider.rollout.policy.RolloutPolicy`, or a mapping of its settings with
            durations in seconds. Templated.
        probe: What proves that a target serves a release: a probe, a mapping such as ``{"kind": "http",
            "port": 8080}``, or a list of them; ``GET http://<host>:8080/ping`` where None. Templated.
        skip: Names of targets that are left alone. Templated.
        base_folder: On the targets, relative to HOME or absolute; ``models`` where None. Templated.
        reload_command: Shell text, run on each target after each switch. Templated.
        serving: How Docker Engines among the targets serve the model: a mapping such as ``{"image":
            "registry.example/server@sha256:…", "port": 8080}``, of the settings of
            :class:`~hybrid_provider.targets.docker.Serving`. Templated.
        store_root: The folder of releases; ``[hybrid] store_root`` where None. Templated.
        announces: Whether the asset is an outlet.
        kwargs: Of ``BaseOperator``.
    """

    # Whether a task reads the events of its model's asset, and whether its success is news of the model.
    reads_events = False
    is_news = True
    template_fields: Sequence[str] = (
        "targets",
        "policy",
        "probe",
        "skip",
        "base_folder",
        "reload_command",
        "serving",
        "store_root",
    )

    def __init__(
        self,
        *,
        model_name: str,
        targets: object,
        policy: object = None,
        probe: object = None,
        skip: object = (),
        base_folder: str | None = None,
        reload_command: str | None = None,
        serving: object = None,
        store_root: str | PathLike[str] | None = None,
        announces: bool = True,
        **kwargs: Any,  # noqa: ANN401 - BaseOperator's own arguments
    ) -> None:
        super().__init__(**with_asset(kwargs, model_name, announces=announces, reads=self.reads_events))
        self.model_name = model_name
        self.targets = targets
        self.policy = policy
        self.probe = probe
        self.skip = skip
        self.base_folder = base_folder
        self.reload_command = reload_command
        self.serving = serving
        self.store_root = store_root
        self.announces = announces
        self._moving: Operation | Preflight | None = None

    def on_kill(self) -> None:
        """Begin nothing more; the targets finish or go back by themselves."""
        if self._moving is not None:
            self._moving.abort()

    @classmethod
    def partial(cls, **kwargs: Any) -> Any:  # noqa: ANN401 - BaseOperator's own
        """As of ``BaseOperator``: a mapped task has its assets from here, not from ``__init__``.

        Raises:
            ConfigurationError: It is to be mapped over models, and has the asset of none.
        """
        _check_defaults(kwargs)
        made = super().partial(**kwargs)
        given = given_to(made)
        announces = cls.is_news and given.get("stop_after") is None
        where = "outlets" if announces else "inlets"
        told = any(map(_is_model, _listed(given.get(where))))
        if "model_name" in kwargs or ("model_name" in given and not told):
            model = given["model_name"]
            made.kwargs.update(with_asset(made.kwargs, model, announces=announces, reads=cls.reads_events))
        elif not told:
            # Airflow warns of what was never mapped, as if that were the fault.
            with warnings.catch_warnings(action="ignore"):
                del made
            raise ConfigurationError(_untold(kwargs.get("task_id"), where))
        return made

    def _fleet(self, on_breach: str | None = None) -> Fleet:
        """The arguments, read.

        Raises:
            ConfigurationError: All that is wrong with them, in one message.
        """
        checked_name("model", self.model_name)
        self._check_told()
        faults: list[ConfigurationError] = []
        policy = _read(lambda: _policy(self.policy, on_breach), faults)
        probe = _read(lambda: probe_of(literal("probe", self.probe)), faults)
        placement = Placement(base_folder=self.base_folder, reload_command=self.reload_command)
        targets = _read(lambda: tuple(spec.open(placement) for spec in self._specs()), faults)
        if policy is None or probe is None or targets is None:
            raise faults[0] if len(faults) == 1 else ConfigurationError("\n".join(map(str, faults)))
        return Fleet(model=self.model_name, targets=targets, policy=policy, probe=probe)

    def _check_told(self) -> None:
        """Of a task that is mapped over models, Airflow knows the assets that ``partial`` was given."""
        dag = self.get_dag()
        parsed = dag.task_dict.get(self.task_id, self) if dag else self
        if model_asset(self.model_name) not in [*parsed.outlets, *parsed.inlets]:
            where = "outlets" if self.announces else "inlets"
            raise ConfigurationError(f"of {self.model_name}: {_untold(self.task_id, where)}")

    def _specs(self) -> list[TargetSpec]:
        return fleet_of(literal("targets", self.targets), literal("serving", self.serving))

    def _skipped(self) -> tuple[str, ...]:
        return names("skip", self.skip)

    def _store(self) -> ReleaseStore:
        return ReleaseStore(Path(self.store_root or conf.get("hybrid", "store_root")))

    def _journal(self, evidence: Activations, state: FleetState) -> Callable[[JournalEntry], None]:
        """A rollout's journal: into the store's evidence, the log and the fleet's rows."""

        def journal(entry: JournalEntry) -> None:
            # First of all: nothing goes live without it.
            evidence(entry)
            self.log.info("%s", entry)
            state.entered(entry)

        return journal

    def _moved(self, operation: Operation, state: FleetState) -> RolloutResult:
        """The fleet moves, its rows follow, and a table of what became of it is in the log."""
        self._moving = operation
        state.planned(operation.waves)
        with state:
            result = asyncio.run(operation.run())
            state.ended(result)
        self.log.info(
            "%s %s in %.1f s\n%s", str(result.kind).capitalize(), result.state, result.seconds, result.table()
        )
        return result


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


def with_asset(
    kwargs: Mapping[str, Any], model_name: object, *, announces: bool, reads: bool = False
) -> dict[str, Any]:
    """An operator's arguments with its model as an outlet or inlet; other models' outlets are not its own.

    Who announces and reads the model's events has it as both.

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
    if reads and asset not in inlets:
        inlets.append(asset)
    return {**kwargs, "outlets": outlets, "inlets": inlets}


def given_to(made: Any) -> dict[str, Any]:  # noqa: ANN401 - Airflow's OperatorPartial
    """What a task that is to be mapped has from ``partial``, and from the defaults of its DAG and groups."""
    given: dict[str, Any] = {}
    for parent in (made.kwargs.get("dag"), made.kwargs.get("task_group")):
        given |= getattr(parent, "default_args", None) or {}
    return {**given, **made.kwargs}


def _check_defaults(kwargs: Mapping[str, Any]) -> None:
    """Where the task runs, Airflow has forgotten these, and would take another model from the DAG's."""
    if "model_name" in (kwargs.get("default_args") or {}) and "model_name" not in kwargs:
        raise ConfigurationError(
            f"{kwargs.get('task_id')} has model_name in partial(default_args=…), which Airflow forgets "
            "before a mapped task runs; give partial(model_name=…), or default_args of the DAG or a TaskGroup"
        )


def _untold(task_id: object, where: str) -> str:
    """Airflow would drop the events and the state of assets that it has not met where the DAG is parsed."""
    return (
        f"{task_id} is mapped over model_name, and Airflow registers the models' assets where the DAG is "
        f"parsed; give partial({where}=[model_asset(name) for name in …]) all of them"
    )


def _listed(assets: object) -> list[object]:
    if assets is None:
        return []
    return list(cast("Sequence[object]", assets)) if isinstance(assets, list | tuple | set) else [assets]


def _is_model(outlet: object) -> bool:
    return isinstance(outlet, Asset) and outlet.uri.startswith(f"{SCHEME}://")
