"""Every error this provider raises on purpose.

::

    HybridError                     an ordinary mistake or failure, explained in one message
    ├── ConfigurationError          what was asked for cannot be right; nothing was done
    │   └── InvalidName             a model, host, release or file name outside the grammar
    ├── TrainingError
    │   ├── TrainingRefused         the cloud refuses the request: wrong name, role, image, URI, quota
    │   ├── TrainingFailed          the job ended as Failed: the training script or its data
    │   ├── TrainingStopped         the job was stopped, by a person or a deadline
    │   │   └── TrainingInterrupted the spot market gave no instances, or took them back
    │   ├── JobConflict             the name is taken by a job that is not ours
    │   └── CloudUnavailable        throttling, network, the cloud's own fault: the same call may work later
    │       └── CapacityUnavailable no instances of this type, or no quota for them, now
    ├── ArtifactError
    │   ├── ArtifactNotFound        no object, or an empty one, at the URI
    │   ├── ArtifactChanged         the object was replaced while it was being read
    │   ├── ArtifactUnavailable     the object store throttles, fails or cannot be reached
    │   ├── ArtifactRefused         an archive or a file that must not be unpacked, or that the policy refuses
    │   ├── ReleaseNotFound         the store holds no such release
    │   └── StoreError              the store's disk is full, read-only or locked
    ├── TargetError                 carries the target's name
    │   ├── TargetUnreachable       no connection, or it was lost
    │   ├── TargetRefused           wrong host key, user or credentials
    │   ├── TargetNotReady          a disk, folder or tool that is missing on the target
    │   ├── TargetLocked            another rollout works on the target
    │   └── TargetFailed            staging, verification, activation or a probe failed on the target
    ├── GateRefused                 a candidate's metrics are not good enough to go on
    ├── RolloutError                the rollout ended in another state than SUCCEEDED
    │   ├── RolloutPostponed        targets were unreachable or locked before anything was switched
    │   └── DriftFound              an audit found targets that are not as they should be
    └── EvidenceBroken              the record of transfers and activations is not what was appended

``retryable`` says whether the same call may work later with nothing changed by a person. The shell
turns a retryable error into a task failure that Airflow retries, and any other into one that it does not.
"""

from __future__ import annotations

from typing import ClassVar


class HybridError(Exception):
    """An ordinary mistake or failure; the message says what happened, to what, and what to do."""

    retryable: ClassVar[bool] = False


class ConfigurationError(HybridError):
    """What was asked for cannot be right; nothing was done."""


class InvalidName(ConfigurationError):
    """A name that the grammar of :mod:`hybrid_provider.names` refuses."""


class TrainingError(HybridError):
    """A training job could not be started, or did not end well."""


class TrainingRefused(TrainingError):
    """The cloud refuses the request as it stands; the same request is refused again."""


class TrainingFailed(TrainingError):
    """The job ended as Failed, by the training script or its data."""


class TrainingStopped(TrainingError):
    """The job was stopped before its script ended, by a person or a deadline."""


class TrainingInterrupted(TrainingStopped):
    """The spot market gave no instances within ``max_wait``, or took them back."""

    retryable = True


class JobConflict(TrainingError):
    """The job's name is taken by a job that this task did not start."""


class CloudUnavailable(TrainingError):
    """Throttling, a broken network or a fault of the cloud's own; the same call may work later."""

    retryable = True


class CapacityUnavailable(CloudUnavailable):
    """No instances of this type, or no quota for them, are free now."""


class ArtifactError(HybridError):
    """An artifact could not be read, or must not be."""


class ArtifactNotFound(ArtifactError):
    """No object, or an empty one, at the URI."""


class ArtifactChanged(ArtifactError):
    """The object was replaced while it was being read; a new attempt reads the new one."""

    retryable = True


class ArtifactUnavailable(ArtifactError):
    """The object store throttles, fails or cannot be reached; the same call may work later."""

    retryable = True


class ArtifactRefused(ArtifactError):
    """An archive or a file that must not be unpacked, or that the policy refuses; the message names it."""


class ReleaseNotFound(ArtifactError):
    """The store holds no such release."""


class StoreError(ArtifactError):
    """The store cannot take the release: its disk is full, read-only or locked."""

    retryable = True


class TargetError(HybridError):
    """Something about one target; ``str()`` begins with the target's name."""

    def __init__(self, target: str, message: str) -> None:
        self.target = target
        self.reason = message
        super().__init__(f"{target}: {message}")


class TargetUnreachable(TargetError):
    """No connection to the target, or it was lost."""

    retryable = True


class TargetRefused(TargetError):
    """The target's host key is not the known one, or it refuses our user or credentials."""


class TargetNotReady(TargetError):
    """A disk, folder, permission or tool that the release needs is missing on the target."""


class TargetLocked(TargetError):
    """Another rollout works on the target."""

    retryable = True


class TargetFailed(TargetError):
    """Staging, verification, activation or a probe failed on the target."""


class GateRefused(HybridError):
    """A candidate's metrics are not good enough to go on; the message names each rule that it broke."""


class RolloutError(HybridError):
    """The rollout ended in another state than SUCCEEDED; the message lists each target's."""


class RolloutPostponed(RolloutError):
    """Targets were unreachable or locked before anything was switched; the same deploy may work later."""

    retryable = True


class EvidenceBroken(HybridError):
    """The record of transfers and activations is not what was appended; the message names the entry."""


class DriftFound(RolloutError):
    """An audit found targets that are not as they should be; the message lists each one's drift."""
