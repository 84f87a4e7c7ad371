"""Google Cloud Storage, Azure Blob Storage and this machine's files, each on a real server."""

from __future__ import annotations

import asyncio
import io
import json
import os
import tarfile
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING

import obstore
import pytest
from airflow.sdk.exceptions import TaskDeferred
from obstore.exceptions import GenericError

from hybrid_provider.artifacts.clouds import CloudAccess, cloud_errors_explained, open_cloud
from hybrid_provider.artifacts.objects import Location
from hybrid_provider.artifacts.reading import describe
from hybrid_provider.artifacts.store import ReleaseStore
from hybrid_provider.artifacts.sync import sync
from hybrid_provider.exceptions import (
    ArtifactChanged,
    ArtifactNotFound,
    ArtifactRefused,
    ArtifactUnavailable,
    ConfigurationError,
)
from hybrid_provider.hooks.objects import access_for, azure_access, google_access
from hybrid_provider.sensors.artifact import ModelArtifactSensor
from hybrid_provider.triggers.artifact import ModelArtifactTrigger
from hybrid_provider.triggers.artifact_event import ModelArtifactEventTrigger
from tests.integration.airflow_task import task_context
from tests.integration.cloud_servers import SMALL_PARTS, Cloud, azure_config
from tests.integration.plain_server import redirecting_server

if TYPE_CHECKING:
    from pathlib import Path

FILES = {"model.bin": os.urandom(300_000), "code/inference.py": b"print('hello')\n", "empty": b""}


@pytest.fixture
def files(tmp_path) -> Cloud:
    def put(key: str, body: bytes) -> None:
        path = tmp_path / "files" / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_name("new").write_bytes(body)
        path.with_name("new").replace(path)

    return Cloud(CloudAccess(cloud="file"), f"file://{tmp_path}/files/", put, {})


@pytest.fixture(params=["google", "azure", "files"])
def cloud(request: pytest.FixtureRequest) -> Cloud:
    return request.getfixturevalue(request.param)


@pytest.fixture
def store(tmp_path):
    return ReleaseStore(tmp_path / "store")


def packed() -> bytes:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz") as tar:
        for name, content in FILES.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return archive.getvalue()


def files_of(folder: Path):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_an_archive_and_a_prefix_of_its_files_are_the_same_release(cloud: Cloud, store):
    cloud.put("same/model.tar.gz", packed())
    for name, content in FILES.items():
        cloud.put(f"same/files/{name}", content)
    archive, prefix = (
        sync(cloud.access, cloud.uri(key), "digits", store, transfer=SMALL_PARTS)
        for key in ("same/model.tar.gz", "same/files/")
    )
    assert files_of(archive.release.path) == FILES
    assert prefix.release.digest == archive.release.digest
    again = sync(cloud.access, cloud.uri("same/files/"), "digits", store)
    assert again.reused_bytes == sum(map(len, FILES.values()))


def test_an_object_replaced_while_it_is_read_is_not_a_release(cloud: Cloud, store):
    cloud.put("replaced/model.bin", FILES["model.bin"])
    replaced = []

    def put_another(_):
        if not replaced:
            replaced.append(1)
            cloud.put("replaced/model.bin", os.urandom(300_000))

    policy = replace(SMALL_PARTS, parts_in_flight=1)
    with pytest.raises(ArtifactChanged, match=r"replaced/model\.bin was replaced"):
        sync(
            cloud.access,
            cloud.uri("replaced/model.bin"),
            "digits",
            store,
            transfer=policy,
            progress=put_another,
        )
    assert store.releases("digits") == ()


@pytest.mark.parametrize("key", ["no/such/model.tar.gz", "no/such/"])
def test_nothing_there_is_not_found(cloud: Cloud, key):
    with pytest.raises(ArtifactNotFound, match="check the URI"):
        describe(cloud.access, cloud.uri(key), SMALL_PARTS)


def test_a_connection_gives_the_access(cloud: Cloud, store, monkeypatch):
    for name, value in cloud.environment.items():
        monkeypatch.setenv(name, value)
    cloud.put("connection/model.bin", b"content")
    uri = cloud.uri("connection/model.bin")
    access = access_for(SimpleNamespace(gcp_conn_id=None, wasb_conn_id="wasb_default"), uri)
    assert files_of(sync(access, uri, "digits", store).release.path) == {"model.bin": b"content"}


