"""A bucket of a real S3 server, for the tests of artifacts."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import boto3
from botocore.config import Config

from hybrid_provider.aws import AwsAccess

if TYPE_CHECKING:
    from pathlib import Path

REGION = "eu-central-1"


def access_to(endpoint: str, access_key: str, secret_key: str) -> AwsAccess:
    session = boto3.Session(access_key, secret_key, region_name=REGION)
    config = Config(retries={"max_attempts": 1}, connect_timeout=5, read_timeout=20)
    return AwsAccess(session=session, config=config, endpoints={"s3": endpoint})


@dataclass(frozen=True)
class Bucket:
    name: str
    endpoint: str
    access_key: str
    secret_key: str

    @cached_property
    def access(self) -> AwsAccess:
        return access_to(self.endpoint, self.access_key, self.secret_key)

    def elsewhere(self, endpoint: str) -> AwsAccess:
        """The same credentials at another endpoint."""
        return access_to(endpoint, self.access_key, self.secret_key)

    def as_stranger(self) -> AwsAccess:
        """The same endpoint with credentials that it does not know."""
        return access_to(self.endpoint, "AKIASTRANGERSTRANGER", "wrong")

    def uri(self, key: str) -> str:
        return f"s3://{self.name}/{key}"

    def put(self, key: str, body: bytes) -> str:
        """Store an object; its ETag."""
        return self.access.client("s3").put_object(Bucket=self.name, Key=key, Body=body)["ETag"].strip('"')

    def delete(self, key: str) -> None:
        self.access.client("s3").delete_object(Bucket=self.name, Key=key)

    def upload(self, key: str, path: Path) -> None:
        self.access.client("s3").upload_file(str(path), self.name, key)
