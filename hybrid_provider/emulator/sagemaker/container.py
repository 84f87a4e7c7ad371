"""The training container: ``/opt/ml`` as a folder, and the image's program in it.

A runner stands for an image. The one here is for every image: it runs the request's own entry point, or the
``sagemaker-training`` toolkit with this Python, as AWS's framework images do with theirs.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final, Protocol

from hybrid_provider.emulator.processes import Program

if TYPE_CHECKING:
    from collections.abc import Mapping

_TOOLKIT: Final = "from sagemaker_training.cli.train import main; main()"
_FAILURE_CHARACTERS: Final = 1024


class Running(Protocol):
    """A container that was started."""

    @property
    def stdout(self) -> IO[bytes]:
        """Its output and errors, ending when it ends."""

    def wait(self, seconds: float | None = None) -> int | None:
        """Its exit status, or None if it runs longer than ``seconds``."""

    def terminate(self) -> None:
        """Ask it to end."""

    def end(self) -> int:
        """End it and all of its processes; its exit status."""


Runner = "Callable[[Container], Running]"


class Container:
    """The files and the environment of one job's container.

    Args:
        request: The CreateTrainingJob request.
        arn: The job's ARN.
        folder: What is ``/opt/ml`` in the cloud.
        aws: Credentials, region and endpoints for AWS clients in the container.
    """

    def __init__(self, request: dict[str, Any], arn: str, folder: Path, aws: Mapping[str, str]) -> None:
        self.request = request
        self.folder = folder
        self._arn = arn
        self._aws = aws

    @property
    def model_folder(self) -> Path:
        """What becomes the artifact."""
        return self.folder / "model"

    def channel_folder(self, name: str) -> Path:
        """Where a channel's files are."""
        return self.folder / "input" / "data" / name

    def prepare(self) -> None:
        """Make the folders and write the configuration."""
        for name in (
            "input/config",
            "input/data",
            "model",
            "output/data",
            "output/intermediate",
            "checkpoints",
            "tmp",
        ):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        for name, document in (
            ("hyperparameters", self.request.get("HyperParameters", {})),
            ("resourceconfig", _resource_config(self.request)),
            ("inputdataconfig", _input_data_config(self.request)),
        ):
            (self.folder / "input" / "config" / f"{name}.json").write_text(json.dumps(document))

    def command(self) -> list[str]:
        """What the container runs."""
        algorithm = self.request["AlgorithmSpecification"]
        entrypoint = algorithm.get("ContainerEntrypoint", [])
        if entrypoint:
            return [*entrypoint, *algorithm.get("ContainerArguments", [])]
        return [sys.executable, "-c", _TOOLKIT]

    def environment(self) -> dict[str, str]:
        """The whole environment of the container."""
        return {
            "PATH": f"{Path(sys.executable).parent}:{os.environ.get('PATH', os.defpath)}",
            "HOME": str(self.folder / "tmp"),
            "TMPDIR": str(self.folder / "tmp"),
            "LANG": "C.UTF-8",
            "PYTHONUNBUFFERED": "1",
            **self._aws,
            "AWS_REGION": self._aws["AWS_DEFAULT_REGION"],
            **self.request.get("Environment", {}),
            "TRAINING_JOB_NAME": self.request["TrainingJobName"],
            "TRAINING_JOB_ARN": self._arn,
            # The toolkit honours the first; without the second it waits for its own host name to resolve.
            "SAGEMAKER_BASE_DIR": str(self.folder),
            "SM_STUDIO_LOCAL_MODE": "true",
        }

    def failure_reason(self, status: int) -> str:
        """FailureReason, from what the script left in ``output/failure``."""
        file = self.folder / "output" / "failure"
        said = file.read_text(errors="replace") if file.exists() else ""
        reason = said or f"Please use an API compatible algorithm or framework, exit code: {status}"
        return f"AlgorithmError: {reason[:_FAILURE_CHARACTERS]}"


def run_on_this_machine(container: Container) -> Program:
    """The runner for every image: the container's command as a program of this machine."""
    return Program(
        container.command(),
        environment=container.environment(),
        folder=container.folder,
        output=subprocess.PIPE,
    )


def _resource_config(request: dict[str, Any]) -> dict[str, Any]:
    count = request["ResourceConfig"].get("InstanceCount", 1)
    hosts = [f"algo-{number}" for number in range(1, count + 1)]
    kind = request["ResourceConfig"].get("InstanceType", "ml.m5.large")
    return {
        "current_host": "algo-1",
        "current_instance_type": kind,
        "current_group_name": "homogeneousCluster",
        "hosts": hosts,
        "instance_groups": [
            {"instance_group_name": "homogeneousCluster", "instance_type": kind, "hosts": hosts}
        ],
        "network_interface_name": "lo",
    }


def _input_data_config(request: dict[str, Any]) -> dict[str, Any]:
    return {
        channel["ChannelName"]: {
            "TrainingInputMode": channel.get("InputMode")
            or request["AlgorithmSpecification"].get("TrainingInputMode", "File"),
            "S3DistributionType": channel["DataSource"]
            .get("S3DataSource", {})
            .get("S3DataDistributionType", "FullyReplicated"),
            "RecordWrapperType": channel.get("RecordWrapperType", "None"),
        }
        for channel in request.get("InputDataConfig", ())
    }
