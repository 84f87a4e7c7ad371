"""The whole emulator as one class."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import timedelta
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final, Self

import boto3
from botocore.config import Config

from hybrid_provider.emulator import object_store, on_premises
from hybrid_provider.emulator.ports import Ports
from hybrid_provider.emulator.processes import EmulatorError, Program, Programs, wait_until_listening
from hybrid_provider.emulator.sagemaker.images import runner_of_image
from hybrid_provider.emulator.sagemaker.life import World
from hybrid_provider.emulator.sagemaker.server import Api, SageMakerServer
from hybrid_provider.emulator.sagemaker.service import TrainingService
from hybrid_provider.names import checked_name

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from hybrid_provider.emulator.hosts import EmulatedHost
    from hybrid_provider.emulator.sagemaker.container import Runner
    from hybrid_provider.emulator.sagemaker.ledger import Ledger
    from hybrid_provider.emulator.sagemaker.trouble import Trouble

ACCOUNT: Final = "123456789012"  # moto's, which STS and IAM are
REGION: Final = "us-east-1"
ROLE_NAME: Final = "hybrid-training"
# So many instances that nobody meets the quota by chance.
INSTANCE_QUOTA: Final = 2000
STOP_GRACE: Final = timedelta(seconds=120)
_TRUST_POLICY: Final = {
    "Version": "2012-10-17",
    "Statement": [
        {"Effect": "Allow", "Principal": {"Service": "sagemaker.amazonaws.com"}, "Action": "sts:AssumeRole"}
    ],
}
# Jobs share the emulator's clients.
_CLIENT_CONFIG: Final = Config(max_pool_connections=50)


class Emulator:
    """S3, SageMaker training, CloudWatch Logs, STS, IAM and on-premises hosts, on this machine.

    ::

        with Emulator(Path("/tmp/emulator"), hosts=2) as emulator:
            emulator.client("s3").create_bucket(Bucket="models")

    Args:
        folder: Holds everything: objects, the jobs' folders, the hosts' homes, the keys, the logs. Objects,
            homes and keys are still there when an emulator is started in it again; jobs are not.
        hosts: How many on-premises hosts, at most 100.
        model: If given, each host runs a model server of this model, from ``~/models/<model>/current``.
        first_port: If given, the parts listen on the same ports every time, as :meth:`Ports.from_first` has
            them; else on any that are free.
        stop_grace: From SIGTERM to SIGKILL when a training job is stopped; SageMaker's is 120 seconds.
        instance_quota: How many instances of one type may train at once.
        runner_for: Gives the runner for a training image; by default every image runs on this machine,
            except the one that only sleeps.
    """

    # The one place that says where all parts listen.
    _address = "127.0.0.1"

    def __init__(
        self,
        folder: Path,
        hosts: int = 2,
        model: str | None = None,
        *,
        first_port: int | None = None,
        stop_grace: timedelta = STOP_GRACE,
        instance_quota: int = INSTANCE_QUOTA,
        runner_for: Callable[[str], Runner] = runner_of_image,
    ) -> None:
        self.folder = folder.resolve()
        self._host_count = hosts
        self._model = None if model is None else checked_name("model", model)
        self._first_port = first_port
        self._stop_grace = stop_grace
        self._instance_quota = instance_quota
        self._runner_for = runner_for
        self._running = ExitStack()
        self._session = boto3.Session()
        self._session_lock = threading.Lock()
        self._service: TrainingService | None = None
        self.environment: dict[str, str] = {}
        self.hosts: tuple[EmulatedHost, ...] = ()

    @property
    def role_arn(self) -> str:
        """An execution role that exists, and that SageMaker may assume."""
        return f"arn:aws:iam::{ACCOUNT}:role/{ROLE_NAME}"

    @property
    def ledger(self) -> Ledger:
        """What the emulated account is billed for; it can still be read after :meth:`stop`.

        Raises:
            EmulatorError: The emulator was never started.
        """
        return self._started_service.ledger

    @property
    def trouble(self) -> Trouble:
        """Throttling, failures and a spot market without instances, on demand.

        Raises:
            EmulatorError: The emulator was never started.
        """
        return self._started_service.trouble

    def client(self, service: str) -> Any:  # noqa: ANN401 - boto3 makes its clients' classes at run time
        """A boto3 client of one emulated service: ``s3``, ``sagemaker``, ``logs``, ``sts`` or ``iam``."""
        # Sessions may not be shared by threads, clients may; parts start in threads of their own.
        with self._session_lock:
            return self._session.client(
                service,
                aws_access_key_id=self.environment["AWS_ACCESS_KEY_ID"],
                aws_secret_access_key=self.environment["AWS_SECRET_ACCESS_KEY"],
                region_name=self.environment["AWS_DEFAULT_REGION"],
                endpoint_url=self.environment[f"AWS_ENDPOINT_URL_{service.upper()}"],
                config=_CLIENT_CONFIG,
            )

    def start(self) -> Self:
        """Start all parts and return when each of them answers.

        Raises:
            EmulatorError: A part could not start, a port or the folder is in use; nothing is left running.
        """
        self._require_extra()
        with ExitStack() as running:
            self._lock_folder(running)
            if self._first_port is None:
                ports = Ports.free(self._address, self._host_count)
            else:
                ports = Ports.from_first(self._address, self._host_count, self._first_port)
            seaweedfs = object_store.seaweedfs_binary()
            self.environment = self._make_environment(ports, s3=ports.aws if seaweedfs is None else ports.s3)
            self.hosts = on_premises.make_hosts(self.folder, self._address, ports, model=self._model)
            programs = Programs()
            running.callback(object_store.remove_sockets, ports.s3)
            running.callback(programs.end)
            self._start_parts(running, programs, ports, seaweedfs)
            self._running = running.pop_all()
        return self

    def stop(self) -> None:
        """End all jobs, all parts and every process that they started; the folder stays."""
        self._running.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def _started_service(self) -> TrainingService:
        if self._service is None:
            raise EmulatorError("the emulator was not started; call start() first")
        return self._service

    def _start_parts(
        self, running: ExitStack, programs: Programs, ports: Ports, seaweedfs: str | None
    ) -> None:
        with ThreadPoolExecutor() as pool:
            starting = [
                pool.submit(self._start_aws, programs, ports.aws),
                pool.submit(on_premises.start_hosts, programs, self.folder, self.hosts),
                pool.submit(self._start_sagemaker, running, ports.sagemaker),
            ]
            if seaweedfs is not None:
                starting.append(pool.submit(self._start_s3, programs, seaweedfs, ports.s3))
            if self._model is not None:
                starting.append(
                    pool.submit(
                        on_premises.start_model_servers,
                        programs,
                        self.hosts,
                        self._model,
                        ports.model_servers,
                    )
                )
        for part in starting:
            part.result()

    def _require_extra(self) -> None:
        needed = ["moto", "sagemaker_training", "onnxruntime"][: 2 if self._model is None else 3]
        missing = [name for name in needed if find_spec(name) is None]
        if missing:
            raise EmulatorError(
                f"the emulator needs {', '.join(missing)}: pip install 'airflow-provider-hybrid[emulator]'"
            )

    def _lock_folder(self, running: ExitStack) -> None:
        """Two emulators in one folder would write over each other's objects."""
        self.folder.mkdir(parents=True, exist_ok=True)
        lock = running.enter_context((self.folder / "emulator.lock").open("w"))
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise EmulatorError(
                f"another emulator runs in {self.folder}; stop it or choose another folder"
            ) from None

    def _make_environment(self, ports: Ports, *, s3: int) -> dict[str, str]:
        endpoints = {
            "S3": s3,
            "SAGEMAKER": ports.sagemaker,
            "LOGS": ports.aws,
            # What boto3 reads for its client `logs`: the variable is named after the service's id.
            "CLOUDWATCH_LOGS": ports.aws,
            "STS": ports.aws,
            "IAM": ports.aws,
        }
        return {
            "AWS_ACCESS_KEY_ID": f"AKIA{secrets.token_hex(8).upper()}",
            "AWS_SECRET_ACCESS_KEY": secrets.token_hex(20),
            "AWS_DEFAULT_REGION": REGION,
            **{
                f"AWS_ENDPOINT_URL_{name}": f"http://{self._address}:{port}"
                for name, port in endpoints.items()
            },
        }

    def _start_s3(self, programs: Programs, binary: str, port: int) -> None:
        credentials = {
            name: self.environment[name] for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
        }
        programs.add(
            object_store.start_seaweedfs(binary, self.folder / "s3", self._address, port, credentials)
        )

    def _start_aws(self, programs: Programs, port: int) -> None:
        log = self.folder / "aws.log"
        with log.open("wb") as output:
            program = programs.add(
                Program(
                    [sys.executable, "-m", "moto.server", "-H", self._address, "-p", str(port)],
                    environment={"HOME": str(self.folder), "PATH": os.defpath},
                    folder=self.folder,
                    output=output,
                )
            )
        wait_until_listening(
            program, self._address, port, what="the emulated logs, STS and IAM (moto)", log=log
        )
        policy = json.dumps(_TRUST_POLICY)
        self.client("iam").create_role(RoleName=ROLE_NAME, AssumeRolePolicyDocument=policy)

    def _start_sagemaker(self, running: ExitStack, port: int) -> None:
        world = World(
            account=ACCOUNT,
            folder=self.folder / "jobs",
            aws=self.environment,
            s3=self.client("s3"),
            logs=self.client("logs"),
            iam=self.client("iam"),
            runner_for=self._runner_for,
            stop_grace=self._stop_grace,
        )
        service = TrainingService(world, instance_quota=self._instance_quota)
        api = Api(service, access_key=self.environment["AWS_ACCESS_KEY_ID"], region=REGION)
        try:
            server = SageMakerServer(api, self._address, port)
        except OSError as error:
            raise EmulatorError(
                f"the emulated SageMaker cannot listen on {self._address}:{port}: {error}"
            ) from None
        server.start()
        self._service = service
        running.callback(service.close)
        running.callback(server.stop)
