"""OpenLineage's view of a training, on every path."""

from __future__ import annotations

import pytest

from hybrid_provider.operators.train import SageMakerTrainOperator

RESULT = {"artifact": {"uri": "s3://models/jobs/x/output/model.tar.gz"}}
CHANNEL = {
    "ChannelName": "a",
    "DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": "s3://b/a/"}},
}


def operator(**arguments):
    return SageMakerTrainOperator(task_id="train", model_name="digits", **arguments)


def names(datasets):
    return [(dataset.namespace, dataset.name) for dataset in datasets]


@pytest.mark.parametrize(
    "arguments",
    [
        {"inputs": {"a": "s3://b/a/"}},
        {"inputs": "{'a': 's3://b/a/'}"},
        {"inputs": {"a": {"DataSource": CHANNEL["DataSource"]}}},
        {"config": {"InputDataConfig": [CHANNEL]}},
    ],
)
def test_the_channels_are_the_inputs_from_the_start_on_however_they_were_given(arguments):
    assert names(operator(**arguments).get_openlineage_facets_on_start().inputs) == [("s3://b", "a/")]
    assert names(operator(**arguments).get_openlineage_facets_on_failure(None).inputs) == [("s3://b", "a/")]


def test_the_artifact_is_the_output_whichever_process_delivered_it():
    resumed = operator(inputs={"a": "s3://b/a/"})
    resumed._result = RESULT

    facets = resumed.get_openlineage_facets_on_complete(None)

    assert names(facets.inputs) == [("s3://b", "a/")]
    assert names(facets.outputs) == [("s3://models", "jobs/x/output/model.tar.gz")]


def test_what_cannot_be_read_is_no_lineage_and_no_error():
    facets = operator(inputs="{{ broken").get_openlineage_facets_on_start()

    assert (facets.inputs, facets.outputs) == ([], [])
