"""OpenLineage's view of a sync, on the paths that bring nothing."""

from __future__ import annotations

import pytest

from hybrid_provider.operators.sync import ModelArtifactSyncOperator


def inputs(facets):
    assert facets.outputs == []
    return [(dataset.namespace, dataset.name) for dataset in facets.inputs]


@pytest.mark.parametrize(
    ("uri", "named"),
    [
        ("s3://models/jobs/x/model.tar.gz", ("s3://models", "jobs/x/model.tar.gz")),
        ("gs://models/x/", ("gs://models", "x/")),
        (
            "abfs://models@acme.dfs.core.windows.net/x.bin",
            ("abfs://models@acme.dfs.core.windows.net", "x.bin"),
        ),
        ("file:///srv/in/model.tar", ("file", "/srv/in/model.tar")),
    ],
)
def test_the_artifact_is_the_input_from_the_start_on_and_of_a_failure(uri, named):
    syncing = ModelArtifactSyncOperator(task_id="sync", model_name="digits", artifact=uri)

    assert inputs(syncing.get_openlineage_facets_on_start()) == [named]
    assert inputs(syncing.get_openlineage_facets_on_failure(None)) == [named]


def test_what_cannot_be_read_is_no_lineage_and_no_error():
    syncing = ModelArtifactSyncOperator(task_id="sync", model_name="digits", artifact="{{ broken")

    assert inputs(syncing.get_openlineage_facets_on_start()) == []
