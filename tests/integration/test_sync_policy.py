"""A sync under a policy: against a real S3, and against moto where S3's account, region and KMS facts are needed."""

from __future__ import annotations

import pickle
import threading
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import boto3
import pytest
from airflow.sdk.exceptions import AirflowFailException
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from moto.server import ThreadedMotoServer

from hybrid_provider.artifacts.artifact import Artifact
from hybrid_provider.artifacts.origin import check_origin
from hybrid_provider.artifacts.policy import ArtifactPolicy
from hybrid_provider.artifacts.s3 import describe
from hybrid_provider.artifacts.signature import sign
from hybrid_provider.artifacts.store import ReleaseStore
from hybrid_provider.artifacts.sync import sync
from hybrid_provider.aws import AwsAccess
from hybrid_provider.exceptions import ArtifactRefused, ConfigurationError
from hybrid_provider.operators.sync import ModelArtifactSyncOperator
from tests.integration.airflow_task import aws_connection, task_context

if TYPE_CHECKING:
    from hybrid_provider.artifacts.manifest import Manifest
    from tests.integration.s3bucket import Bucket

KEY = ec.generate_private_key(ec.SECP256R1())
SIGNED = datetime(2026, 11, 23, tzinfo=UTC)


@pytest.fixture
def store(tmp_path):
    return ReleaseStore(tmp_path / "store")


