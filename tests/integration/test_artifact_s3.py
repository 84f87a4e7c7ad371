"""What lies at a URI, asked of a real S3 server."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import boto3
import pytest
from botocore.stub import Stubber

from hybrid_provider.artifacts.artifact import Artifact
from hybrid_provider.artifacts.redirects import not_followed_from
from hybrid_provider.artifacts.s3 import S3Location, describe, stored_objects
from hybrid_provider.artifacts.store import ReleaseStore
from hybrid_provider.artifacts.sync import sync
from hybrid_provider.artifacts.transfer_policy import TransferPolicy
from hybrid_provider.aws import AwsAccess
from hybrid_provider.exceptions import ArtifactNotFound, ArtifactUnavailable, ConfigurationError
from tests.integration.fault_proxy import faulty
from tests.integration.plain_server import redirecting_server, server_that
from tests.integration.s3bucket import REGION

if TYPE_CHECKING:
    from http.server import BaseHTTPRequestHandler
    from pathlib import Path

    from tests.integration.s3bucket import Bucket

HASTY = TransferPolicy(attempts=1, first_pause=timedelta(milliseconds=1))


def test_an_object_is_described_by_what_s3_says_of_it(bucket: Bucket):
    etag = bucket.put("one/model.tar.gz", b"twelve bytes")
    artifact = describe(bucket.access, bucket.uri("one/model.tar.gz"))
    assert (artifact.size_bytes, artifact.etag, artifact.version_id) == (12, etag, None)
    assert artifact.last_modified.tzinfo is not None
    assert Artifact.from_dict(artifact.to_dict()) == artifact


def test_a_prefix_is_described_by_all_its_objects_and_no_folder_markers(bucket: Bucket):
    bucket.put("many/model/weights.bin", b"12345")
    bucket.put("many/model/deep/config.json", b"{}")
    bucket.put("many/model-other/weights.bin", b"not ours")
    before = describe(bucket.access, bucket.uri("many/model/"))
    assert before.size_bytes == 7
    assert before.is_prefix
    bucket.put("many/model/deep/config.json", b"[]")
    after = describe(bucket.access, bucket.uri("many/model/"))
    assert after.etag != before.etag


@pytest.mark.parametrize("path", ["absent/model.tar.gz", "absent/"])
def test_nothing_at_the_uri_is_not_found(bucket: Bucket, path):
    with pytest.raises(ArtifactNotFound, match=path):
        describe(bucket.access, bucket.uri(path))


@pytest.mark.parametrize("path", ["empty/model.tar.gz", "empty/"])
def test_empty_objects_are_no_artifact(bucket: Bucket, path):
    bucket.put("empty/model.tar.gz", b"")
    with pytest.raises(ArtifactNotFound, match="SM_MODEL_DIR"):
        describe(bucket.access, bucket.uri(path))


@pytest.mark.parametrize("path", ["model.tar.gz", "model/"])
def test_a_bucket_that_is_not_there_is_named(bucket: Bucket, path):
    with pytest.raises(ConfigurationError, match=r"s3://nowhere/.*bucket does not exist"):
        describe(bucket.access, f"s3://nowhere/{path}")


def test_wrong_credentials_are_explained(bucket: Bucket):
    stranger = bucket.as_stranger()
    with pytest.raises(ConfigurationError, match="aws connection"):
        describe(stranger, bucket.uri("one/"))


def test_a_server_that_is_down_is_worth_a_retry(bucket: Bucket):
    nobody = bucket.elsewhere("http://127.0.0.1:1")
    with pytest.raises(ArtifactUnavailable, match="cannot be reached"):
        describe(nobody, bucket.uri("one/model.tar.gz"))


def test_an_object_named_as_a_folder_is_left_out_only_where_it_is_empty(bucket: Bucket):
    """SeaweedFS makes a folder of either; S3 lists both."""
    access = bucket.elsewhere("http://127.0.0.1:1")
    common = {"ETag": '"e"', "LastModified": datetime(2026, 11, 24)}
    contents = [{"Key": "m/a/", "Size": 0, **common}, {"Key": "m/b/", "Size": 7, **common}]
    with Stubber(access.client("s3")) as stubber:
        for _ in range(2):
            stubber.add_response("list_objects_v2", {"Contents": contents, "IsTruncated": False})
        listed = stored_objects(access, S3Location("models", "m/"), HASTY)
    assert [item.location.key for item in listed] == ["m/b/"]


@pytest.mark.parametrize("status", [301, 302, 307, 308])
@pytest.mark.parametrize("key", ["one/model.tar.gz", "one/"])
def test_an_endpoint_that_redirects_is_named_and_not_followed_in_circles(bucket: Bucket, status, key):
    def redirect(request: BaseHTTPRequestHandler) -> None:
        request.send_response(status)
        request.send_header("Location", f"http://127.0.0.1:1{request.path}")
        request.send_header("Content-Length", "0")

    with server_that(redirect) as port:
        redirecting = bucket.elsewhere(f"http://127.0.0.1:{port}")
        with pytest.raises(ConfigurationError, match="redirects elsewhere"):
            describe(redirecting, bucket.uri(key))


@pytest.mark.parametrize("after", [0, 1])
@pytest.mark.parametrize("key", ["model.tar.gz", "model/"])
def test_no_session_token_goes_to_another_host_where_an_endpoint_redirects(tmp_path, key, after):
    """Not at once, and not where it redirects obstore alone."""
    with (
        redirecting_server(after=after) as (port, asked_elsewhere),
        pytest.raises(ConfigurationError, match=f"s3://models/{key}: the endpoint redirects elsewhere"),
    ):
        sync_from(port, key, tmp_path)
    assert asked_elsewhere == []


@pytest.mark.parametrize("key", ["model.tar.gz", "model/"])
def test_no_session_token_goes_to_another_port_of_the_host(tmp_path, key):
    """obstore would follow there: a proxy's exceptions are of hosts."""
    with (
        redirecting_server(host="127.0.0.1") as (port, asked_elsewhere),
        pytest.raises(ConfigurationError, match=f"s3://models/{key}: the endpoint redirects elsewhere"),
    ):
        sync_from(port, key, tmp_path)
    assert asked_elsewhere == []


