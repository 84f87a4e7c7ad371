"""Identities without a key of the store's own: each asks a server for a token, here one of the test's."""

from __future__ import annotations

import json
import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from hybrid_provider.artifacts.clouds import CloudAccess
from hybrid_provider.artifacts.reading import describe
from hybrid_provider.artifacts.store import ReleaseStore
from hybrid_provider.artifacts.sync import sync
from hybrid_provider.exceptions import ConfigurationError, HybridError
from hybrid_provider.hooks.objects import azure_access, google_access
from tests.integration.cloud_servers import SMALL_PARTS

if TYPE_CHECKING:
    from collections.abc import Iterator

WEIGHTS = os.urandom(300_000)
SECRET = "client's secret"


class IdentityServer(ThreadingHTTPServer):
    """Gives tokens that are about to expire, and one object to whoever shows one."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.given: list[str] = []
        self.shown: set[str] = set()
        self.refuses = False

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: IdentityServer
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        asks = urlsplit(self.path).path == "/tenant/oauth2/v2.0/token"
        self._token(asks and body.get("client_id") == ["client"] and body.get("client_secret") == [SECRET])

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        if path == "/identity":
            self._token(self.headers["X-IDENTITY-HEADER"] == "own" and "storage.azure.com" in self.path)
        elif path == "/computeMetadata/v1/instance/service-accounts/default/token":
            self._token(self.headers["Metadata-Flavor"] == "Google")
        elif path == "/models/model.bin" and self._shown() in self.server.given:
            self.server.shown.add(self._shown())
            self._object()
        else:
            self._answer(403, b"")

    do_HEAD = do_GET  # noqa: N815 - as http.server calls it

    def _token(self, given: bool) -> None:
        if not given or self.server.refuses:
            self._answer(401, b"{}")
            return
        self.server.given.append(f"token-{len(self.server.given)}")
        token = {"access_token": self.server.given[-1], "token_type": "Bearer", "expires_in": 1}
        self._answer(200, json.dumps(token | {"expires_on": "1", "resource": "r"}).encode())

    def _shown(self) -> str:
        return (self.headers["Authorization"] or "").removeprefix("Bearer ")

    def _object(self) -> None:
        begin, end = 0, len(WEIGHTS)
        if "Range" in self.headers:
            first, last = self.headers["Range"].removeprefix("bytes=").split("-")
            begin, end = int(first), int(last) + 1
        fields = {"ETag": '"e"', "Last-Modified": "Tue, 24 Nov 2026 20:00:00 GMT"}
        fields["Content-Range"] = f"bytes {begin}-{end - 1}/{len(WEIGHTS)}"
        self._answer(206 if "Range" in self.headers else 200, WEIGHTS[begin:end], fields)

    def _answer(self, status: int, body: bytes, fields: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (fields or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Silent."""


@pytest.fixture
def server() -> Iterator[IdentityServer]:
    with IdentityServer() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def azure_by_secret(server: IdentityServer, monkeypatch) -> None:
    connection = {"conn_type": "wasb", "host": server.url, "login": "client", "password": SECRET}
    monkeypatch.setenv("AIRFLOW_CONN_WASB", json.dumps({**connection, "extra": {"tenant_id": "tenant"}}))
    monkeypatch.setenv("AZURE_AUTHORITY_HOST", server.url)


def azure_by_managed_identity(server: IdentityServer, monkeypatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_WASB", json.dumps({"conn_type": "wasb", "host": server.url}))
    monkeypatch.setenv("IDENTITY_ENDPOINT", f"{server.url}/identity")
    monkeypatch.setenv("IDENTITY_HEADER", "own")


@pytest.mark.parametrize("identity", [azure_by_secret, azure_by_managed_identity])
def test_an_azure_identity_reads_with_a_token_that_is_renewed(
    server, identity, monkeypatch, tmp_path, caplog
):
    identity(server, monkeypatch)
    store = ReleaseStore(tmp_path)
    release = sync(
        azure_access("wasb"), "az://models/model.bin", "digits", store, transfer=SMALL_PARTS
    ).release
    assert (release.path / "model.bin").read_bytes() == WEIGHTS
    assert len(server.shown) > 1
    # The one that may sign nothing is told of, and no token or secret is.
    assert "its checksum is not compared" in caplog.text
    assert "token-" not in caplog.text
    assert SECRET not in caplog.text


@pytest.mark.parametrize("identity", [azure_by_secret, azure_by_managed_identity])
def test_an_azure_identity_that_is_refused_shows_no_secret(server, identity, monkeypatch):
    identity(server, monkeypatch)
    server.refuses = True
    with pytest.raises(HybridError, match=r"az://models/model\.bin") as failure:
        describe(azure_access("wasb"), "az://models/model.bin", SMALL_PARTS)
    assert SECRET not in str(failure.value)


def test_a_machine_of_googles_cloud_reads_as_its_own_account(server, monkeypatch):
    connection = {"conn_type": "google_cloud_platform"}
    monkeypatch.setenv("AIRFLOW_CONN_GOOGLE", json.dumps(connection))
    monkeypatch.setenv("GCE_METADATA_HOST", server.url.removeprefix("http://"))
    access = google_access("google")
    # Google's own address is the only one that obstore knows without this.
    own = CloudAccess(cloud="gs", config={**access.config, "base_url": server.url}, plain_http=True)
    assert describe(own, "gs://models/model.bin", SMALL_PARTS).size_bytes == len(WEIGHTS)
    assert server.shown


@pytest.mark.parametrize(
    "field", ["impersonation_chain", "credential_config_file", "key_secret_name", "idp_issuer_url"]
)
def test_a_google_identity_that_cannot_be_taken_on_is_not_replaced_by_the_machine_s(field, monkeypatch):
    connection = {"conn_type": "google_cloud_platform", "extra": {field: "reader@models"}}
    monkeypatch.setenv("AIRFLOW_CONN_GOOGLE", json.dumps(connection))
    with pytest.raises(ConfigurationError, match=f"'google' sets {field}.*keyfile_dict"):
        google_access("google")


def test_a_google_file_of_an_external_account_is_refused_by_its_kind(tmp_path, monkeypatch):
    credentials = tmp_path / "credentials.json"
    credentials.write_text(json.dumps({"type": "external_account", "credential_source": {"file": SECRET}}))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(credentials))
    with pytest.raises(ConfigurationError, match=r"external_account.*expected `service_account`") as failure:
        describe(google_access(None), "gs://models/model.bin", SMALL_PARTS)
    assert SECRET not in str(failure.value)
