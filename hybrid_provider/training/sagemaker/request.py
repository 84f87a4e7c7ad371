"""A training spec as the CreateTrainingJob request that SageMaker's own SDK would send."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from hybrid_provider.training.sagemaker.images import image_uri
from hybrid_provider.training.source import SourceBundle
from hybrid_provider.training.spec import Compression

if TYPE_CHECKING:
    from datetime import timedelta

    from hybrid_provider.training.spec import TrainingSpec

Request = dict[str, Any]

# Frameworks whose images report metrics as time series; the SDK turns it on for them and for no other.
_METRICS_TIME_SERIES: Final = frozenset({"tensorflow", "pytorch"})
_CONTAINER_LOG_LEVEL: Final = 20
_NUMBERS: Final = (
    ("ResourceConfig", "InstanceCount"),
    ("ResourceConfig", "VolumeSizeInGB"),
    ("StoppingCondition", "MaxRuntimeInSeconds"),
)
_CHECKPOINT_FOLDER: Final = "/opt/ml/checkpoints"


@dataclass(frozen=True)
class Place:
    """Where a request goes: the region, and the role's ARN once its name was looked up."""

    region: str
    role_arn: str | None = None


def create_request(spec: TrainingSpec, name: str, tags: Mapping[str, str], place: Place) -> Request:
    """The whole request.

    Raises:
        ConfigurationError: No image is known for the framework.
    """
    native = {key: value for key, value in spec.native.items() if key not in {"TrainingJobName", "Tags"}}
    request = _merged(_from_arguments(spec, name, place), native)
    _read_numbers(request)
    if place.role_arn is not None:
        request["RoleArn"] = place.role_arn
    all_tags = native_tags(spec.native) | dict(spec.tags) | dict(tags)
    return {
        "TrainingJobName": name,
        **request,
        "Tags": [{"Key": key, "Value": value} for key, value in all_tags.items()],
    }


def native_tags(native: Mapping[str, object]) -> dict[str, str]:
    """The tags of a config in SageMaker's own form."""
    tags: Any = native.get("Tags") or ()
    return {tag["Key"]: tag["Value"] for tag in tags}


def role_of(spec: TrainingSpec) -> str | None:
    """The role's name or ARN, from wherever it was given."""
    role = spec.native.get("RoleArn") or spec.role
    return None if role is None else str(role)


def output_path_of(spec: TrainingSpec) -> str | None:
    """Where the job leaves the artifact, without a ``/`` at its end."""
    native: Any = spec.native.get("OutputDataConfig") or {}
    path = native.get("S3OutputPath") or spec.output_path
    return None if path is None else str(path).rstrip("/")


def source_uri(spec: TrainingSpec) -> str | None:
    """Where the source archive is, or is to be uploaded to; None without one."""
    if isinstance(spec.source, SourceBundle):
        return f"{output_path_of(spec)}/hybrid-source/{spec.source.sha256}/sourcedir.tar.gz"
    return spec.source


def _from_arguments(spec: TrainingSpec, name: str, place: Place) -> Request:
    request: Request = {
        "AlgorithmSpecification": _algorithm(spec, place.region),
        "OutputDataConfig": _output(spec),
        "ResourceConfig": _resources(spec),
        "StoppingCondition": _stopping(spec),
    }
    optional: Request = {
        "RoleArn": spec.role,
        "HyperParameters": _hyperparameters(spec, name, place.region),
        "InputDataConfig": [_channel(channel, source) for channel, source in spec.inputs.items()],
        "Environment": dict(spec.environment),
        "VpcConfig": _vpc(spec),
        "EnableManagedSpotTraining": spec.spot or None,
        "CheckpointConfig": spec.checkpoint_uri
        and {"S3Uri": spec.checkpoint_uri, "LocalPath": _CHECKPOINT_FOLDER},
    }
    return request | {key: value for key, value in optional.items() if value}


