"""What SageMaker would refuse in a request, found in its own service model before anything is sent.

botocore checks types and required members only; the lengths, patterns and enumerations that are in the model
as well are checked here. All faults are found, not the first.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

# The model lists the instance types that were known when botocore was released; newer ones are no fault.
_OPEN_ENUMERATIONS: Final = {"TrainingInstanceType": re.compile(r"ml\.[a-z0-9-]+\.[a-z0-9]+")}
_ARGUMENTS: Final = {
    "RoleArn": "role",
    "OutputDataConfig": "output_path",
    "OutputDataConfig.S3OutputPath": "output_path",
    "OutputDataConfig.KmsKeyId": "kms_key",
    "ResourceConfig.InstanceType": "instance_type",
    "ResourceConfig.InstanceCount": "instance_count",
    "ResourceConfig.VolumeSizeInGB": "volume_size_gb",
    "ResourceConfig.KeepAlivePeriodInSeconds": "keep_alive",
    "StoppingCondition.MaxRuntimeInSeconds": "max_runtime",
    "StoppingCondition.MaxWaitTimeInSeconds": "max_wait",
    "AlgorithmSpecification.TrainingImage": "image_uri",
    "AlgorithmSpecification.MetricDefinitions": "metric_definitions",
    "HyperParameters": "hyperparameters",
    "InputDataConfig": "inputs",
    "Environment": "environment",
    "VpcConfig.Subnets": "subnets",
    "VpcConfig.SecurityGroupIds": "security_group_ids",
    "CheckpointConfig.S3Uri": "checkpoint_uri",
    "Tags": "tags",
}
_ECR_IMAGE: Final = re.compile(
    r"\d{12}\.dkr\.ecr(-fips)?\.[a-z0-9-]+\.[a-z0-9.-]+/"
    r"[a-z0-9]+([._/-]+[a-z0-9]+)*(:[A-Za-z0-9_][A-Za-z0-9._-]{0,127})?(@sha256:[0-9a-f]{64})?"
)
_SOME_IMAGE: Final = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/name:tag"
_LARGEST_VOLUME_GB: Final = 16384
_MOST_RUNTIME_SECONDS: Final = 28 * 24 * 3600
_SHOWN_CHARACTERS: Final = 80


def request_faults(shape: Any, request: Mapping[str, Any]) -> tuple[str, ...]:  # noqa: ANN401 - botocore's Shape
    """All faults of a CreateTrainingJob request, each as ``argument: what is wrong``.

    Args:
        shape: The operation's input shape in botocore's service model.
        request: As :func:`~hybrid_provider.training.sagemaker.request.create_request` makes it.
    """
    found = [*_structure(shape, request, ""), *_together(request)]
    return tuple(dict.fromkeys(f"{argument_of(path)}: {fault}" for path, fault in found))


def too_costly(request: Mapping[str, Any], max_billable: timedelta | None) -> tuple[str, ...]:
    """Whether the request may be billed for more instance time than ``max_billable``."""
    if max_billable is None:
        return ()
    resources = request["ResourceConfig"]
    groups = resources.get("InstanceGroups") or ({"InstanceCount": resources.get("InstanceCount", 1)},)
    count = sum(_number(group["InstanceCount"]) for group in groups)
    seconds = _number(request["StoppingCondition"].get("MaxRuntimeInSeconds", 0))
    seconds += _number(resources.get("KeepAlivePeriodInSeconds", 0))
    if not count * seconds > max_billable.total_seconds():
        return ()
    fault = (
        f"max_billable: {count:.0f} instances for up to {seconds:.0f} s (max_runtime and keep_alive) are "
        f"{timedelta(seconds=count * seconds)}, but {max_billable} are allowed; lower max_runtime, "
        "keep_alive or instance_count, or raise max_billable"
    )
    return (fault,)


def argument_of(path: str) -> str:
    """The operator's argument for a place in the request, with the place where that says more."""
    # Dots within an index belong to a name that the user chose.
    parts = re.findall(r"[^.\[]+(?:\[[^\]]*\])*", path)
    for length in range(len(parts), 0, -1):
        argument = _ARGUMENTS.get(re.sub(r"\[[^\]]*\]", "", ".".join(parts[:length])))
        if argument is not None:
            index = "".join(re.findall(r"\[[^\]]*\]", parts[length - 1]))
            return ".".join([f"{argument}{index}", *parts[length:]])
    return f"config {path}" if path else "config"


