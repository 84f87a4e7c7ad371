"""What Airflow is told of a sync besides its result: the model's event, lineage."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hybrid_provider.artifacts.source import ArtifactSource
from hybrid_provider.exceptions import ConfigurationError
from hybrid_provider.operators._events import dataset

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hybrid_provider.artifacts.release import ReleaseDict
    from hybrid_provider.evidence.chain import Head
    from hybrid_provider.operators._events import Lineage

KIND = "sync"


def event_extra(
    release: ReleaseDict, source: ArtifactSource, run: Mapping[str, str], head: Head
) -> dict[str, object]:
    """What the model's event says of a release that is in the store now.

    Args:
        release: What the task returns; its path is left out, for it is another on another worker.
        source: Where it came from.
        run: Which task brought it.
        head: Of the store's evidence, so that its end cannot be cut off unseen.
    """
    training = source.training or {}
    kept = ("model", "digest", "artifact", "files", "size_bytes", "seconds", "reused_bytes")
    return {
        "kind": KIND,
        "release": release["release_id"],
        **{name: value for name, value in release.items() if name in kept},
        # Its metrics are in the event of the deploy, by which the page draws what was live.
        "training": {name: training.get(name) for name in ("job", "arn")} if training else None,
        "evidence": head.to_dict(),
        **run,
    }


def lineage(artifact: object, release: ReleaseDict | None) -> Lineage:
    """OpenLineage's view: the artifact in, the release's folder out; as much as is known at any time."""
    from airflow.providers.openlineage.extractors import OperatorLineage

    try:
        inputs = [dataset(ArtifactSource.read(artifact).uri)]
    except ConfigurationError:  # refused elsewhere, in words
        inputs = []
    outputs = [dataset(f"file://{release['path']}")] if release else []
    return OperatorLineage(inputs=inputs, outputs=outputs)
