"""The training container of one instance: ``/opt/ml`` as a folder, and the image's program in it.

A runner stands for an image. The one here is for every image: it runs the request's own entry point, or the
``sagemaker-training`` toolkit with this Python, as AWS's framework images do with theirs.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Final, Protocol

from hybrid_provider.emulator.processes import Program

if TYPE_CHECKING:
    from hybrid_provider.emulator.sagemaker.job import TrainingJob

_TOOLKIT: Final = (sys.executable, "-c", "from sagemaker_training.cli.train import main; main()")
_FOLDERS: Final = (
    "input/config",
    "input/data",
    "model",
    "output/data",
    "output/intermediate",
    "checkpoints",
    "tmp",
)


class Running(Protocol):
    """A container that was started."""

    @property
    def stdout(self) -> Iterable[bytes]:
        """The lines of its output and errors together; ends when it ends."""

    def wait(self, seconds: float | None = None) -> int | None:
        """Its exit status, or None if it runs longer than ``seconds``."""

    def terminate(self) -> None:
        """Ask it to end."""

    def end(self) -> int:
        """End it and all of its processes; its exit status."""


class Container:
    """The files and the environment of one instance's container.

    Args:
        job: The job that it is part of.
        host: ``algo-1``, ``algo-2`` and so on.
        folder: What is ``/opt/ml`` in the cloud.
        aws: Credentials, region and endpoints for AWS clients in the container.
    """

    def __init__(self, job: TrainingJob, host: str, folder: Path, aws: Mapping[str, str]) -> None:
        self.host = host
        self.folder = folder
        self.request = job.request
        self._arn = job.arn
        self._hosts = job.hosts
        self._aws = aws

    @property
    def model_folder(self) -> Path:
        """What becomes the artifact."""
        return self.folder / "model"

    @property
    def output_folder(self) -> Path:
        """What becomes ``output.tar.gz``."""
        return self.folder / "output" / "data"

    @property
    def checkpoint_folder(self) -> Path:
        """What is kept in step with CheckpointConfig.S3Uri."""
        path = self.request.get("CheckpointConfig", {}).get("LocalPath", "/opt/ml/checkpoints")
        return self.folder.joinpath(*PurePosixPath(path).relative_to("/opt/ml").parts)

    def channel_folder(self, name: str) -> Path:
        """Where a channel's files are."""
        return self.folder / "input" / "data" / name

    def prepare(self) -> None:
        """Make the folders and write the configuration; a former emulator's files of the job are removed."""
        shutil.rmtree(self.folder, ignore_errors=True)
        for name in _FOLDERS:
            (self.folder / name).mkdir(parents=True)
        for name, document in (
            ("hyperparameters", self.request.get("HyperParameters", {})),
            ("resourceconfig", self._resource_config()),
            ("inputdataconfig", self._input_data_config()),
        ):
            (self.folder / "input" / "config" / f"{name}.json").write_text(json.dumps(document))

    def command(self) -> list[str]:
        """What the container runs."""
        algorithm = self.request["AlgorithmSpecification"]
        entrypoint = algorithm.get("ContainerEntrypoint", _TOOLKIT)
        return [*entrypoint, *algorithm.get("ContainerArguments", [])]

    def environment(self) -> dict[str, str]:
        """The whole environment of the container."""
        return {
            "PATH": f"{Path(sys.executable).parent}:{os.environ.get('PATH', os.defpath)}",
            "HOME": str(self.folder / "tmp"),
            "TMPDIR": str(self.folder / "tmp"),
            "LANG": "C.UTF-8",
            # A log line is worth most while the job runs.
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

    def failure(self) -> str:
        """What the script left in ``output/failure``."""
        file = self.folder / "output" / "failure"
        return file.read_text(errors="replace") if file.exists() else ""

    def _resource_config(self) -> dict[str, Any]:
        kind = self.request["ResourceConfig"]["InstanceType"]
        group = {"instance_group_name": "homogeneousCluster", "instance_type": kind, "hosts": self._hosts}
        return {
            "current_host": self.host,
            "current_instance_type": kind,
            "current_group_name": "homogeneousCluster",
            "hosts": self._hosts,
            "instance_groups": [group],
            "network_interface_name": "lo",
        }

    def _input_data_config(self) -> dict[str, Any]:
        mode = self.request["AlgorithmSpecification"]["TrainingInputMode"]
        return {
            channel["ChannelName"]: {
                "TrainingInputMode": channel.get("InputMode", mode),
                "S3DistributionType": channel["DataSource"]["S3DataSource"].get(
                    "S3DataDistributionType", "FullyReplicated"
                ),
                "RecordWrapperType": channel.get("RecordWrapperType", "None"),
            }
            for channel in self.request.get("InputDataConfig", ())
        }


Runner = Callable[[Container], Running]


def run_on_this_machine(container: Container) -> Program:
    """The runner for every image: the container's command as a program of this machine."""
    return Program(
        container.command(),
        environment=container.environment(),
        folder=container.folder,
        output=subprocess.PIPE,
    )
