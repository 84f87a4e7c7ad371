"""A flipped bit of an object of Google or Azure is found by the checksum that the cloud keeps of it."""

from __future__ import annotations

import io
import json
import logging
import os
import tarfile
from dataclasses import replace
from datetime import timedelta
from email.message import Message
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import obstore
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from hybrid_provider.artifacts import checksum as checksums
from hybrid_provider.artifacts import cloud_checksums
from hybrid_provider.artifacts.checksum import Checksum
from hybrid_provider.artifacts.clouds import open_cloud
from hybrid_provider.artifacts.objects import Location
from hybrid_provider.artifacts.reading import describe, stored_objects
from hybrid_provider.artifacts.store import ReleaseStore
from hybrid_provider.artifacts.sync import sync
from hybrid_provider.exceptions import ArtifactRefused, ArtifactUnavailable
from tests.integration.cloud_servers import AZURITE_KEY, SMALL_PARTS, Cloud
from tests.integration.fault_proxy import faulty

CONTENT = os.urandom(200_000)
# obstore signs such a name wrongly for Azure.
ODD_NAME = "weights v1+é#%.bin"


@pytest.fixture(params=["google", "azure"])
def cloud(request: pytest.FixtureRequest) -> Cloud:
    return request.getfixturevalue(request.param)


@pytest.fixture
def store(tmp_path) -> ReleaseStore:
    return ReleaseStore(tmp_path / "store")


def tar() -> bytes:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as packed:
        member = tarfile.TarInfo("weights.bin")
        member.size = len(CONTENT)
        packed.addfile(member, io.BytesIO(CONTENT))
    return archive.getvalue()


def flipped(cloud: Cloud, key: str, store: ReleaseStore, algorithm: str) -> None:
    """Sync with one bit of the first object read flipped on the way, which must be found by the algorithm."""
    field = "base_url" if cloud.access.cloud == "gs" else "endpoint"
    server = str(cloud.access.config[field])
    listing = ["none"] * (2 if key.endswith("/") else 0)  # to look, and to compare with what was looked at
    with faulty(server, *listing, "flip") as proxy:
        proxy.hides = cloud.access.cloud == "gs"
        config = {**cloud.access.config, field: server.replace(f"http://{proxy.upstream}", proxy.url)}
        access = replace(cloud.access, config=config)
        with pytest.raises(ArtifactRefused, match=f"have {algorithm} .* the store says"):
            sync(access, cloud.uri(key), "digits", store, transfer=SMALL_PARTS)
    assert store.releases("digits") == ()
    assert sync(cloud.access, cloud.uri(key), "digits", store, transfer=SMALL_PARTS).reused_bytes == 0


@pytest.mark.parametrize("key", ["model.tar", ODD_NAME, "folder/"])
def test_a_flipped_bit_is_found_by_the_clouds_checksum(cloud: Cloud, store, key):
    name = f"flipped/{key}"
    cloud.put(f"{name}{ODD_NAME}" if key.endswith("/") else name, tar() if key.endswith(".tar") else CONTENT)
    flipped(cloud, name, store, "CRC32C" if cloud.access.cloud == "gs" else "MD5")


def test_without_aws_own_library_googles_md5_is_compared(google: Cloud, store, monkeypatch):
    monkeypatch.setattr(checksums, "_crc", lambda _: None)
    google.put("md5/weights.bin", CONTENT)
    flipped(google, "md5/weights.bin", store, "MD5")