Fault = tuple[str, str]


def _together(request: Mapping[str, Any]) -> Iterator[Fault]:
    """What no single member shows."""
    yield from _image(request["AlgorithmSpecification"])
    yield from _resources(request["ResourceConfig"])
    yield from _times(request)
    yield from _twice("InputDataConfig", "ChannelName", request.get("InputDataConfig"))
    yield from _twice(
        "AlgorithmSpecification.MetricDefinitions",
        "Name",
        request["AlgorithmSpecification"].get("MetricDefinitions"),
    )
    for tag in request.get("Tags", ()):
        if str(tag["Key"]).lower().startswith("aws:"):
            yield "Tags", f"{tag['Key']!r} begins with aws:, which AWS keeps for itself"


def _image(algorithm: Mapping[str, Any]) -> Iterator[Fault]:
    image = algorithm.get("TrainingImage")
    if image is None and "AlgorithmName" not in algorithm:
        yield "AlgorithmSpecification.TrainingImage", "missing; give image_uri, or framework and its version"
    # With a TrainingImageConfig, an image may be in a registry of one's own.
    if isinstance(image, str) and "TrainingImageConfig" not in algorithm and not _ECR_IMAGE.fullmatch(image):
        fault = f"{_shown(image)} is no image in ECR, such as {_SOME_IMAGE}"
        yield "AlgorithmSpecification.TrainingImage", fault


def _resources(resources: Mapping[str, Any]) -> Iterator[Fault]:
    if "InstanceType" not in resources and not resources.get("InstanceGroups"):
        yield "ResourceConfig.InstanceType", "missing; for example ml.m5.large"
    for name in ("InstanceCount", "VolumeSizeInGB"):
        if _number(resources.get(name, 1)) < 1:
            yield f"ResourceConfig.{name}", f"{resources[name]!r} is less than 1"
    if _number(resources.get("VolumeSizeInGB", 1)) > _LARGEST_VOLUME_GB:
        yield (
            "ResourceConfig.VolumeSizeInGB",
            f"{resources['VolumeSizeInGB']} is more than {_LARGEST_VOLUME_GB}",
        )


def _twice(path: str, key: str, entries: Sequence[Mapping[str, Any]] | None) -> Iterator[Fault]:
    for name, count in Counter(str(entry.get(key)) for entry in entries or ()).items():
        if count > 1:
            yield path, f"{name!r} is given {count} times"


def _times(request: Mapping[str, Any]) -> Iterator[Fault]:
    stopping = request.get("StoppingCondition", {})
    runtime, wait = stopping.get("MaxRuntimeInSeconds"), stopping.get("MaxWaitTimeInSeconds")
    spot = request.get("EnableManagedSpotTraining", False)
    if runtime is not None and _number(runtime) > _MOST_RUNTIME_SECONDS:
        yield "StoppingCondition.MaxRuntimeInSeconds", f"{runtime} s is more than SageMaker's 28 days"
    if wait is not None and not spot:
        yield "StoppingCondition.MaxWaitTimeInSeconds", "needs spot=True"
    if wait is not None and runtime is not None and _number(wait) < _number(runtime):
        yield "StoppingCondition.MaxWaitTimeInSeconds", f"{wait} s is less than max_runtime, {runtime} s"
    if spot and request.get("ResourceConfig", {}).get("KeepAlivePeriodInSeconds"):
        yield "ResourceConfig.KeepAlivePeriodInSeconds", "warm instances and spot exclude each other"


