"""The policies of docs/iam with their conditions, judged over requests; test_iam.py has a server enforce the rest."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.iam_judge import Request, allowed

IAM = Path(__file__).parents[2] / "docs" / "iam"
BUCKET = "arn:aws:s3:::your-bucket"
MODEL = f"{BUCKET}/digits/jobs/j1/output/model.tar.gz"
ROLE = "arn:aws:iam::123456789012:role/hybrid-training"
ENDPOINT = {"aws:SourceVpce": "vpce-0123456789abcdef0"}
ANOTHER = {"aws:SourceVpce": "vpce-0fedcba9876543210"}


def judged(policy, action, resource, context=None, service=None):
    statements = json.loads((IAM / f"{policy}.json").read_text())["Statement"]
    return allowed(statements, Request(action, resource, context or {}, service))


@pytest.mark.parametrize(
    ("context", "through"),
    [(ENDPOINT, True), (ANOTHER, False), ({}, False), ({"aws:SourceVpc": "vpc-0123456789abcdef0"}, False)],
    ids=["the site's endpoint", "another endpoint", "the internet", "the VPC alone"],
)
@pytest.mark.parametrize(
    ("action", "resource", "more"),
    [
        ("s3:GetObject", MODEL, {}),
        ("s3:GetObjectVersion", MODEL, {}),
        ("s3:ListBucket", BUCKET, {"s3:prefix": "digits/jobs/j1/output/"}),
    ],
)
def test_a_model_is_read_through_the_sites_endpoint_alone(action, resource, more, context, through):
    assert judged("syncer-vpce", action, resource, context | more) == through
    # Without the variant, wherever the request comes from.
    assert judged("syncer", action, resource, context | more)


@pytest.mark.parametrize("policy", ["syncer", "syncer-vpce"])
@pytest.mark.parametrize(
    ("action", "resource", "more"),
    [
        ("s3:GetObject", f"{BUCKET}/digits/data/rows.csv", {}),
        ("s3:GetObject", f"{BUCKET}/digits/jobs", {}),
        ("s3:GetObject", f"{BUCKET}/digits/jobs-of-others/x", {}),
        ("s3:GetObject", f"{BUCKET}/other/digits/jobs/x", {}),
        ("s3:GetObject", "arn:aws:s3:::your-bucket-2/digits/jobs/x", {}),
        ("s3:ListBucket", BUCKET, {}),
        ("s3:ListBucket", BUCKET, {"s3:prefix": ""}),
        ("s3:ListBucket", BUCKET, {"s3:prefix": "digits/"}),
        ("s3:ListBucket", BUCKET, {"s3:prefix": "digits/data/"}),
        ("s3:ListBucket", "arn:aws:s3:::your-bucket-2", {"s3:prefix": "digits/jobs/"}),
        ("s3:PutObject", MODEL, {}),
        ("s3:DeleteObject", MODEL, {}),
        ("s3:DeleteObjectVersion", MODEL, {}),
        ("s3:PutObjectAcl", MODEL, {}),
        ("s3:PutBucketPolicy", BUCKET, {}),
        ("sagemaker:CreateTrainingJob", "*", {}),
        ("iam:PassRole", ROLE, {"iam:PassedToService": "sagemaker.amazonaws.com"}),
    ],
)
def test_a_syncer_reads_nothing_beside_the_models_and_writes_nothing(policy, action, resource, more):
    assert not judged(policy, action, resource, ENDPOINT | more)


def test_the_endpoints_guard_denies_also_what_another_policy_of_the_identity_allows():
    guarded = json.loads((IAM / "syncer-vpce.json").read_text())["Statement"]
    everything = [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]
    read = Request("s3:GetObject", MODEL)

    assert allowed(everything, read)
    assert not allowed([*everything, *guarded], read)
    assert allowed([*everything, *guarded], Request("s3:GetObject", MODEL, ENDPOINT))


@pytest.mark.parametrize(
    ("role", "service", "passed"),
    [
        (ROLE, "sagemaker.amazonaws.com", True),
        (ROLE, "ec2.amazonaws.com", False),
        (ROLE, None, False),
        ("arn:aws:iam::123456789012:role/administrator", "sagemaker.amazonaws.com", False),
    ],
)
def test_a_submitter_hands_the_training_role_to_sagemaker_alone(role, service, passed):
    context = {"iam:PassedToService": service} if service else {}

    assert judged("submitter", "iam:PassRole", role, context) == passed


@pytest.mark.parametrize(
    ("prefix", "found"), [("digits/jobs/j1/", True), ("digits/data/", False), ("", False), (None, False)]
)
def test_a_submitter_lists_the_jobs_folder_alone(prefix, found):
    context = {} if prefix is None else {"s3:prefix": prefix}

    assert judged("submitter", "s3:ListBucket", BUCKET, context) == found


@pytest.mark.parametrize(
    ("namespace", "reported"), [("/aws/sagemaker/TrainingJobs", True), ("AWS/Billing", False), (None, False)]
)
def test_a_training_reports_metrics_of_trainings_alone(namespace, reported):
    context = {} if namespace is None else {"cloudwatch:namespace": namespace}

    assert judged("training-role", "cloudwatch:PutMetricData", "*", context) == reported


@pytest.mark.parametrize(
    ("service", "account", "trusted"),
    [
        ("sagemaker.amazonaws.com", "123456789012", True),
        ("sagemaker.amazonaws.com", "210987654321", False),
        ("sagemaker.amazonaws.com", None, False),
        ("lambda.amazonaws.com", "123456789012", False),
        (None, "123456789012", False),
    ],
)
def test_the_training_role_is_sagemakers_for_this_account(service, account, trusted):
    context = {"aws:SourceAccount": account} if account else {}

    assert judged("training-role-trust", "sts:AssumeRole", ROLE, context, service) == trusted


@pytest.mark.parametrize(
    ("condition", "context", "expected"),
    [
        ({"StringEquals": {"a:B": ["1", "2"]}}, {"A:b": "2"}, True),
        ({"StringEquals": {"a:b": "1"}}, {}, False),
        ({"StringEqualsIfExists": {"a:b": "1"}}, {}, True),
        ({"StringEqualsIfExists": {"a:b": "1"}}, {"a:b": "2"}, False),
        ({"StringNotEquals": {"a:b": ["1", "2"]}}, {"a:b": "2"}, False),
        ({"StringNotEquals": {"a:b": "1"}}, {}, True),
        ({"StringLike": {"a:b": "x[a]?*"}}, {"a:b": "x[a]yz"}, True),
        ({"StringLike": {"a:b": "x[a]?*"}}, {"a:b": "xay"}, False),
        ({"StringNotLike": {"a:b": "x*"}}, {"a:b": "xy"}, False),
        ({"Bool": {"aws:SecureTransport": "false"}}, {"aws:SecureTransport": "False"}, True),
        ({"Null": {"a:b": "true"}}, {}, True),
        ({"Null": {"a:b": "true"}}, {"a:b": "1"}, False),
        ({"StringEquals": {"a:b": "1"}, "StringLike": {"c:d": "*"}}, {"a:b": "1"}, False),
    ],
)
def test_the_judge_follows_what_aws_documents_of_conditions(condition, context, expected):
    statement = {"Effect": "Allow", "Action": "x:*", "Resource": "*", "Condition": condition}

    assert allowed([statement], Request("x:Y", "r", context)) == expected


def test_the_judge_guesses_nothing():
    for more in ({"NotAction": "x:*"}, {"Condition": {"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}}}):
        statement = {"Effect": "Allow", "Action": "x:*", "Resource": "*", **more}
        with pytest.raises(NotImplementedError):
            allowed([statement], Request("x:Y", "r", {"aws:SourceIp": "10.0.0.1"}))
