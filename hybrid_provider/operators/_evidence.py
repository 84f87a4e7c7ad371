"""What a site keeps of who sent what where, and what it lets go where."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.sdk import conf

from hybrid_provider.exceptions import HybridError, StoreError
from hybrid_provider.rollout.direction import DirectionPolicy

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow.sdk import Context

    from hybrid_provider.artifacts.release import Release
    from hybrid_provider.artifacts.store import ReleaseStore
    from hybrid_provider.evidence.chain import Head
    from hybrid_provider.targets.target import Target

_log = logging.getLogger(__name__)


def run_of(context: Context) -> Mapping[str, str]:
    """Which task did it."""
    instance = context["ti"]
    return {"dag_id": instance.dag_id, "task_id": instance.task_id, "run_id": str(instance.run_id)}


def head_of(store: ReleaseStore) -> Head | None:
    """The end of the evidence, for an asset event; None where it cannot be read, which fails no task."""
    try:
        return store.evidence.head()
    except StoreError as error:
        _log.warning("The event carries no head of the evidence: %s", error)
        return None


def training_of(store: ReleaseStore, release: Release) -> Mapping[str, Any] | None:
    """What trained the release, as its provenance in the store has it."""
    try:
        training = store.provenance(release).get("training")
    except (HybridError, ValueError):
        return None
    return training if isinstance(training, Mapping) else None


def check_direction(store: ReleaseStore, release: Release, targets: Sequence[Target]) -> None:
    """Hold a deploy against the site's direction policy, where ``[hybrid] direction_policy`` names one.

    Raises:
        ConfigurationError: It leads elsewhere, or the policy cannot be read.
    """
    path = conf.get("hybrid", "direction_policy", fallback="")
    if not path:
        return
    imported = store.provenance(release).get("imported_from")
    source = release.artifact.uri if release.artifact else f"file://{imported}" if imported else None
    DirectionPolicy.read(Path(path)).check(source, {target.name: target.group for target in targets})