def _algorithm(spec: TrainingSpec, region: str) -> Request:
    algorithm: Request = {"TrainingInputMode": "File"}
    native: Any = spec.native.get("AlgorithmSpecification") or {}
    if spec.image_uri is not None:
        algorithm["TrainingImage"] = spec.image_uri
    elif spec.framework is not None and "TrainingImage" not in native and "AlgorithmName" not in native:
        algorithm["TrainingImage"] = image_uri(
            spec.framework, spec.framework_version or "", spec.py_version, region, spec.instance_type or ""
        )
    if spec.framework in _METRICS_TIME_SERIES:
        algorithm["EnableSageMakerMetricsTimeSeries"] = True
    if spec.metric_definitions:
        algorithm["MetricDefinitions"] = [dict(definition) for definition in spec.metric_definitions]
    return algorithm


def _output(spec: TrainingSpec) -> Request:
    output: Request = {}
    if spec.output_path is not None:
        output["S3OutputPath"] = spec.output_path
    if spec.kms_key is not None:
        output["KmsKeyId"] = spec.kms_key
    if spec.compression is Compression.NONE:
        output["CompressionType"] = "NONE"
    return output


def _resources(spec: TrainingSpec) -> Request:
    # A config that names instance groups must not also get one type and count.
    native: Any = spec.native.get("ResourceConfig") or {}
    resources: Request = {"VolumeSizeInGB": spec.volume_size_gb}
    if "InstanceGroups" not in native:
        resources["InstanceCount"] = spec.instance_count
        if spec.instance_type is not None:
            resources["InstanceType"] = spec.instance_type
    if spec.kms_key is not None:
        resources["VolumeKmsKeyId"] = spec.kms_key
    if spec.keep_alive is not None:
        resources["KeepAlivePeriodInSeconds"] = _seconds(spec.keep_alive)
    return resources


def _stopping(spec: TrainingSpec) -> Request:
    stopping: Request = {"MaxRuntimeInSeconds": _seconds(spec.max_runtime)}
    if spec.max_wait is not None:
        stopping["MaxWaitTimeInSeconds"] = _seconds(spec.max_wait)
    elif spec.spot:
        # SageMaker wants one with spot; without waiting for capacity it is the runtime.
        stopping["MaxWaitTimeInSeconds"] = stopping["MaxRuntimeInSeconds"]
    return stopping


def _vpc(spec: TrainingSpec) -> Request:
    if not spec.subnets and not spec.security_group_ids:
        return {}
    return {"Subnets": list(spec.subnets), "SecurityGroupIds": list(spec.security_group_ids)}


def _hyperparameters(spec: TrainingSpec, name: str, region: str) -> dict[str, str]:
    archive = source_uri(spec)
    if archive is None:
        # An image without the training toolkit reads plain text.
        return {
            key: value if isinstance(value, str) else json.dumps(value)
            for key, value in spec.hyperparameters.items()
        }
    toolkit: dict[str, object] = {
        "sagemaker_submit_directory": archive,
        "sagemaker_program": spec.entry_point,
        "sagemaker_container_log_level": _CONTAINER_LOG_LEVEL,
        "sagemaker_job_name": name,
        "sagemaker_region": region,
    }
    if spec.framework == "tensorflow":
        toolkit["model_dir"] = f"{output_path_of(spec)}/{name}/model"
    # The user's model_dir wins: TensorFlow scripts read it.
    return {key: json.dumps(value) for key, value in (toolkit | dict(spec.hyperparameters)).items()}


def _channel(channel: str, source: str | Mapping[str, object]) -> Request:
    if isinstance(source, Mapping):
        return {"ChannelName": channel, **source}
    return {
        "ChannelName": channel,
        "DataSource": {
            "S3DataSource": {
                "S3DataType": "S3Prefix",
                "S3Uri": source,
                "S3DataDistributionType": "FullyReplicated",
            }
        },
    }


def _seconds(duration: timedelta) -> int:
    return int(duration.total_seconds())


def _read_numbers(request: Request) -> None:
    """The numbers that a templated config leaves as text, where the amazon provider reads them too."""
    for section, member in _NUMBERS:
        value = request[section].get(member)
        if isinstance(value, str) and value.strip().isdigit():
            request[section][member] = int(value)


def _merged(below: Request, above: Mapping[str, Any]) -> Request:
    """``above`` laid over ``below``: objects are merged, everything else is replaced."""
    merged = dict(below)
    for key, value in above.items():
        lower = merged.get(key)
        merged[key] = (
            _merged(lower, value) if isinstance(lower, dict) and isinstance(value, Mapping) else value
        )
    return merged
