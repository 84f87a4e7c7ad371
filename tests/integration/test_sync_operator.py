"""The sync operator, given what tasks before it return, against a real S3."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from airflow.sdk import Asset
from airflow.sdk.exceptions import AirflowFailException

from hybrid_provider.artifacts.s3 import describe
from hybrid_provider.artifacts.store import ReleaseStore
from hybrid_provider.evidence.chain import Head
from hybrid_provider.exceptions import ArtifactChanged
from hybrid_provider.fleet.assets import model_asset
from hybrid_provider.operators import sync as module
from hybrid_provider.operators.sync import ModelArtifactSyncOperator
from tests.integration.airflow_task import aws_connection, task_context

if TYPE_CHECKING:
    from tests.integration.s3bucket import Bucket


@pytest.fixture
def artifact(bucket: Bucket, monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", aws_connection(bucket))
    bucket.put("operator/model.onnx", b"weights")
    return describe(bucket.access, bucket.uri("operator/model.onnx"))


def task(artifact, tmp_path, **arguments):
    arguments = {"store_root": str(tmp_path / "store"), **arguments}
    return ModelArtifactSyncOperator(task_id="sync", model_name="digits", artifact=artifact, **arguments)


def run(artifact, tmp_path, **arguments):
    return task(artifact, tmp_path, **arguments).execute(task_context())


def test_it_returns_a_release_that_json_can_carry(artifact, tmp_path):
    release = run(artifact.to_dict(), tmp_path)
    assert json.loads(json.dumps(release)) == release
    keys = "model release_id digest path files size_bytes artifact seconds reused_bytes"
    assert release.keys() == {*keys.split()}
    assert Path(release["path"], "model.onnx").read_bytes() == b"weights"
    assert (release["model"], release["files"], release["size_bytes"]) == ("digits", 1, 7)
    assert release["artifact"] == artifact.to_dict()
    assert release["reused_bytes"] == 0


def test_training_output_dates_the_release(artifact, tmp_path):
    ended = artifact.last_modified + timedelta(days=1)
    training = {
        "job": "digits-1",
        "artifact": artifact.to_dict(),
        "ended": ended.isoformat(),
        "arn": "arn:aws:sagemaker:eu-central-1:123456789012:training-job/digits-1",
        "metrics": {"acc": 0.9},
        "inputs": ["s3://data/train/"],
    }
    release = run(training, tmp_path)
    assert release["release_id"].startswith(f"{ended:%Y%m%dT%H%M%SZ}-")
    provenance = json.loads((tmp_path / f"store/digits/provenance/{release['release_id']}.json").read_text())
    assert provenance["training"] == {key: fact for key, fact in training.items() if key != "artifact"}
    assert provenance["run"] == {"dag_id": "retrain", "task_id": "sync", "run_id": "manual"}


def test_the_models_event_says_which_release_came_and_the_head_of_the_evidence(artifact, tmp_path):
    training = {"job": "digits-1", "artifact": artifact.to_dict(), "arn": "arn:x", "metrics": {"acc": 0.9}}
    context = task_context()
    outlets = [model_asset("digits"), Asset("s3://other/")]
    release = task(training, tmp_path, outlets=outlets).execute(context)

    extra = json.loads(json.dumps(context["outlet_events"][outlets[0]].extra))
    assert (extra["kind"], extra["release"], extra["digest"]) == (
        "sync",
        release["release_id"],
        release["digest"],
    )
    assert extra["artifact"] == artifact.to_dict()
    assert extra["training"] == {"job": "digits-1", "arn": "arn:x"}
    assert (extra["dag_id"], extra["task_id"], extra["run_id"]) == ("retrain", "sync", "manual")
    chain = ReleaseStore(tmp_path / "store").evidence
    assert chain.verify(Head(**extra["evidence"])).length == 1
    assert outlets[1] not in context["outlet_events"]


def test_without_the_models_asset_as_an_outlet_no_event_is_touched(artifact, tmp_path):
    context = task_context()
    task(artifact.to_dict(), tmp_path).execute(context)
    assert context["outlet_events"] == {}


def test_lineage_leads_from_the_artifact_to_the_releases_folder(artifact, tmp_path):
    syncing = task(artifact.to_dict(), tmp_path)
    release = syncing.execute(task_context())
    facets = syncing.get_openlineage_facets_on_complete(None)
    assert [(one.namespace, one.name) for one in facets.inputs] == [("s3://artifacts", "operator/model.onnx")]
    assert [(one.namespace, one.name) for one in facets.outputs] == [("file", release["path"])]


@pytest.mark.parametrize("render", [str, json.dumps, lambda value: value["uri"]], ids=["str", "json", "uri"])
def test_an_artifact_that_jinja_made_a_string_is_the_same_artifact(artifact, tmp_path, render):
    assert run(render(artifact.to_dict()), tmp_path)["artifact"] == artifact.to_dict()


def test_the_store_is_where_the_configuration_says(artifact, tmp_path, monkeypatch):
    monkeypatch.setenv("AIRFLOW__HYBRID__STORE_ROOT", str(tmp_path / "configured"))
    assert Path(run(artifact.to_dict(), tmp_path, store_root=None)["path"]).is_relative_to(
        tmp_path / "configured"
    )


def test_the_second_run_finds_the_release(artifact, tmp_path):
    first, second = (run(artifact.to_dict(), tmp_path) for _ in range(2))
    assert second["release_id"] == first["release_id"]
    assert second["reused_bytes"] == artifact.size_bytes


def test_a_long_transfer_is_not_silent(artifact, tmp_path, monkeypatch, capsys):
    assert module.SECONDS_BETWEEN_LINES == 5
    monkeypatch.setattr(module, "SECONDS_BETWEEN_LINES", 0)
    run(artifact.to_dict(), tmp_path)
    log = capsys.readouterr().out
    assert "7 B of 7 B" in log
    assert "synced and verified" in log


def test_how_long_a_transfer_must_take_to_be_resumed_is_the_dags_to_say(artifact, tmp_path, monkeypatch):
    given = []

    def sync(*arguments, transfer, **more):
        given.append(transfer.resumable_from)
        return real(*arguments, transfer=transfer, **more)

    real = module.sync
    monkeypatch.setattr(module, "sync", sync)
    run(artifact.to_dict(), tmp_path, resumable_from=timedelta(0))
    run(artifact.to_dict(), tmp_path)
    assert given == [timedelta(0), timedelta(minutes=1)]


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ("s3://artifacts/operator/absent.bin", "absent.bin"),
        ("s3://nowhere/model.tar.gz", "bucket does not exist"),
        ("/tmp/model.tar.gz", "s3://bucket/path"),
        (None, "returned nothing"),
        ("{'uri': open('/etc/passwd')}", "render_template_as_native_obj"),
        ({"uri": "s3://artifacts/model.onnx"}, "size_bytes"),
    ],
)
def test_a_mistake_fails_the_task_at_once_with_one_message(artifact, tmp_path, given, named):
    with pytest.raises(AirflowFailException, match=named) as failure:
        run(given, tmp_path)
    assert failure.value.__cause__ is None
    assert failure.value.__context__ is None


def test_a_model_name_that_climbs_is_refused(artifact, tmp_path):
    operator = ModelArtifactSyncOperator(task_id="sync", model_name="../etc", artifact=artifact.to_dict())
    with pytest.raises(AirflowFailException, match=r"\.\./etc"):
        operator.execute(task_context())


def test_a_connection_that_is_not_there_is_named(artifact, tmp_path):
    with pytest.raises(AirflowFailException, match="aws connection 'nobody'"):
        run(artifact.to_dict(), tmp_path, aws_conn_id="nobody")


def test_an_artifact_replaced_since_training_is_worth_a_retry(bucket: Bucket, artifact, tmp_path):
    bucket.put("operator/model.onnx", b"other weights")
    with pytest.raises(ArtifactChanged, match="replaced"):
        run(artifact.to_dict(), tmp_path)
