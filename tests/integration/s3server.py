"""A real S3 server (SeaweedFS) on loopback for the tests of artifacts."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from hybrid_provider.aws import AwsAccess
from tests.servers import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

ACCESS_KEY, SECRET_KEY = "AKIATESTTESTTESTTEST", "test-secret-key"
START_SECONDS = 60


def access_to(endpoint: str, access_key: str = ACCESS_KEY, secret_key: str = SECRET_KEY) -> AwsAccess:
    session = boto3.Session(access_key, secret_key, region_name="eu-central-1")
    config = Config(retries={"max_attempts": 1}, connect_timeout=5, read_timeout=20)
    return AwsAccess(session=session, config=config, endpoints={"s3": endpoint})


@dataclass(frozen=True)
class Bucket:
    endpoint: str
    name: str
    access: AwsAccess

    def uri(self, key: str) -> str:
        return f"s3://{self.name}/{key}"

    def put(self, key: str, body: bytes) -> str:
        """Store an object; its ETag."""
        return self.access.client("s3").put_object(Bucket=self.name, Key=key, Body=body)["ETag"].strip('"')

    def upload(self, key: str, path: Path) -> None:
        self.access.client("s3").upload_file(str(path), self.name, key)


@contextmanager
def serving_s3(folder: Path) -> Iterator[Bucket]:
    """SeaweedFS with one bucket ``models``, data in ``folder``."""
    weed = str(Path(sys.executable).with_name("weed"))  # of the emulator extra
    ports = _free_ports()
    command = [
        weed, "mini", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-dir={folder}",
        "-webdav=false", "-admin.ui=false", "-bucket=models", "-master.telemetry=false",
        *(f"-{name}={port}" for name, port in ports.items()),
    ]  # fmt: skip
    environment = os.environ | {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY}
    with (folder / "weed.log").open("wb") as log:
        server = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=environment)
    try:
        bucket = Bucket(
            f"http://127.0.0.1:{ports['s3.port']}",
            "models",
            access_to(f"http://127.0.0.1:{ports['s3.port']}"),
        )
        _until_ready(bucket, server, folder / "weed.log")
        yield bucket
    finally:
        server.send_signal(signal.SIGTERM)
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _free_ports() -> dict[str, int]:
    """A port for each of the server's parts; 0 turns a part off."""
    parts = ("s3", "master", "volume", "filer", "admin")
    ports = {f"{part}.port{kind}": free_port() for part in parts for kind in ("", ".grpc")}
    return ports | {"s3.port.iceberg": 0, "s3.port.lance": 0}


def _until_ready(bucket: Bucket, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        try:
            bucket.put("ready", b"yes")
        except (BotoCoreError, ClientError):
            if server.poll() is not None:
                break
            time.sleep(0.05)
        else:
            return
    raise RuntimeError(f"SeaweedFS did not start (exit code {server.poll()}):\n{log.read_text()[-3000:]}")
