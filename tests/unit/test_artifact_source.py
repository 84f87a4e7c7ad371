"""What an operator may be given as its artifact."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from hybrid_provider.artifacts.source import ArtifactSource
from hybrid_provider.exceptions import ConfigurationError

ARTIFACT = {
    "uri": "s3://models/m/model.tar.gz",
    "size_bytes": 7,
    "etag": "e1",
    "version_id": None,
    "last_modified": "2026-11-23T18:46:00+00:00",
}
TRAINING = {
    "job": "digits-1",
    "artifact": ARTIFACT,
    "ended": "2026-11-23T18:50:00+01:00",
    "metrics": {"a": 0.5},
}


def test_a_uri_is_all_that_is_known():
    source = ArtifactSource.read(" s3://models/m/model.tar.gz\n")
    assert (source.uri, source.artifact, source.created) == (ARTIFACT["uri"], None, None)


@pytest.mark.parametrize("render", [dict, str, json.dumps, lambda value: f"\n  {value}  "])
def test_training_output_is_read_as_a_dict_or_as_jinja_renders_it(render):
    source = ArtifactSource.read(render(TRAINING))
    assert source.artifact is not None
    assert source.artifact.to_dict() == ARTIFACT
    assert source.created == datetime(2026, 11, 23, 17, 50, tzinfo=UTC)
    assert source.training == {"job": "digits-1", "ended": TRAINING["ended"], "metrics": {"a": 0.5}}


def test_training_that_does_not_say_when_it_ended_leaves_the_date_open():
    assert ArtifactSource.read({"artifact": ARTIFACT}).created is None


@pytest.mark.parametrize(
    ("given", "named"),
    [
        (None, "returned nothing"),
        ("None", "s3://bucket/path"),
        ("", "s3://bucket/path"),
        ("s3://bucket", "s3://bucket/path"),
        ("s3://UPPER/key", "s3://bucket/path"),
        ("s3:/bucket/key", "s3://bucket/path"),
        ("ftp://bucket/key", "s3://bucket/path"),
        ("{'uri': object()}", "render_template_as_native_obj"),
        ("{" * 10_000, "render_template_as_native_obj"),
        (["s3://models/m.tar.gz"], "artifact is"),
        ({}, "needs uri"),
        ({**ARTIFACT, "size_bytes": "7"}, "needs uri"),
        ({**ARTIFACT, "last_modified": "yesterday"}, "yesterday"),
        ({**ARTIFACT, "last_modified": "2026-11-23T18:46:00"}, "needs uri"),
        ({**ARTIFACT, "uri": "/etc/passwd"}, "s3://bucket/path"),
        ({**TRAINING, "ended": "later"}, "'later'"),
    ],
)
def test_anything_else_is_refused_with_what_to_give(given, named):
    with pytest.raises(ConfigurationError, match=named):
        ArtifactSource.read(given)
