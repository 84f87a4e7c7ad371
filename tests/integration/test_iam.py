"""The IAM policies of docs/iam: enough for what the product does, and for nothing beside it.

S3's are enforced by moto's server, which knows actions and resources and takes every condition for not met; so what
stands under a condition is given to it without; the conditions are judged in tests/unit/test_iam_policies.py, by a judge
that is held against moto here. SageMaker's, CloudWatch's and IAM's actions are held against every call that a
training makes to the emulator.
"""

from __future__ import annotations

import contextlib
import json
import threading
import urllib.request
from pathlib import Path
from uuid import uuid4

import boto3
import pytest
from airflow.sdk.exceptions import AirflowException, AirflowFailException
from botocore.client import BaseClient
from moto.server import ThreadedMotoServer

from hybrid_provider.artifacts.store import ReleaseStore
from hybrid_provider.artifacts.sync import sync
from hybrid_provider.emulator import Emulator
from hybrid_provider.exceptions import ArtifactError, ConfigurationError
from tests.iam_judge import Request, allowed, many
from tests.integration.s3bucket import REGION, access_to
from tests.servers import free_port
from tests.training_stage import BUCKET as CLOUD_BUCKET
from tests.training_stage import Instance, Puppets, environment, train

IAM = Path(__file__).parents[2] / "docs" / "iam"
BUCKET = "your-bucket"  # as the policies name it


def statements(name):
    return {
        statement["Sid"]: statement
        for statement in json.loads((IAM / f"{name}.json").read_text())["Statement"]
    }


def granted(statement):
    """Without its condition, which moto takes for not met; an exception without its condition would deny all."""
    return {key: value for key, value in statement.items() if key != "Condition"}


@pytest.fixture(scope="module")
def enforced():
    """An S3 that enforces policies; calling it with a policy's name gives the access of a user who has that alone."""
    port = free_port()
    server = ThreadedMotoServer("127.0.0.1", port)
    server.start()
    endpoint = f"http://127.0.0.1:{port}"

    def admin(service):
        return boto3.client(
            service, REGION, endpoint_url=endpoint, aws_access_key_id="a", aws_secret_access_key="b"
        )

    def enforce(after):
        # Without a type of its own the body would be read as a form, and be gone.
        request = urllib.request.Request(
            f"{endpoint}/moto-api/reset-auth", str(after).encode(), {"Content-Type": "text/plain"}
        )
        urllib.request.urlopen(request).close()

    s3 = admin("s3")
    s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
    for key in (
        "digits/jobs/j1/output/model.onnx",
        "digits/data/train.csv",
        "other/jobs/j1/output/model.onnx",
    ):
        s3.put_object(Bucket=BUCKET, Key=key, Body=b"weights")

    def access(policy):
        enforce("inf")
        iam, user = admin("iam"), f"u-{uuid4().hex[:8]}"
        iam.create_user(UserName=user)
        document = {
            "Version": "2012-10-17",
            "Statement": [granted(each) for each in statements(policy).values() if each["Effect"] == "Allow"],
        }
        iam.put_user_policy(UserName=user, PolicyName="p", PolicyDocument=json.dumps(document))
        key = iam.create_access_key(UserName=user)["AccessKey"]
        enforce(0)
        return access_to(endpoint, key["AccessKeyId"], key["SecretAccessKey"])

    try:
        yield access
    finally:
        enforce("inf")
        server.stop()


@pytest.mark.parametrize("policy", ["syncer", "syncer-vpce"])
def test_the_syncers_policy_is_enough_for_a_sync(enforced, policy, tmp_path):
    source = f"s3://{BUCKET}/digits/jobs/j1/output/model.onnx"
    result = sync(enforced(policy), source, "digits", ReleaseStore(tmp_path))
    assert (result.release.path / "model.onnx").read_bytes() == b"weights"


@pytest.mark.parametrize("key", ["digits/data/train.csv", "other/jobs/j1/output/model.onnx"])
def test_the_syncers_policy_reads_nothing_beside_the_models(enforced, key, tmp_path):
    with pytest.raises((ArtifactError, ConfigurationError), match=r"denied|403|not allowed|may not"):
        sync(enforced("syncer"), f"s3://{BUCKET}/{key}", "digits", ReleaseStore(tmp_path))


def test_the_syncers_policy_changes_nothing(enforced):
    client = enforced("syncer").client("s3")
    key = "digits/jobs/j1/output/model.onnx"
    for change in (
        lambda: client.put_object(Bucket=BUCKET, Key=key, Body=b"x"),
        lambda: client.delete_object(Bucket=BUCKET, Key=key),
        lambda: client.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"}),
    ):
        with pytest.raises(client.exceptions.ClientError, match="AccessDenied"):
            change()