@pytest.fixture
def connected(cloud: Cloud, monkeypatch) -> Cloud:
    """The cloud, with what Airflow's own connections to it are."""
    monkeypatch.setenv("AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT", '{"conn_type": "google_cloud_platform"}')
    for name, value in cloud.environment.items():
        monkeypatch.setenv(name, value)
    return cloud


async def test_the_sensor_takes_an_artifact_on_a_worker_and_in_the_triggerer(connected: Cloud):
    connected.put("sensed/model.bin", b"content")
    uri = connected.uri("sensed/model.bin")
    seen = describe(connected.access, uri, SMALL_PARTS).to_dict()
    sensor = ModelArtifactSensor(task_id="arrived", artifact=uri, poke_interval=0)
    assert sensor.execute(task_context()) == seen
    waiting = ModelArtifactSensor(task_id="arrived", artifact=uri, poke_interval=0, deferrable=True)
    with pytest.raises(TaskDeferred) as deferral:
        waiting.execute(task_context())
    _, arguments = deferral.value.trigger.serialize()
    (event,) = [event async for event in ModelArtifactTrigger(**arguments).run()]
    assert waiting.resume(task_context(), event.payload) == seen


def test_the_sensor_takes_the_newest_whole_folder(connected: Cloud):
    for run in ("1", "2"):
        connected.put(f"nightly/{run}/model/weights", run.encode())
    search = {"newest": "model/", "marker": "_SUCCESS", "poke_interval": 0}
    sensor = ModelArtifactSensor(task_id="arrived", artifact=connected.uri("nightly/"), **search)
    context = task_context()
    assert not sensor.poke(context)
    connected.put("nightly/1/model/_SUCCESS", b"")
    assert not sensor.poke(context)
    assert sensor.poke(context).xcom_value["uri"] == connected.uri("nightly/1/model/")


def test_the_sensor_waits_for_what_is_not_there_yet(connected: Cloud):
    absent = ModelArtifactSensor(task_id="arrived", artifact=connected.uri("absent.bin"), poke_interval=0)
    assert not absent.poke(task_context())


async def test_each_artifact_fires_its_event_once(connected: Cloud):
    arguments = {"uri": connected.uri("watched/"), "newest": "model.bin", "poke_interval": 0.01}
    kept = ModelArtifactEventTrigger(**arguments).serialize()[1]
    events = ModelArtifactEventTrigger(**kept).run()
    for run in ("1", "2"):
        connected.put(f"watched/{run}/model.bin", run.encode())
        event = await asyncio.wait_for(anext(events), 60)
        assert event.payload["artifact"]["uri"] == connected.uri(f"watched/{run}/model.bin")


def test_an_access_to_another_cloud_is_a_mistake(cloud: Cloud):
    with pytest.raises(ConfigurationError, match="the URI's cloud"):
        describe(cloud.access, "s3://models/model.tar.gz", SMALL_PARTS)


def test_a_wrong_key_is_refused_and_not_shown(azure: Cloud):
    key = "d3Jvbmcta2V5LXdyb25nLWtleQ=="
    access = azure_config(str(azure.access.config["endpoint"]), key)
    with pytest.raises(ConfigurationError, match="access denied") as failure:
        describe(access, azure.uri("x"), SMALL_PARTS)
    assert key not in str(failure.value)
    assert key not in repr(access)


def test_a_server_that_is_not_there_is_worth_a_retry():
    access = CloudAccess(
        cloud="gs", config={"base_url": "http://127.0.0.1:1", "skip_signature": True}, plain_http=True
    )
    with pytest.raises(ArtifactUnavailable, match="later"):
        describe(access, "gs://models/model.tar.gz", SMALL_PARTS)


