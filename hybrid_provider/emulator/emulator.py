"""The whole emulator as one class."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

import asyncssh
import boto3

from hybrid_provider.emulator import hosts as ssh
from hybrid_provider.emulator import object_store
from hybrid_provider.emulator.processes import EmulatorError, Program, free_ports, wait_until_listening
from hybrid_provider.emulator.sagemaker.container import run_on_this_machine
from hybrid_provider.emulator.sagemaker.life import World
from hybrid_provider.emulator.sagemaker.server import SageMakerServer
from hybrid_provider.emulator.sagemaker.service import ACCOUNT, TrainingService
from hybrid_provider.names import checked_name

if TYPE_CHECKING:
    from hybrid_provider.emulator.hosts import EmulatedHost
    from hybrid_provider.emulator.sagemaker.ledger import Ledger

ROLE_NAME: Final = "hybrid-training"
REGION: Final = "us-east-1"
_TRUST_POLICY: Final = {
    "Version": "2012-10-17",
    "Statement": [
        {"Effect": "Allow", "Principal": {"Service": "sagemaker.amazonaws.com"}, "Action": "sts:AssumeRole"}
    ],
}


class Emulator:
    """An S3, SageMaker training, CloudWatch logs, STS, IAM, and on-premises hosts, on this machine.

    ::

        with Emulator(Path("/tmp/emulator"), hosts=2) as emulator:
            emulator.client("s3").create_bucket(Bucket="models")

    Args:
        folder: Holds everything: objects, the jobs' folders, the hosts' homes, the keys, the logs.
        hosts: How many on-premises hosts.
        model: If given, each host runs a model server of this model, from ``~/models/<model>/current``.
        stop_grace: From SIGTERM to SIGKILL when a training job is stopped; SageMaker's is 120 seconds.
    """

    # The one place that says where all parts listen.
    _address = "127.0.0.1"

    def __init__(
        self,
        folder: Path,
        hosts: int = 2,
        model: str | None = None,
        *,
        stop_grace: timedelta = timedelta(seconds=120),
    ) -> None:
        self.folder = Path(folder).resolve()
        self._host_count = hosts
        self._model = None if model is None else checked_name("model", model)
        self._stop_grace = stop_grace
        self._parts = ExitStack()
        self._service: TrainingService | None = None
        self.environment: dict[str, str] = {}
        self.hosts: tuple[EmulatedHost, ...] = ()

    @property
    def role_arn(self) -> str:
        """An execution role that SageMaker may assume."""
        return f"arn:aws:iam::{ACCOUNT}:role/{ROLE_NAME}"

    @property
    def ledger(self) -> Ledger:
        """What the emulated account is billed for."""
        if self._service is None:
            raise EmulatorError("the emulator is not running; call start() first")
        return self._service.ledger

    def client(self, service: str) -> Any:  # noqa: ANN401 - boto3 makes its clients' classes at run time
        """A boto3 client of one emulated service: ``s3``, ``sagemaker``, ``logs``, ``sts`` or ``iam``."""
        return boto3.Session(
            aws_access_key_id=self.environment["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=self.environment["AWS_SECRET_ACCESS_KEY"],
            region_name=self.environment["AWS_DEFAULT_REGION"],
        ).client(service, endpoint_url=self.environment[f"AWS_ENDPOINT_URL_{service.upper()}"])

    def start(self) -> Self:
        """Start all parts and return when each of them answers.

        Raises:
            EmulatorError: A part could not start; what had started is stopped.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        s3_port, aws_port, sagemaker_port = free_ports(self._address, 3, below=55536)
        self.environment = self._make_environment(s3_port, aws_port, sagemaker_port)
        try:
            with ThreadPoolExecutor() as pool:
                parts = [
                    pool.submit(self._start_s3, s3_port),
                    pool.submit(self._start_aws, aws_port),
                    pool.submit(self._start_hosts),
                    pool.submit(self._start_sagemaker, sagemaker_port),
                ]
            for part in parts:
                part.result()
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """End all parts and every process that they started; the folder stays."""
        self._parts.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _make_environment(self, s3_port: int, aws_port: int, sagemaker_port: int) -> dict[str, str]:
        ports = {
            "S3": s3_port,
            "SAGEMAKER": sagemaker_port,
            "LOGS": aws_port,
            "STS": aws_port,
            "IAM": aws_port,
        }
        return {
            "AWS_ACCESS_KEY_ID": f"AKIA{secrets.token_hex(8).upper()}",
            "AWS_SECRET_ACCESS_KEY": secrets.token_hex(20),
            "AWS_DEFAULT_REGION": REGION,
            **{f"AWS_ENDPOINT_URL_{name}": f"http://{self._address}:{port}" for name, port in ports.items()},
        }

    def _start_s3(self, port: int) -> None:
        binary = object_store.seaweedfs_binary()
        if binary is None:
            raise EmulatorError("no seaweedfs")
        folder = self.folder / "s3"
        environment = {"HOME": str(folder), "PATH": os.defpath, **self.environment}
        self._parts.enter_context(
            object_store.start_seaweedfs(binary, folder, self._address, port, environment)
        )

    def _start_aws(self, port: int) -> None:
        log = self.folder / "aws.log"
        with log.open("wb") as output:
            program = self._parts.enter_context(
                Program(
                    [sys.executable, "-m", "moto.server", "-H", self._address, "-p", str(port)],
                    environment={"HOME": str(self.folder), "PATH": os.defpath},
                    folder=self.folder,
                    output=output,
                )
            )
        wait_until_listening(
            program, self._address, port, what="the emulated IAM, STS and logs (moto)", log=log
        )
        self.client("iam").create_role(RoleName=ROLE_NAME, AssumeRolePolicyDocument=json.dumps(_TRUST_POLICY))

    def _start_sagemaker(self, port: int) -> None:
        world = World(
            folder=self.folder / "jobs",
            aws=self.environment,
            s3=self.client("s3"),
            logs=self.client("logs"),
            runner=lambda _image: run_on_this_machine,
            stop_grace=self._stop_grace,
        )
        self._service = TrainingService(world)
        server = SageMakerServer(self._service, self._address, port)
        server.start()
        self._parts.callback(self._service.stop_all)
        self._parts.callback(server.stop)

    def _start_hosts(self) -> None:
        keys = self.folder / "keys"
        keys.mkdir(exist_ok=True)
        client_key = asyncssh.generate_private_key("ssh-ed25519", comment="emulator")
        key_file = keys / "client"
        key_file.unlink(missing_ok=True)
        client_key.write_private_key(key_file)
        key_file.chmod(0o600)
        ports = free_ports(self._address, 2 * self._host_count)
        specs = []
        for number in range(1, self._host_count + 1):
            name = f"edge-{number:02}"
            root = self.folder / "hosts" / name
            root.mkdir(parents=True, exist_ok=True)
            host_key = asyncssh.generate_private_key("ssh-ed25519", comment=name)
            host_key.write_private_key(keys / name)
            (keys / name).chmod(0o600)
            specs.append(
                ssh.HostSpec(
                    name=name,
                    address=self._address,
                    port=ports[number - 1],
                    user="deploy",
                    root=str(root),
                    host_key_file=str(keys / name),
                    client_key=client_key.export_public_key().decode(),
                )
            )
            public = " ".join(host_key.export_public_key().decode().split()[:2])
            port = ports[self._host_count + number - 1]
            self.hosts += (
                ssh.EmulatedHost(
                    name=name,
                    address=self._address,
                    port=ports[number - 1],
                    user="deploy",
                    key_file=key_file,
                    host_key=public,
                    root=root,
                    model_server_url=f"http://{self._address}:{port}" if self._model else None,
                    reload_command='kill -HUP "$(cat "$HOME/model-server.pid")"' if self._model else None,
                ),
            )
        ssh.write_specs(self.folder / "hosts.json", specs)
        with (self.folder / "hosts.log").open("wb") as log:
            program = self._parts.enter_context(
                Program(
                    [sys.executable, "-m", "hybrid_provider.emulator.hosts", str(self.folder / "hosts.json")],
                    environment={"PATH": os.defpath, "PYTHONPATH": os.pathsep.join(sys.path)},
                    folder=self.folder,
                    output=subprocess.PIPE,
                    errors=log,
                )
            )
        if self._model:
            for host in self.hosts:
                self._start_model_server(host, int(str(host.model_server_url).rpartition(":")[2]))
        if not program.stdout.readline():
            raise EmulatorError(f"the hosts did not start: {(self.folder / 'hosts.log').read_text()}")

    def _start_model_server(self, host: EmulatedHost, port: int) -> None:
        log = host.root / "model-server.log"
        with log.open("wb") as output:
            program = self._parts.enter_context(
                Program(
                    [
                        sys.executable,
                        "-m",
                        "hybrid_provider.emulator.model_server",
                        "--folder",
                        str(host.root / "models" / str(self._model)),
                        "--address",
                        self._address,
                        "--port",
                        str(port),
                        "--pid-file",
                        str(host.root / "model-server.pid"),
                    ],
                    environment={
                        "HOME": str(host.root),
                        "PATH": os.defpath,
                        "PYTHONPATH": os.pathsep.join(sys.path),
                    },
                    folder=host.root,
                    output=output,
                )
            )
        wait_until_listening(program, self._address, port, what=f"the model server of {host.name}", log=log)