def test_a_submitter_uploads_sources_and_nothing_else(enforced):
    client = enforced("submitter").client("s3")
    client.put_object(Bucket=BUCKET, Key="digits/jobs/hybrid-source/abc/sourcedir.tar.gz", Body=b"x")
    client.head_object(Bucket=BUCKET, Key="digits/jobs/j1/output/model.onnx")
    for key in ("digits/data/train.csv", "digits/jobs/j1/output/model.onnx", "other/x"):
        with pytest.raises(client.exceptions.ClientError, match="AccessDenied"):
            client.put_object(Bucket=BUCKET, Key=key, Body=b"x")
    with pytest.raises(client.exceptions.ClientError, match="403"):
        client.head_object(Bucket=BUCKET, Key="digits/data/train.csv")


def test_the_training_role_reads_data_and_writes_models(enforced):
    client = enforced("training-role").client("s3")
    client.get_object(Bucket=BUCKET, Key="digits/data/train.csv")
    client.put_object(Bucket=BUCKET, Key="digits/jobs/j2/output/model.tar.gz", Body=b"x")
    with pytest.raises(client.exceptions.ClientError, match="AccessDenied"):
        client.put_object(Bucket=BUCKET, Key="digits/data/train.csv", Body=b"x")
    with pytest.raises(client.exceptions.ClientError, match="AccessDenied"):
        client.get_object(Bucket=BUCKET, Key="other/jobs/j1/output/model.onnx")


@pytest.mark.parametrize("policy", ["syncer", "syncer-vpce", "submitter", "training-role"])
def test_the_judge_of_conditions_and_a_server_that_enforces_say_the_same(enforced, policy):
    """Where both can judge: test_iam_policies.py goes on from here, with conditions."""
    client = enforced(policy).client("s3")
    calls = {
        "s3:GetObject": lambda key: client.get_object(Bucket=BUCKET, Key=key),
        "s3:PutObject": lambda key: client.put_object(Bucket=BUCKET, Key=key, Body=b"x"),
    }
    mine = [granted(each) for each in statements(policy).values() if each["Effect"] == "Allow"]
    for key in (
        "digits/jobs/j1/output/model.onnx",
        "digits/data/train.csv",
        "other/jobs/j1/output/model.onnx",
    ):
        for action, call in calls.items():
            denied = False
            try:
                call(key)
            except client.exceptions.ClientError as error:
                denied = error.response["Error"]["Code"] == "AccessDenied"
                assert denied
            assert denied != allowed(mine, Request(action, f"arn:aws:s3:::{BUCKET}/{key}")), (action, key)


def test_the_endpoints_variant_grants_what_the_syncers_policy_does():
    without = {
        sid: each for sid, each in statements("syncer-vpce").items() if sid != "OnlyThroughTheSitesEndpoint"
    }
    assert without == statements("syncer")


@pytest.mark.parametrize("path", sorted(IAM.glob("*.json")), ids=lambda path: path.stem)
def test_no_policy_grants_all_actions_of_a_service(path):
    for statement in statements(path.stem).values():
        if statement["Effect"] == "Allow":
            assert not [action for action in many(statement["Action"]) if "*" in action]


# Operations whose action has another name than they have.
ACTIONS = {
    "s3:HeadObject": "s3:GetObject",
    "s3:ListObjectsV2": "s3:ListBucket",
    "s3:HeadBucket": "s3:ListBucket",
}


def test_every_call_of_a_training_is_in_the_submitters_policy(tmp_path, monkeypatch):
    called = set()
    make_call = BaseClient._make_api_call

    def recorded(client, operation, parameters):
        action = f"{client.meta.service_model.signing_name}:{operation}"
        called.add(ACTIONS.get(action, action))
        return make_call(client, operation, parameters)

    (tmp_path / "train.py").write_text("print('trained')\n")
    with Emulator(tmp_path / "cloud", hosts=0, runner_for=Puppets().runner_for) as emulator:
        emulator.client("s3").create_bucket(Bucket=CLOUD_BUCKET)
        for name, value in environment(emulator).items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(BaseClient, "_make_api_call", recorded)
        for number, plan in enumerate(["train", "fail"]):
            with contextlib.suppress(AirflowFailException):
                Instance(run_id=f"r{number}").attempt(train(plan, deferrable=bool(number)))
        killed = train("wait")
        stopper = threading.Timer(1, killed.on_kill)
        stopper.start()
        with contextlib.suppress(AirflowException):
            Instance(run_id="r3").attempt(killed)
        stopper.join()

    # The emulator runs in this process, and does what the training role may.
    allowed = {
        action
        for policy in ("submitter", "training-role")
        for each in statements(policy).values()
        for action in many(each["Action"])
    }
    assert {"sagemaker:CreateTrainingJob", "sagemaker:StopTrainingJob", "logs:GetLogEvents"} <= called
    assert called <= allowed
