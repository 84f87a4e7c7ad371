"""Where AWS keeps the training images of the frameworks.

The account numbers are those that AWS publishes for its Deep Learning Containers and for its scikit-learn and
XGBoost images. A region or a version that is not here needs ``image_uri``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from hybrid_provider.exceptions import ConfigurationError

_DEEP_LEARNING: Final = "763104351884"
_DEEP_LEARNING_REGIONS: Final = frozenset(
    {
        "ap-northeast-1", "ap-northeast-2", "ap-south-1", "ap-southeast-1", "ap-southeast-2", "ca-central-1",
        "eu-central-1", "eu-north-1", "eu-west-1", "eu-west-2", "eu-west-3", "sa-east-1", "us-east-1",
        "us-east-2", "us-west-1", "us-west-2",
    }
)  # fmt: skip
_DEEP_LEARNING_ELSEWHERE: Final = {
    "af-south-1": "626614931356", "ap-east-1": "871362719292", "ap-east-2": "975050140332",
    "ap-northeast-3": "364406365360", "ap-south-2": "772153158452", "ap-southeast-3": "907027046896",
    "ap-southeast-4": "457447274322", "ap-southeast-5": "550225433462", "ap-southeast-6": "633930458069",
    "ap-southeast-7": "590183813437", "ca-west-1": "204538143572", "cn-north-1": "727897471807",
    "cn-northwest-1": "727897471807", "eu-central-2": "380420809688", "eu-south-1": "692866216735",
    "eu-south-2": "503227376785", "il-central-1": "780543022126", "me-central-1": "914824155844",
    "me-south-1": "217643126080", "mx-central-1": "637423239942", "us-gov-east-1": "446045086412",
    "us-gov-west-1": "442386744353",
}  # fmt: skip
_MACHINE_LEARNING: Final = {
    "af-south-1": "510948584623", "ap-east-1": "651117190479", "ap-northeast-1": "354813040037",
    "ap-northeast-2": "366743142698", "ap-northeast-3": "867004704886", "ap-south-1": "720646828776",
    "ap-south-2": "628508329040", "ap-southeast-1": "121021644041", "ap-southeast-2": "783357654285",
    "ap-southeast-3": "951798379941", "ap-southeast-4": "106583098589", "ca-central-1": "341280168497",
    "ca-west-1": "190319476487", "cn-north-1": "450853457545", "cn-northwest-1": "451049120500",
    "eu-central-1": "492215442770", "eu-central-2": "680994064768", "eu-north-1": "662702820516",
    "eu-south-1": "978288397137", "eu-south-2": "104374241257", "eu-west-1": "141502667606",
    "eu-west-2": "764974769150", "eu-west-3": "659782779980", "il-central-1": "898809789911",
    "me-central-1": "272398656194", "me-south-1": "801668240914", "sa-east-1": "737474898029",
    "us-east-1": "683313688378", "us-east-2": "257758044811", "us-gov-east-1": "237065988967",
    "us-gov-west-1": "414596584902", "us-west-1": "746614075791", "us-west-2": "246618743249",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class _Framework:
    """How one framework's images are named.

    Attributes:
        repository: In ECR.
        accounts: Region to account.
        pythons: From which version on which Python is in the image; None where the tag does not say it.
        processors: Whether the tag says cpu or gpu.
    """

    repository: str
    accounts: dict[str, str]
    pythons: tuple[tuple[tuple[int, int], str], ...] | None
    processors: bool = True


_DEEP_LEARNING_ACCOUNTS: Final = (
    dict.fromkeys(_DEEP_LEARNING_REGIONS, _DEEP_LEARNING) | _DEEP_LEARNING_ELSEWHERE
)
_FRAMEWORKS: Final = {
    "tensorflow": _Framework(
        repository="tensorflow-training",
        accounts=_DEEP_LEARNING_ACCOUNTS,
        pythons=(
            ((2, 2), "py37"), ((2, 6), "py38"), ((2, 8), "py39"), ((2, 12), "py310"), ((2, 19), "py312"),
        ),
    ),
    "pytorch": _Framework(
        repository="pytorch-training",
        accounts=_DEEP_LEARNING_ACCOUNTS,
        pythons=(
            ((1, 4), "py36"), ((1, 9), "py38"), ((1, 13), "py39"), ((2, 0), "py310"), ((2, 3), "py311"),
            ((2, 6), "py312"),
        ),
    ),
    "mxnet": _Framework(
        repository="mxnet-training",
        accounts=_DEEP_LEARNING_ACCOUNTS,
        pythons=(((1, 7), "py3"), ((1, 8), "py37"), ((1, 9), "py38")),
    ),
    "sklearn": _Framework(
        repository="sagemaker-scikit-learn", accounts=_MACHINE_LEARNING, pythons=(((0, 20), "py3"),)
    ),
    "xgboost": _Framework(
        repository="sagemaker-xgboost", accounts=_MACHINE_LEARNING, pythons=None, processors=False
    ),
}  # fmt: skip
_CPU_ONLY: Final = frozenset({"sklearn", "xgboost"})
_GPU_INSTANCE: Final = re.compile(r"ml\.(p|g)\d")
_TAG_PART: Final = re.compile(r"[\w][\w.-]{0,60}")


def image_uri(
    framework: str, framework_version: str, py_version: str | None, region: str, instance_type: str
) -> str:
    """The image of a framework for an instance type in a region.

    Raises:
        ConfigurationError: No image is known for this; ``image_uri`` says it then.
    """
    known = _FRAMEWORKS.get(framework)
    if known is None:
        raise ConfigurationError(
            f"framework: {framework!r} is none of {', '.join(_FRAMEWORKS)}; give image_uri instead"
        )
    if not _TAG_PART.fullmatch(framework_version):
        raise ConfigurationError(f"framework_version: {framework_version!r} is no version")
    account = known.accounts.get(region)
    if account is None:
        raise ConfigurationError(
            f"framework: no account with {framework} images is known in region {region}; "
            "give image_uri instead"
        )
    gpu = _GPU_INSTANCE.match(instance_type) is not None
    if gpu and framework in _CPU_ONLY:
        raise ConfigurationError(
            f"instance_type: {instance_type} has GPUs, but AWS's {framework} image uses none; "
            "take a CPU instance, or give image_uri"
        )
    tag = [framework_version]
    if known.processors:
        tag.append("gpu" if gpu else "cpu")
    if known.pythons is not None:
        tag.append(py_version or _python_of(framework, framework_version, known.pythons))
    return f"{account}.dkr.ecr.{region}.{_suffix(region)}/{known.repository}:{'-'.join(tag)}"


def _python_of(framework: str, version: str, pythons: tuple[tuple[tuple[int, int], str], ...]) -> str:
    numbers = re.match(r"(\d+)\.(\d+)", version)
    fitting = [
        python
        for since, python in pythons
        if numbers is not None and (int(numbers[1]), int(numbers[2])) >= since
    ]
    if not fitting:
        raise ConfigurationError(
            f"py_version: not known for {framework} {version}; give py_version or image_uri"
        )
    return fitting[-1]


def _suffix(region: str) -> str:
    return "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