def sync_from(port: int, key: str, root: Path) -> None:
    session = boto3.Session("ASIAROLE", "secret", "token", region_name=REGION)
    access = AwsAccess(session=session, endpoints={"s3": f"http://127.0.0.1:{port}"})
    sync(access, f"s3://models/{key}", "digits", ReleaseStore(root), transfer=HASTY)


@pytest.mark.parametrize(("hours", "way"), [(-3, "behind"), (3, "ahead of")])
@pytest.mark.parametrize("path", ["model.bin", "model/"])
def test_a_clock_that_is_off_is_said_to_be(bucket: Bucket, monkeypatch, path, hours, way):
    """S3 gives a HEAD no reason: only the answer's date tells it."""

    class Off(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime.now(tz) + timedelta(hours=hours)

    def refuse(request: BaseHTTPRequestHandler) -> None:
        request.send_response(403)
        request.send_header("Content-Length", "0")

    monkeypatch.setattr("hybrid_provider.artifacts.clock.datetime", Off)
    off = rf"clock is (2:59:5\d|3:00:0\d) \(h:mm:ss\) {way} .*NTP"
    with server_that(refuse) as port, pytest.raises(ArtifactUnavailable, match=off):
        describe(bucket.elsewhere(f"http://127.0.0.1:{port}"), f"s3://models/{path}")


def test_a_clock_that_is_refused_in_the_middle_is_said_to_be_off(bucket: Bucket, tmp_path):
    bucket.put("clock/large.bin", bytes(3 << 10))
    few = TransferPolicy(part_bytes=1 << 10, parts_in_flight=1, attempts=1)
    with (
        faulty(bucket.endpoint, "none", "skewed") as proxy,
        pytest.raises(ArtifactUnavailable, match=r"clock is .* behind that of the object store.*NTP"),
    ):
        sync(
            bucket.elsewhere(proxy.url),
            bucket.uri("clock/large.bin"),
            "digits",
            ReleaseStore(tmp_path),
            transfer=few,
        )


def test_a_proxy_of_the_environment_is_not_put_aside(monkeypatch):
    assert set(not_followed_from("https://s3.example")) == {"proxy_url", "proxy_excludes"}
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.site:3128")
    assert not_followed_from("https://s3.example") == {}
    monkeypatch.setenv("NO_PROXY", "s3.example")
    assert not_followed_from("https://s3.example")["proxy_excludes"] == "s3.example"