@pytest.mark.parametrize(
    ("extra", "expected"),
    [
        ({"keyfile_dict": {"type": "service_account"}}, {"service_account_key": '{"type": "service_account"}'}),
        ({"extra__google_cloud_platform__key_path": "/k.json"}, {"service_account": "/k.json"}),
        ({"is_anonymous": True}, {"skip_signature": True}),
        ({}, {}),
    ],
)  # fmt: skip
def test_a_google_connection_is_read_by_its_providers_names(monkeypatch, extra, expected):
    connection = {"conn_type": "google_cloud_platform", "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT", json.dumps(connection))
    assert google_access("google_cloud_default").config == expected


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"login": "acct", "password": "k"}, {"account_name": "acct", "account_key": "k"}),
        (
            {"host": "https://acct.blob.core.windows.net/", "extra": {"sas_token": "?sv=1&sig=x"}},
            {"account_name": "acct", "endpoint": "https://acct.blob.core.windows.net", "sas_key": "sv=1&sig=x"},
        ),
        (
            {"host": "acct", "login": "id", "password": "secret", "extra": {"tenant_id": "t"}},
            {"account_name": "acct", "tenant_id": "t", "client_id": "id", "client_secret": "secret"},
        ),
        (
            {"extra": {"connection_string": "AccountName=a;AccountKey=k==;EndpointSuffix=core.windows.net"}},
            {"account_name": "a", "account_key": "k==", "endpoint": "https://a.blob.core.windows.net"},
        ),
    ],
)  # fmt: skip
def test_an_azure_connection_is_read_by_its_providers_names(monkeypatch, fields, expected):
    monkeypatch.setenv("AIRFLOW_CONN_WASB_DEFAULT", json.dumps({"conn_type": "wasb", **fields}))
    assert azure_access("wasb_default").config == expected


def test_a_connection_that_does_not_exist_is_named():
    with pytest.raises(ConfigurationError, match="wasb connection 'nowhere' does not exist"):
        azure_access("nowhere")


def test_a_link_among_this_machines_files_is_not_followed(files: Cloud, store, tmp_path):
    files.put("share/model.bin", b"model")
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret/key").write_bytes(b"secret")
    share = tmp_path / "files/share"
    for name, leads_to in [("linked", "secret"), ("key", "secret/key")]:
        (share / name).symlink_to(tmp_path / leads_to)
        with pytest.raises(ArtifactRefused, match=rf"share/{name}.* is a link, or lies behind one"):
            sync(files.access, files.uri("share/"), "digits", store)
        if name == "key":
            with pytest.raises(ArtifactRefused, match="is a link"):
                sync(files.access, files.uri("share/key"), "digits", store)
        (share / name).unlink()
    assert store.releases("digits") == ()
    share.rename(tmp_path / "elsewhere")
    share.symlink_to(tmp_path / "elsewhere")  # whoever wrote the URI means what it leads to
    assert files_of(sync(files.access, files.uri("share/"), "digits", store).release.path) == {
        "model.bin": b"model"
    }


def test_without_googles_credentials_it_is_said_where_they_are_looked_for():
    location = Location.parse("gs://models/model.bin")
    with (
        pytest.raises(ArtifactUnavailable, match="GOOGLE_APPLICATION_CREDENTIALS"),
        cloud_errors_explained(location),
    ):
        raise GenericError("Error performing GET http://169.254.169.254/computeMetadata/v1/instance/token")


@pytest.mark.parametrize("key", ["model.bin", "model/"])
@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_no_shared_access_signature_goes_to_where_azure_redirects(tmp_path, host, key):
    """It is in the URL, which would be told there as the referrer, on another host or port."""
    with redirecting_server(host=host) as (port, asked_elsewhere):
        config = {
            "account_name": "digits",
            "sas_key": "sv=1&sig=secret",
            "endpoint": f"http://127.0.0.1:{port}",
        }
        access = CloudAccess(cloud="az", config=config, plain_http=True)
        with pytest.raises(ConfigurationError, match=f"az://models/{key}: the endpoint redirects elsewhere"):
            sync(access, f"az://models/{key}", "digits", ReleaseStore(tmp_path))
    assert asked_elsewhere == []


def test_nor_where_azure_redirects_another_host_later():
    with redirecting_server(after=1) as (port, asked_elsewhere):
        config = {
            "account_name": "digits",
            "sas_key": "sv=1&sig=secret",
            "endpoint": f"http://127.0.0.1:{port}",
        }
        access = CloudAccess(cloud="az", config=config, plain_http=True)
        location = Location("models", "model.bin", "az")
        store = open_cloud(access, location, SMALL_PARTS)
        with pytest.raises(ConfigurationError, match="redirects elsewhere"), cloud_errors_explained(location):
            obstore.get(store, "model.bin")
    assert asked_elsewhere == []