@pytest.fixture
def public_key(tmp_path):
    path = tmp_path / "public.pem"
    path.write_bytes(KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return path


def manifest_of(store: ReleaseStore, bucket: Bucket, key: str) -> Manifest:
    """What a sync without a policy makes of an artifact."""
    return sync(
        bucket.access, bucket.uri(key), "digits", ReleaseStore(store.root / "unchecked")
    ).release.manifest


class TestSignature:
    def test_it_lies_beside_the_object(self, bucket: Bucket, store, public_key):
        bucket.put("signed/model.onnx", b"weights")
        policy = ArtifactPolicy(public_keys=(public_key,))
        with pytest.raises(ArtifactRefused, match="not signed"):
            sync(bucket.access, bucket.uri("signed/model.onnx"), "digits", store, policy=policy)
        assert store.releases("digits") == ()
        manifest = manifest_of(store, bucket, "signed/model.onnx")
        bucket.put("signed/model.onnx.sig", sign(manifest, "digits", KEY, SIGNED).encode())
        artifact = describe(bucket.access, bucket.uri("signed/model.onnx"))
        first = sync(bucket.access, artifact, "digits", store, policy=policy)
        offline = bucket.elsewhere("http://127.0.0.1:1")
        assert sync(offline, artifact, "digits", store, policy=policy).release == first.release

    def test_it_is_one_of_the_objects_under_a_prefix(self, bucket: Bucket, store, public_key):
        bucket.put("signed-prefix/model.onnx", b"weights")
        manifest = manifest_of(store, bucket, "signed-prefix/")
        bucket.put("signed-prefix/model.sig", sign(manifest, "digits", KEY, SIGNED).encode())
        policy = ArtifactPolicy(public_keys=(public_key,))
        release = sync(bucket.access, bucket.uri("signed-prefix/"), "digits", store, policy=policy).release
        assert {file.path for file in release.manifest.files} == {"model.onnx", "model.sig"}
        bucket.put("signed-prefix/extra.py", b"import os")
        with pytest.raises(ArtifactRefused, match=r"'extra.py' is not signed"):
            sync(bucket.access, bucket.uri("signed-prefix/"), "digits", store, policy=policy)

    def test_an_old_signed_model_put_back_is_refused(self, bucket: Bucket, store, public_key):
        policy = ArtifactPolicy(public_keys=(public_key,))
        for days, content in ((1, b"new"), (0, b"old")):
            bucket.put("back/model.onnx", content)
            manifest = manifest_of(store, bucket, "back/model.onnx")
            text = sign(manifest, "digits", KEY, SIGNED + timedelta(days))
            bucket.put("back/model.onnx.sig", text.encode())
            if days:
                sync(bucket.access, bucket.uri("back/model.onnx"), "digits", store, policy=policy)
        with pytest.raises(ArtifactRefused, match="allow_older"):
            sync(bucket.access, bucket.uri("back/model.onnx"), "digits", store, policy=policy)
        assert len(store.releases("digits")) == 1


def test_a_source_that_is_not_allowed_is_not_even_looked_at(bucket: Bucket, store):
    policy = ArtifactPolicy(allowed_sources=(bucket.uri("trusted/"),))
    nowhere = bucket.elsewhere("http://127.0.0.1:1")
    with pytest.raises(ArtifactRefused, match="outside allowed_sources"):
        sync(nowhere, bucket.uri("trusted-not/model.onnx"), "digits", store, policy=policy)


def test_a_pickle_under_strict_is_no_release_and_one_from_before_is_not_handed_out(bucket: Bucket, store):
    bucket.put("pickled/model.onnx", pickle.dumps(print))
    artifact = describe(bucket.access, bucket.uri("pickled/model.onnx"))
    strict = ArtifactPolicy.of({"allowed_formats": "strict"})
    with pytest.raises(ArtifactRefused, match=r"'model.onnx' is of the format pickle"):
        sync(bucket.access, artifact, "digits", store, policy=strict)
    assert store.releases("digits") == ()
    sync(bucket.access, artifact, "digits", store)
    with pytest.raises(ArtifactRefused, match="pickle"):
        sync(bucket.access, artifact, "digits", store, policy=strict)


@pytest.fixture(scope="module")
def aws():
    """moto's S3: it knows accounts, regions and keys, which SeaweedFS does not."""
    server = ThreadedMotoServer("127.0.0.1", 0)
    server.start()
    host, port = server.get_host_and_port()
    access = AwsAccess(
        session=boto3.Session("AKIA", "secret", region_name="eu-central-1"),
        endpoints={"s3": f"http://{host}:{port}"},
    )
    client = access.client("s3")
    client.create_bucket(Bucket="site", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    arn = "arn:aws:kms:eu-central-1:123456789012:key/1234abcd"
    client.put_object(
        Bucket="site", Key="m/model.onnx", Body=b"w", ServerSideEncryption="aws:kms", SSEKMSKeyId=arn
    )
    client.put_object(Bucket="site", Key="m/plain.onnx", Body=b"w")
    yield access
    server.stop()


RIGHT = {
    "expected_region": "eu-central-1",
    "expected_kms_key": "arn:aws:kms:eu-central-1:123456789012:key/1234abcd",
}


@pytest.mark.parametrize("rules", [RIGHT, {"expected_kms_key": "1234abcd"}])
def test_what_is_where_and_whose_it_should_be_is_synced(aws, store, rules):
    policy = ArtifactPolicy.of(rules)
    assert (
        sync(aws, "s3://site/m/model.onnx", "digits", store, policy=policy).release.manifest.size_bytes == 1
    )


@pytest.mark.parametrize(
    ("rules", "key", "named"),
    [
        ({"expected_region": "us-east-1"}, "model.onnx", "in region eu-central-1, not us-east-1"),
        ({"expected_kms_key": "other"}, "model.onnx", "encrypted with arn:aws:kms.*not other"),
        ({"expected_kms_key": "1234abcd"}, "plain.onnx", "encrypted with no KMS key"),
        ({"expected_kms_key": "1234abcd"}, "", "plain.onnx is encrypted with no KMS key"),
    ],
)
def test_another_account_region_or_key_is_refused_before_a_byte_is_read(aws, store, rules, key, named):
    with pytest.raises(ArtifactRefused, match=named):
        sync(aws, f"s3://site/m/{key}", "digits", store, policy=ArtifactPolicy.of(rules))
    assert not store.root.exists()


def test_a_bucket_that_is_not_there_is_no_matter_of_accounts(aws, store):
    with pytest.raises(ConfigurationError, match="bucket does not exist"):
        sync(aws, "s3://nowhere/m/x", "digits", store, policy=ArtifactPolicy.of(RIGHT))


class OwnedBucket(BaseHTTPRequestHandler):
    """A bucket that answers as S3 does when it is asked whose it is, which no server for tests does."""

    def do_HEAD(self):
        expected = self.headers.get("x-amz-expected-bucket-owner")
        self.send_response(200 if expected in {None, "123456789012"} else 403)
        self.end_headers()

    def log_message(self, *_):
        pass


class TestAccount:
    @pytest.fixture
    def owned(self):
        with ThreadingHTTPServer(("127.0.0.1", 0), OwnedBucket) as server:
            thread = threading.Thread(target=server.serve_forever)
            thread.start()
            yield AwsAccess(
                session=boto3.Session("AKIA", "secret", region_name="eu-central-1"),
                endpoints={"s3": f"http://127.0.0.1:{server.server_port}"},
            )
            server.shutdown()
            thread.join()

    @staticmethod
    def check(access, account):
        artifact = Artifact(uri="s3://site/m", size_bytes=1, etag="e", version_id=None, last_modified=SIGNED)
        check_origin(access, artifact, ArtifactPolicy(expected_account=account))

    def test_the_owner_s_bucket_is_taken_and_another_s_is_not(self, owned):
        self.check(owned, "123456789012")
        with pytest.raises(ArtifactRefused, match="does not belong to account 210987654321"):
            self.check(owned, "210987654321")

    def test_a_server_that_does_not_look_at_owners_is_not_believed(self, aws):
        with pytest.raises(ConfigurationError, match="proves nothing"):
            self.check(aws, "123456789012")


class TestOperator:
    @staticmethod
    def run(bucket: Bucket, store: ReleaseStore, monkeypatch, key: str, **arguments):
        monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", aws_connection(bucket))
        operator = ModelArtifactSyncOperator(
            task_id="sync",
            model_name="digits",
            artifact=bucket.uri(key),
            store_root=str(store.root),
            **arguments,
        )
        return operator.execute(task_context())

    @pytest.mark.parametrize("written", [lambda policy: policy, str], ids=["mapping", "rendered"])
    def test_a_refusal_fails_the_task_at_once(self, bucket: Bucket, store, monkeypatch, written):
        bucket.put("operator-policy/model.onnx", pickle.dumps(print))
        with pytest.raises(AirflowFailException, match="which runs code"):
            self.run(
                bucket,
                store,
                monkeypatch,
                "operator-policy/model.onnx",
                policy=written({"allowed_formats": "strict"}),
            )

    def test_old_releases_are_pruned_after_the_sync(self, bucket: Bucket, store, monkeypatch):
        for number in range(3):
            bucket.put("operator-prune/model.onnx", b"%d" % number)
            last = self.run(bucket, store, monkeypatch, "operator-prune/model.onnx", keep_releases=1)
        assert last["reused_bytes"] == 0
        # They are of one second, so another than the last may count as the newest.
        assert set(store.release_ids("digits")) == {last["release_id"], max(store.release_ids("digits"))}
        assert len(store.release_ids("digits")) < 3