def test_a_service_accounts_key_signs_the_question(google: Cloud, store):
    key = rsa.generate_private_key(65537, 2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    account = {
        "type": "service_account", "private_key": key.decode(), "private_key_id": "1", "client_email": "a@b.example",
    }  # fmt: skip
    config = {"base_url": google.access.config["base_url"], "service_account_key": json.dumps(account)}
    google.put("signed/weights.bin", CONTENT)
    signed = Cloud(replace(google.access, config=config), google.base, google.put, {})
    flipped(signed, "signed/weights.bin", store, "CRC32C")


def with_signature(azure: Cloud, key: str) -> Cloud:
    """The cloud by a shared access signature of one object, as a ``wasb`` connection may hold."""
    container = open_cloud(azure.access, Location("models", key, "az"), SMALL_PARTS)
    query = obstore.sign(container, "GET", key, timedelta(hours=1)).partition("?")[2]
    config = {name: value for name, value in azure.access.config.items() if name != "account_key"}
    access = replace(azure.access, config={**config, "sas_key": query})
    return Cloud(access, azure.base, azure.put, {})


def test_a_shared_access_signature_asks_as_well(azure: Cloud, store):
    azure.put("shared/weights.bin", CONTENT)
    flipped(with_signature(azure, "shared/weights.bin"), "shared/weights.bin", store, "MD5")


def test_a_blob_that_came_in_blocks_has_no_checksum_and_is_taken(azure: Cloud, store, caplog):
    container = open_cloud(azure.access, Location("models", "x", "az"), SMALL_PARTS)
    obstore.put(container, "blocks/weights.bin", CONTENT, use_multipart=True, chunk_size=64 << 10)
    release = sync(azure.access, azure.uri("blocks/weights.bin"), "digits", store).release
    assert (release.path / "weights.bin").read_bytes() == CONTENT
    assert "not compared" not in caplog.text


def test_an_identity_that_may_not_ask_is_named_once(azure: Cloud, caplog):
    for number in range(3):
        azure.put(f"refused/{number}", CONTENT)
    items = stored_objects(azure.access, Location.parse(azure.uri("refused/")), SMALL_PARTS)
    asking = cloud_checksums.CloudChecksums(with_signature(azure, "another").access)
    assert [asking.of(item) for item in items] == [None] * 3
    assert caplog.text.count("not compared") == 1
    assert "give the account's key" in caplog.text


def test_a_store_that_does_not_answer_is_worth_a_retry(azure: Cloud, monkeypatch):
    monkeypatch.setattr(cloud_checksums, "_PATIENT", replace(SMALL_PARTS, attempts=2))
    azure.put("silent.bin", CONTENT)
    (item,) = stored_objects(azure.access, Location.parse(azure.uri("silent.bin")), SMALL_PARTS)
    config = {**azure.access.config, "endpoint": "http://127.0.0.1:1/devstoreaccount1"}
    with pytest.raises(ArtifactUnavailable, match=r"silent\.bin: the store does not tell its checksum"):
        cloud_checksums.CloudChecksums(replace(azure.access, config=config)).of(item)


def test_a_signed_question_is_not_taken_to_where_the_endpoint_points(azure: Cloud, caplog):
    azure.put("pointed.bin", CONTENT)
    (item,) = stored_objects(azure.access, Location.parse(azure.uri("pointed.bin")), SMALL_PARTS)
    asked: list[str] = []

    class Points(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            asked.append(self.path)
            self.send_response(307)
            self.send_header("Location", f"/elsewhere{self.path}")
            self.end_headers()

    with HTTPServer(("127.0.0.1", 0), Points) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        config = {
            **azure.access.config,
            "endpoint": f"http://127.0.0.1:{server.server_port}/devstoreaccount1",
        }
        assert cloud_checksums.CloudChecksums(replace(azure.access, config=config)).of(item) is None
        server.shutdown()
    assert asked == ["/devstoreaccount1/models/pointed.bin"]
    assert "not compared" in caplog.text


def test_no_key_and_no_signature_is_logged_even_at_debug_level(azure: Cloud, store, caplog):
    caplog.set_level(logging.DEBUG)
    azure.put("quiet/weights.bin", CONTENT)
    shared = with_signature(azure, "quiet/weights.bin")
    secrets = [AZURITE_KEY, str(shared.access.config["sas_key"]).partition("sig=")[2].partition("&")[0]]
    for number, access in enumerate([azure.access, shared.access]):
        sync(access, azure.uri("quiet/weights.bin"), f"digits-{number}", store)
    assert not [secret for secret in secrets if secret in caplog.text]


def test_google_may_tell_each_hash_in_a_field_of_its_own():
    head = Message()
    head["x-goog-hash"] = "crc32c=mnG7TA=="
    head["x-goog-hash"] = "md5=XUFAKrxLKna5cZ2REBfFkg=="
    assert cloud_checksums.checksum_in(head) == Checksum("CRC32C", "mnG7TA==")
    assert cloud_checksums.checksum_in(Message()) is None


def test_an_object_replaced_since_it_was_looked_at_is_not_compared_with_the_new_ones_checksum(cloud: Cloud):
    cloud.put("replaced.bin", CONTENT)
    seen = describe(cloud.access, cloud.uri("replaced.bin"), SMALL_PARTS)
    (item,) = stored_objects(cloud.access, Location.parse(seen.uri), SMALL_PARTS)
    asking = cloud_checksums.CloudChecksums(cloud.access)
    assert asking.of(item)
    cloud.put("replaced.bin", CONTENT[:-1])
    assert asking.of(item) is None