def _number(value: object) -> float:
    """A number to compare with; what is none is another fault's business."""
    return float(value) if isinstance(value, (int, float)) else float("nan")


def _faults(shape: Any, value: object, path: str) -> Iterator[Fault]:  # noqa: ANN401 - botocore's Shape
    check: Callable[[Any, Any, str], Iterator[Fault]] | None = _CHECKS.get(shape.type_name)
    types = _TYPES.get(shape.type_name)
    if types is not None and (
        not isinstance(value, types) or (isinstance(value, bool) and bool not in types)
    ):
        yield path, f"{_shown(value)} is no {shape.type_name}"
    elif check is not None:
        yield from check(shape, value, path)


def _structure(shape: Any, value: Mapping[str, Any], path: str) -> Iterator[Fault]:  # noqa: ANN401 - see above
    for name in shape.required_members:
        if value.get(name) is None:
            yield _joined(path, name), "missing"
    for name, member in value.items():
        if name not in shape.members:
            yield _joined(path, name), "no such member of the request"
        elif member is not None:
            yield from _faults(shape.members[name], member, _joined(path, name))


def _list(shape: Any, value: list[Any], path: str) -> Iterator[Fault]:  # noqa: ANN401 - see above
    yield from _size(shape, len(value), path, "entries")
    for index, item in enumerate(value):
        label = item.get("ChannelName", index) if isinstance(item, Mapping) else index
        yield from _faults(shape.member, item, f"{path}[{label}]")


def _map(shape: Any, value: Mapping[str, Any], path: str) -> Iterator[Fault]:  # noqa: ANN401 - see above
    yield from _size(shape, len(value), path, "entries")
    for key, item in value.items():
        yield from _faults(shape.key, key, f"{path}[{key}]")
        yield from _faults(shape.value, item, f"{path}[{key}]")


def _string(shape: Any, value: str, path: str) -> Iterator[Fault]:  # noqa: ANN401 - see above
    yield from _size(shape, len(value), path, "characters")
    open_enumeration = _OPEN_ENUMERATIONS.get(shape.name)
    if open_enumeration is not None:
        if not open_enumeration.fullmatch(value):
            yield path, f"{_shown(value)} is no instance type; for example ml.m5.large"
    elif shape.enum and value not in shape.enum:
        yield path, f"{_shown(value)} is none of {', '.join(shape.enum)}"
    pattern = shape.metadata.get("pattern")
    # Python knows no \p{…}; SageMaker itself checks those.
    if pattern is not None and "\\p{" not in pattern and not re.fullmatch(pattern, value):
        yield path, f"{_shown(value)} does not match {pattern}"


def _integer(shape: Any, value: int, path: str) -> Iterator[Fault]:  # noqa: ANN401 - see above
    least, most = shape.metadata.get("min"), shape.metadata.get("max")
    if least is not None and value < least:
        yield path, f"{value} is less than {least}"
    if most is not None and value > most:
        yield path, f"{value} is more than {most}"


def _size(shape: Any, size: int, path: str, unit: str) -> Iterator[Fault]:  # noqa: ANN401 - see above
    least, most = shape.metadata.get("min"), shape.metadata.get("max")
    if least is not None and size < least:
        yield path, f"{size} {unit}, at least {least} are needed"
    if most is not None and size > most:
        yield path, f"{size} {unit}, at most {most} are allowed"


def _joined(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}…"


_CHECKS: Final[dict[str, Any]] = {
    "structure": _structure,
    "list": _list,
    "map": _map,
    "string": _string,
    "integer": _integer,
    "long": _integer,
}
_TYPES: Final[dict[str, tuple[type, ...]]] = {
    "structure": (Mapping,),
    "map": (Mapping,),
    "list": (list, tuple),
    "string": (str,),
    "integer": (int,),
    "long": (int,),
    "float": (int, float),
    "double": (int, float),
    "boolean": (bool,),
    "timestamp": (datetime, str, int, float),
}
