"""Lets a candidate through only if its metrics are good enough."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

from airflow.providers.standard.utils.skipmixin import SkipMixin
from airflow.sdk import BaseOperator, conf

from hybrid_provider._explained import explained
from hybrid_provider.artifacts.store import ReleaseStore
from hybrid_provider.exceptions import ConfigurationError, GateRefused, ReleaseNotFound
from hybrid_provider.fleet.assets import model_asset
from hybrid_provider.names import checked_name
from hybrid_provider.operators._literal import literal
from hybrid_provider.operators.fleet import given_to, with_asset
from hybrid_provider.training.gate import Champion, Gate, champion_of, metrics_of, read_metrics

if TYPE_CHECKING:
    from collections.abc import Sequence
    from os import PathLike

    from airflow.sdk import Context

    from hybrid_provider.artifacts.release import Release
    from hybrid_provider.training.gate import VerdictDict

# As many events of the model as a champion is looked for in; trainings and audits are among them.
_EVENTS: Final = 200
_LIVE: Final = "live"


class ModelGateOperator(BaseOperator, SkipMixin):
    """Hold a candidate's metrics against thresholds and against the champion's.

    A candidate that passes goes on. Of one that does not, the reason is logged and handed on, every task
    behind the gate is skipped, and the candidate stays where it is: the artifact in the cloud, the release
    in the store. The task itself is green then, as a gate that does its work is no failure.

    Args:
        model_name: The model, whose asset becomes an inlet of the task.
        candidate: What the training operator returned (its final metrics), what the sync operator returned
            (those of the training behind it, or of ``metrics_file``), or a mapping of metrics. Templated.
        thresholds: By metric ``{"min": …}``, ``{"max": …}`` or both. Templated.
        compare: By metric ``"higher"`` or ``"lower"``, whichever is better, or
            ``{"better": "higher", "by": -0.01}``: at least that much better than the champion. Templated.
        champion: ``live``, the release that last went live by the events of the model's asset; a release id
            or channel of the store; what a training or sync returned; or a mapping of metrics. Templated.
        metrics_file: A JSON file in the release, relative to it; it goes before the training's metrics where
            candidate or champion is a release. Templated.
        on_refusal: ``skip`` what is behind the gate, or ``fail`` the task.
        store_root: The folder of releases; ``[hybrid] store_root`` where None. Templated.

    Returns:
        A :class:`~hybrid_provider.training.gate.VerdictDict`, also where the candidate is refused. What is
        behind the gate takes the output of what is before it: ``release=sync.output``.

    Raises:
        ConfigurationError: Rules or metrics that cannot be right, or a metric that nobody measured.
        GateRefused: The candidate is refused, with ``on_refusal="fail"``.
    """

    template_fields: Sequence[str] = (
        "candidate",
        "thresholds",
        "compare",
        "champion",
        "metrics_file",
        "store_root",
    )
    inherits_from_skipmixin = True

    def __init__(
        self,
        *,
        model_name: str,
        candidate: object,
        thresholds: object = None,
        compare: object = None,
        champion: object = _LIVE,
        metrics_file: str | None = None,
        on_refusal: str = "skip",
        store_root: str | PathLike[str] | None = None,
        **kwargs: Any,  # noqa: ANN401 - BaseOperator's own arguments
    ) -> None:
        super().__init__(**with_asset(kwargs, model_name, announces=False))
        self.model_name = model_name
        self.candidate = candidate
        self.thresholds = thresholds
        self.compare = compare
        self.champion = champion
        self.metrics_file = metrics_file
        self.on_refusal = on_refusal
        self.store_root = store_root

    @classmethod
    def partial(cls, **kwargs: Any) -> Any:  # noqa: ANN401 - BaseOperator's own
        """As of ``BaseOperator``: a mapped task has its assets from here, not from ``__init__``."""
        made = super().partial(**kwargs)
        made.kwargs.update(with_asset(made.kwargs, given_to(made).get("model_name"), announces=False))
        return made

    @explained
    def execute(self, context: Context) -> VerdictDict:
        """Judge, and say every check in the log."""
        checked_name("model", self.model_name)
        if self.on_refusal not in {"skip", "fail"}:
            raise ConfigurationError(f"on_refusal is {self.on_refusal!r}; give 'skip' or 'fail'")
        gate = Gate.of(literal("thresholds", self.thresholds), literal("compare", self.compare))
        champion = self._champion(context) if gate.comparisons else None
        verdict = gate.judge(self._metrics("candidate", literal("candidate", self.candidate)), champion)
        for check in verdict.checks:
            self.log.info("%s %s", "✓" if check.passed else "✗", check.reason)
        result = verdict.to_dict(self.model_name)
        if not verdict.passed:
            self._refuse(context, result)
        return result

    def _refuse(self, context: Context, result: VerdictDict) -> None:
        told = (
            f"the candidate of model {self.model_name} is refused: {result['reason']}. It is kept; deploy it "
            "by hand, or lower the bar and clear this task"
        )
        # Neither a skip nor a failure hands on what execute returns.
        context["ti"].xcom_push(key="return_value", value=result)
        if self.on_refusal == "fail":
            raise GateRefused(told)
        self.log.warning("%s", told)
        behind = [task for task in self.get_flat_relatives(upstream=False) if not task.is_teardown]
        self.skip(ti=cast("Any", context["ti"]), tasks=behind)

    def _champion(self, context: Context) -> Champion | None:
        given = literal("champion", self.champion)
        if given is None:
            return None
        if given == _LIVE:
            events = cast("Any", context["inlet_events"][model_asset(self.model_name)])
            newest = events.ascending(ascending=False).limit(_EVENTS)
            return champion_of(reversed([event.extra for event in newest]))
        if isinstance(given, str):
            try:
                release = self._store().release(self.model_name, given)
            except ReleaseNotFound as error:
                self.log.info("There is no champion to compare with: %s", error)
                return None
            return Champion(release=release.release_id, metrics=self._of_release(release))
        name = given.get("release_id") if isinstance(given, Mapping) else None
        return Champion(release=name, metrics=self._metrics("champion", given))

    def _metrics(self, what: str, given: object) -> Mapping[str, float]:
        if not isinstance(given, Mapping):
            raise ConfigurationError(
                f"{what} is {given!r}; give the training's output (train.output), the sync task's "
                "(sync.output), or a mapping of metrics. None means that the task before returned nothing"
            )
        if "release_id" in given:
            return self._of_release(self._store().release(self.model_name, str(given["release_id"])))
        metrics = given["metrics"] if "artifact" in given and "metrics" in given else given
        return metrics_of(metrics)

    def _of_release(self, release: Release) -> Mapping[str, float]:
        if self.metrics_file is not None:
            return read_metrics(release.path / self.metrics_file)
        training = self._store().provenance(release).get("training")
        return metrics_of(training.get("metrics")) if isinstance(training, Mapping) else {}

    def _store(self) -> ReleaseStore:
        return ReleaseStore(Path(self.store_root or conf.get("hybrid", "store_root")))
