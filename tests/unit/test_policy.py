"""What a site takes: sources, formats and the values that a DAG gives."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from hybrid_provider.artifacts.formats import RUNS_CODE, Format
from hybrid_provider.artifacts.policy import ArtifactPolicy
from hybrid_provider.exceptions import ArtifactRefused, ConfigurationError
from tests.releases import make_release

SOURCES = ArtifactPolicy(allowed_sources=("s3://site/models/", "s3://other/one.tar.gz"))


@pytest.mark.parametrize(
    "uri",
    ["s3://site/models/a.tar.gz", "s3://site/models/deep/b/", "s3://site/models/", "s3://other/one.tar.gz"],
)
def test_what_lies_below_an_allowed_source_may_be_read(uri):
    SOURCES.check_source(uri)


@pytest.mark.parametrize(
    "uri",
    [
        "s3://site/models-evil/a.tar.gz", "s3://site/models", "s3://site/MODELS/a", "s3://site/", "s3://site2/models/a",
        "s3://evil/site/models/a", "gs://site/models/a", "S3://site/models/a", "s3://site/models/../x",
        "s3://site/models/%2e%2e/x", "s3://site/models/%2E./x", "s3://site/models/..%2fx", "s3://site/models/./x",
        "s3://site//models/x", "s3://site/models//x", "s3://site/models/..\\x", "s3://other/one.tar.gz.exe",
        "s3://other/one.tar.gz/x", "/site/models/a", "s3:/site/models/a", "s3://site/models/x\\..\\..\\y", "",
    ],
)  # fmt: skip
def test_no_spelling_leads_out_of_the_allowed_sources(uri):
    with pytest.raises(ArtifactRefused):
        SOURCES.check_source(uri)


def test_a_source_without_a_slash_at_its_end_is_one_object():
    one = ArtifactPolicy(allowed_sources=("s3://site/models",))
    one.check_source("s3://site/models")
    with pytest.raises(ArtifactRefused, match="allowed_sources"):
        one.check_source("s3://site/models/a")


def test_without_rules_everything_may_be_read(tmp_path):
    ArtifactPolicy().check_source("whatever")
    release = make_release(tmp_path, {"model.pkl": pickle.dumps(1)})
    ArtifactPolicy().check_formats(release.path, release.manifest)


def test_strict_names_the_file_that_runs_code_and_the_formats_that_do_not(tmp_path):
    release = make_release(tmp_path, {"model.onnx": b"\x08\x09\0", "code/weights.bin": pickle.dumps(print)})
    with pytest.raises(
        ArtifactRefused, match=r"'code/weights.bin' is of the format pickle, which runs.*onnx"
    ):
        ArtifactPolicy.of({"allowed_formats": "strict"}).check_formats(release.path, release.manifest)


def test_a_list_of_formats_allows_no_other(tmp_path):
    release = make_release(
        tmp_path, {"model.onnx": b"\x08\x09\0", "readme.txt": b"hello", "model.sig": b"{}"}
    )
    ArtifactPolicy.of({"allowed_formats": ["onnx", "text"]}).check_formats(release.path, release.manifest)
    with pytest.raises(
        ArtifactRefused, match=r"'readme.txt' is of the format text; allowed_formats has onnx"
    ):
        ArtifactPolicy.of({"allowed_formats": ["onnx"]}).check_formats(release.path, release.manifest)


def test_a_mapping_of_plain_values_is_a_policy():
    policy = ArtifactPolicy.of(
        {
            "allowed_sources": "s3://site/",
            "allowed_formats": "strict",
            "expected_account": "012345678901",
            "expected_region": "eu-central-1",
            "expected_kms_key": None,
            "public_keys": "/etc/key.pem",
            "allow_older": True,
        }
    )
    assert policy == ArtifactPolicy(
        allowed_sources=("s3://site/",),
        allowed_formats=frozenset(Format) - RUNS_CODE,
        expected_account="012345678901",
        expected_region="eu-central-1",
        public_keys=(Path("/etc/key.pem"),),
        allow_older=True,
    )
    assert ArtifactPolicy.of(None) == ArtifactPolicy()
    assert ArtifactPolicy.of(policy) is policy


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"allowed_source": "s3://site/"}, "'allowed_source'.*allowed_sources"),
        ({"allowed_sources": ["site/models"]}, "site/models"),
        ({"allowed_sources": ["s3://site/a/../"]}, r"\.\."),
        ({"allowed_sources": 7}, "list of texts"),
        ({"allowed_formats": ["onyx"]}, "onyx.*safetensors"),
        ({"expected_account": 12345678901}, "in quotes"),
        ({"expected_account": "1234"}, "12 digits"),
        ({"expected_kms_key": "alias/models"}, "alias"),
        ({"expected_region": ["eu"]}, "expected_region"),
        ({"allow_older": "no"}, "True or False"),
    ],
)
def test_a_mistake_in_a_policy_is_explained(given, named):
    with pytest.raises(ConfigurationError, match=named):
        ArtifactPolicy.of(given)


def test_no_link_on_this_machine_leads_out_of_the_allowed_sources(tmp_path):
    (tmp_path / "models/digits").mkdir(parents=True)
    (tmp_path / "models/secret").symlink_to("/etc")
    policy = ArtifactPolicy(allowed_sources=(f"file://{tmp_path}/models/",))
    policy.check_source(f"file://{tmp_path}/models/digits/")
    with pytest.raises(ArtifactRefused, match="lies outside"):
        policy.check_source(f"file://{tmp_path}/models/secret/passwd")
