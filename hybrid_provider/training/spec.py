"""What is to be trained, in words that hold for every cloud."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hybrid_provider.training.source import SourceBundle

# The SageMaker SDK's defaults, so that a DAG that comes from it trains the same.
DEFAULT_MAX_RUNTIME = timedelta(days=1)
DEFAULT_VOLUME_SIZE_GB = 30

_NOT_IDENTIFYING = frozenset({"tags"})


class Compression(StrEnum):
    """How the model leaves the instance."""

    GZIP = "gzip"
    """One ``model.tar.gz``."""
    NONE = "none"
    """Plain objects under a prefix: nothing is packed on a billed machine."""


@dataclass(frozen=True, kw_only=True)
class TrainingSpec:
    """Everything that a job's outcome depends on.

    Attributes:
        model_name: The model; begins the job's name.
        image_uri: The container image, or None where ``framework`` names one of the cloud's own.
        framework: ``tensorflow``, ``pytorch``, ``sklearn``, ``xgboost`` or ``mxnet``.
        framework_version: As the cloud's images are tagged: ``2.3.0``, ``1.4-2``.
        py_version: ``py37``; None takes the one that the framework's version has.
        entry_point: The script, relative to the source's root. None runs the image as it is.
        source: The packed source folder, or the URI of a ``sourcedir.tar.gz``.
        hyperparameters: Values that JSON can write.
        inputs: Channel to URI, or to the cloud's own description of a channel.
        output_path: URI under which the job leaves the artifact.
        role: What the job may do; for SageMaker an IAM role's ARN or name.
        instance_type: Of every instance.
        instance_count: How many.
        volume_size_gb: Disk of each instance.
        max_runtime: The cloud stops the job after it.
        spot: Train on spare capacity.
        max_wait: With spot, the longest time from submit to end.
        checkpoint_uri: Kept in step with ``/opt/ml/checkpoints`` while the job runs.
        compression: How the model leaves the instance.
        metric_definitions: ``{"Name": …, "Regex": …}`` each.
        environment: Of the training container.
        tags: Of the job; no part of the fingerprint.
        subnets: Where the instances stand, with ``security_group_ids``.
        security_group_ids: See ``subnets``.
        kms_key: Encrypts the artifact and the volumes.
        keep_alive: How long the instances stay warm, and billed, for the next job.
        native: The cloud's own request; laid over what the other attributes say.
    """

    model_name: str
    image_uri: str | None = None
    framework: str | None = None
    framework_version: str | None = None
    py_version: str | None = None
    entry_point: str | None = None
    source: SourceBundle | str | None = None
    hyperparameters: Mapping[str, object] = field(default_factory=dict)
    inputs: Mapping[str, str | Mapping[str, object]] = field(default_factory=dict)
    output_path: str | None = None
    role: str | None = None
    instance_type: str | None = None
    instance_count: int = 1
    volume_size_gb: int = DEFAULT_VOLUME_SIZE_GB
    max_runtime: timedelta = DEFAULT_MAX_RUNTIME
    spot: bool = False
    max_wait: timedelta | None = None
    checkpoint_uri: str | None = None
    compression: Compression = Compression.GZIP
    metric_definitions: tuple[Mapping[str, str], ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    subnets: tuple[str, ...] = ()
    security_group_ids: tuple[str, ...] = ()
    kms_key: str | None = None
    keep_alive: timedelta | None = None
    native: Mapping[str, object] = field(default_factory=dict)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the canonical JSON of all that identifies the job."""
        canonical = {
            item.name: getattr(self, item.name) for item in fields(self) if item.name not in _NOT_IDENTIFYING
        }
        text = json.dumps(
            canonical, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=_plain
        )
        return hashlib.sha256(text.encode()).hexdigest()


def _plain(value: object) -> object:
    """A value that JSON does not know, as one that it knows."""
    from hybrid_provider.training.source import SourceBundle

    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, SourceBundle):
        return {"sha256": value.sha256}
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{value!r} is no part of a training spec")
