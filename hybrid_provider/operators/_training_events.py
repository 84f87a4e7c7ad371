"""What Airflow is told of a training besides its result: a metric, secrets to hide, lineage."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow.sdk.log import mask_secret, redact  # type: ignore[attr-defined] # Airflow uses it from there, too
from airflow.sdk.observability import stats

from hybrid_provider.exceptions import ConfigurationError
from hybrid_provider.operators._events import dataset
from hybrid_provider.training.arguments import literal

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from airflow.sdk import Context

    from hybrid_provider.operators._events import Lineage
    from hybrid_provider.training.backend import JobStatus
    from hybrid_provider.training.result import TrainingDict

_SHORTEST_SECRET = 5
BILLABLE_METRIC = "hybrid.train.billable_seconds"
SAVED_METRIC = "hybrid.train.saved_seconds"


def count_billed(context: Context, model_name: str, status: JobStatus) -> None:
    """Add the instance seconds that were billed, and that spot saved, by model, DAG and task."""
    ti = context["ti"]
    tags = {"model": model_name, "dag_id": ti.dag_id, "task_id": ti.task_id}
    stats.incr(BILLABLE_METRIC, status.billable_seconds, tags=tags)
    if status.saved_seconds:
        stats.incr(SAVED_METRIC, status.saved_seconds, tags=tags)


def mask_secrets(environment: object, hyperparameters: object, config: object) -> list[str]:
    """Hide values whose names speak of secrets from the task's log: a training script may print them.

    Returns:
        These values, for whoever shows the log instead of the task.
    """
    found = list(_secrets(environment, hyperparameters, config))
    for value in found:
        mask_secret(value)
    return found


def _secrets(environment: object, hyperparameters: object, config: object) -> Iterator[str]:
    try:
        native = literal("config", config)
        given = [literal("environment", environment), literal("hyperparameters", hyperparameters)]
    except ConfigurationError:
        # What cannot be read is refused elsewhere, in words.
        return
    if isinstance(native, Mapping):
        given += [native.get("Environment"), native.get("HyperParameters")]
    for values in given:
        for name, value in values.items() if isinstance(values, Mapping) else ():
            # Of shorter ones Airflow masks none, and says so in a warning.
            if isinstance(value, str) and len(value) >= _SHORTEST_SECRET and _is_secret(name):
                yield value


def _is_secret(name: object) -> bool:
    """Whether Airflow hides what goes by this name."""
    return bool(redact("shown", str(name)) != "shown")


def lineage(inputs: object, config: object, result: TrainingDict | None) -> Lineage:
    """OpenLineage's view: the channels in, the artifact out; as much as is known at any time."""
    from airflow.providers.openlineage.extractors import OperatorLineage

    artifact = result["artifact"] if result else None
    return OperatorLineage(
        inputs=[dataset(uri) for uri in _input_uris(inputs, config)],
        outputs=[dataset(artifact["uri"])] if artifact else [],
    )


def _input_uris(inputs: object, config: object) -> Iterator[str]:
    for channel in _channels(inputs, config):
        uri = channel
        if isinstance(channel, Mapping):
            uri = channel.get("DataSource", {}).get("S3DataSource", {}).get("S3Uri")
        if isinstance(uri, str) and uri.startswith("s3://"):
            yield uri


def _channels(inputs: object, config: object) -> Iterable[Any]:
    """Every channel of the arguments; what cannot be read is refused elsewhere, in words."""
    try:
        friendly, native = literal("inputs", inputs), literal("config", config)
    except ConfigurationError:
        return
    if isinstance(friendly, Mapping):
        yield from friendly.values()
    if isinstance(native, Mapping):
        yield from native.get("InputDataConfig") or ()
