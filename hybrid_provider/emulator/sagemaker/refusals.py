"""What CreateTrainingJob refuses beyond the service model's constraints.

Every check is a small function over the request, or over the request and the account. Where the service's own
wording is known, it is used: people search for it.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote

from hybrid_provider.emulator.sagemaker import storage
from hybrid_provider.emulator.sagemaker.errors import (
    AccessDeniedException,
    ResourceLimitExceeded,
    ValidationException,
)
from hybrid_provider.emulator.sagemaker.shapes import one_fault

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from hybrid_provider.emulator.sagemaker.job import TrainingJob
    from hybrid_provider.emulator.sagemaker.life import World

MAX_TAGS: Final = 50
_SERVICE: Final = "sagemaker.amazonaws.com"
_LONGEST_RUNTIME_SECONDS: Final = 28 * 24 * 3600
_LARGEST_VOLUME_GB: Final = 16384
_IMAGE: Final = re.compile(
    r"\d{12}\.dkr\.ecr(-fips)?\.[a-z0-9-]+\.amazonaws\.com(\.cn)?/"
    r"[a-z0-9]+([._/-]+[a-z0-9]+)*(:[A-Za-z0-9_][A-Za-z0-9._-]{0,127})?(@sha256:[0-9a-f]{64})?"
)


def refuse_bad_request(request: dict[str, Any]) -> None:
    """Check what the request alone shows.

    Raises:
        ValidationException: The first fault.
    """
    for faults in (_missing, _not_emulated, _image, _resources, _stopping, _channels, _metrics, _checkpoint):
        for fault in faults(request):
            raise ValidationException(fault)
    refuse_bad_tags(request.get("Tags", ()))


def refuse_bad_tags(tags: Iterable[dict[str, str]]) -> None:
    """Check tags beyond their shape.

    Raises:
        ValidationException: A key is reserved, or is there twice.
    """
    keys = Counter(tag["Key"] for tag in tags)
    for key, count in keys.items():
        if key.lower().startswith("aws:"):
            raise ValidationException(f"Tag keys starting with 'aws:' are reserved for system use: {key}")
        if count > 1:
            raise ValidationException(f"Duplicate tag keys found: {key}")


def refuse_without_means(request: dict[str, Any], world: World) -> None:
    """Check the request against the account: its role and its data.

    Raises:
        AccessDeniedException: The role is another account's.
        ValidationException: The role cannot be assumed, or a channel has no objects.
    """
    _refuse_role(request["RoleArn"], world)
    for channel in request.get("InputDataConfig", ()):
        _refuse_empty(channel["DataSource"]["S3DataSource"]["S3Uri"], request["RoleArn"], world)


def refuse_over_quota(request: dict[str, Any], jobs: Iterable[TrainingJob], quota: int) -> None:
    """Check that as many instances may still be started.

    Raises:
        ResourceLimitExceeded: The quota of this instance type is used up.
    """
    kind = request["ResourceConfig"]["InstanceType"]
    wanted = request["ResourceConfig"]["InstanceCount"]
    used = sum(job.instance_count for job in jobs if job.instance_type == kind and not job.status.terminal)
    if used + wanted > quota:
        raise ResourceLimitExceeded(
            f"The account-level service limit '{kind} for training job usage' is {quota} Instances, with "
            f"current utilization of {used} Instances and a request delta of {wanted} Instances. Please use "
            "AWS Service Quotas to request an increase for this quota."
        )


def _missing(request: dict[str, Any]) -> Iterator[str]:
    # Serverless jobs have none of these, so that the service model does not require them.
    for name in ("AlgorithmSpecification", "ResourceConfig", "StoppingCondition"):
        if name not in request:
            yield one_fault(None, name, "Member must not be null")


def _not_emulated(request: dict[str, Any]) -> Iterator[str]:
    for name in ("ServerlessJobConfig", "ModelPackageConfig", "MlflowConfig"):
        if name in request:
            yield f"The emulator does not emulate {name}; leave it out."
    for name in ("InstanceGroups", "InstancePreferences", "TrainingPlanArn"):
        if name in request["ResourceConfig"]:
            yield f"The emulator does not emulate ResourceConfig.{name}; give InstanceType and InstanceCount."
    if "AlgorithmName" in request["AlgorithmSpecification"]:
        yield "The emulator has no algorithms of its own; give TrainingImage instead of AlgorithmName."


def _image(request: dict[str, Any]) -> Iterator[str]:
    image = request["AlgorithmSpecification"].get("TrainingImage")
    if image is None:
        yield "You must specify either TrainingImage or AlgorithmName in AlgorithmSpecification."
    elif not _IMAGE.fullmatch(image):
        yield (
            f"Invalid training image {image}. "
            "Please provide a valid Amazon Elastic Container Registry path of the Docker image to run."
        )


def _resources(request: dict[str, Any]) -> Iterator[str]:
    resources = request["ResourceConfig"]
    for name in ("InstanceType", "InstanceCount", "VolumeSizeInGB"):
        if name not in resources:
            yield one_fault(None, f"resourceConfig.{name}", "Member must not be null")
        elif resources[name] == 0:
            yield one_fault(0, f"resourceConfig.{name}", "Member must have value greater than or equal to 1")
    if resources.get("VolumeSizeInGB", 1) > _LARGEST_VOLUME_GB:
        yield f"VolumeSizeInGB {resources['VolumeSizeInGB']} exceeds the maximum of {_LARGEST_VOLUME_GB}."
    if "KeepAlivePeriodInSeconds" in resources and request.get("EnableManagedSpotTraining"):
        yield "KeepAlivePeriodInSeconds is not supported when EnableManagedSpotTraining is set to true"


def _stopping(request: dict[str, Any]) -> Iterator[str]:
    condition = request["StoppingCondition"]
    runtime = condition.get("MaxRuntimeInSeconds", 86400)
    wait = condition.get("MaxWaitTimeInSeconds")
    if runtime > _LONGEST_RUNTIME_SECONDS:
        yield (
            "Invalid MaxRuntimeInSeconds. It must be less than or equal to "
            f"{_LONGEST_RUNTIME_SECONDS} seconds (28 days)."
        )
    if not request.get("EnableManagedSpotTraining"):
        if wait is not None:
            yield (
                "Invalid MaxWaitTimeInSeconds. "
                "It is only supported when EnableManagedSpotTraining is set to true"
            )
    elif wait is None or wait < runtime:
        yield (
            "Invalid MaxWaitTimeInSeconds. "
            "It must be present and be greater than or equal to MaxRuntimeInSeconds"
        )


def _channels(request: dict[str, Any]) -> Iterator[str]:
    channels = request.get("InputDataConfig", ())
    for name, count in Counter(channel["ChannelName"] for channel in channels).items():
        if count > 1:
            yield f"Duplicate channel name {name} in InputDataConfig. Channel names must be unique."
    for channel in channels:
        yield from _source_faults(channel["ChannelName"], channel["DataSource"])


def _source_faults(channel: str, source: dict[str, Any]) -> Iterator[str]:
    if len(source) != 1:
        yield f"Channel {channel} has {len(source)} data sources. Specify exactly one."
    elif "S3DataSource" not in source:
        yield f"The emulator does not emulate {next(iter(source))}; give channel {channel} an S3DataSource."
    elif source["S3DataSource"]["S3DataType"] != "S3Prefix":
        kind = source["S3DataSource"]["S3DataType"]
        yield f"The emulator does not emulate S3DataType {kind}: use S3Prefix."


def _metrics(request: dict[str, Any]) -> Iterator[str]:
    definitions = request["AlgorithmSpecification"].get("MetricDefinitions", ())
    for name, count in Counter(definition["Name"] for definition in definitions).items():
        if count > 1:
            yield f"Duplicate metric name {name} in MetricDefinitions. Metric names must be unique."
    for definition in definitions:
        try:
            re.compile(definition["Regex"])
        except re.error as error:
            yield f"Invalid regular expression {definition['Regex']} of metric {definition['Name']}: {error}"


def _checkpoint(request: dict[str, Any]) -> Iterator[str]:
    path = request.get("CheckpointConfig", {}).get("LocalPath", "/opt/ml/checkpoints")
    if not path.startswith("/"):
        yield f"CheckpointConfig.LocalPath {path} must be an absolute path."
    for reserved in ("/opt/ml/model", "/opt/ml/input", "/opt/ml/output", "/opt/ml/code"):
        if path == reserved or path.startswith(f"{reserved}/"):
            yield f"CheckpointConfig.LocalPath {path} is reserved: use another, such as /opt/ml/checkpoints."
    if not path.startswith("/opt/ml/") or ".." in path:
        yield f"The emulator does not emulate CheckpointConfig.LocalPath {path}; use one below /opt/ml/."


def _refuse_role(arn: str, world: World) -> None:
    account = arn.split(":")[4]
    if account != world.account:
        raise AccessDeniedException("Cross-account pass role is not allowed.")
    refusal = ValidationException(
        f"Could not assume role {arn}. Please ensure that the role exists and allows principal "
        f"'{_SERVICE}' to assume the role."
    )
    iam = world.iam
    try:
        role = iam.get_role(RoleName=arn.rpartition("/")[2])["Role"]
    except iam.exceptions.NoSuchEntityException:
        raise refusal from None
    if role["Arn"] != arn or not _trusts(role["AssumeRolePolicyDocument"]):
        raise refusal


def _trusts(policy: str | dict[str, Any]) -> bool:
    """Whether a trust policy lets SageMaker assume its role."""
    document = json.loads(unquote(policy)) if isinstance(policy, str) else policy
    return any(
        statement["Effect"] == "Allow"
        and "sts:AssumeRole" in _listed(statement.get("Action"))
        and _SERVICE in _listed(statement.get("Principal", {}).get("Service"))
        for statement in _listed(document["Statement"])
    )


def _listed(value: Any) -> list[Any]:  # noqa: ANN401 - IAM takes one of a thing, or a list of them
    return value if isinstance(value, list) else [value]


def _refuse_empty(uri: str, role: str, world: World) -> None:
    bucket, _ = storage.split_uri(uri)
    try:
        found = next(storage.list_keys(world.s3, uri), None)
    except world.s3.exceptions.NoSuchBucket:
        found = None
    if found is None:
        raise ValidationException(
            f'No S3 objects found under S3 URL "{uri}" given in input data source. Please ensure that the '
            f"bucket exists in the selected region ({world.aws['AWS_DEFAULT_REGION']}), that objects exist "
            f'under that S3 prefix, and that the role "{role}" has "s3:ListBucket" permissions on bucket '
            f'"{bucket}".'
        )
