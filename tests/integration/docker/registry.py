"""A registry of images for tests: one image that an engine has, served to who knows the password."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import subprocess
import tarfile
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

from hybrid_provider.targets.docker import RegistryLogin

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.dockerd import Engine

_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"


@dataclass(frozen=True)
class Registry:
    """A running registry.

    Attributes:
        image: The image's name in it, by digest.
        login: Who may pull.
        pulled: The paths of what was asked for by who knew the password.
    """

    image: str
    login: RegistryLogin
    pulled: list[str]


@contextmanager
def registry(engine: Engine, image: str) -> Iterator[Registry]:
    """Serve an image of an engine on loopback, where an engine speaks plain HTTP."""
    blobs, manifest = _taken(engine, image)
    digest = _digest(manifest)
    pulled: list[str] = []
    known = "Basic " + base64.b64encode(b"puller:right").decode()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            found = blobs.get(self.path.rpartition("/")[2])
            if self.headers.get("Authorization") != known:
                return self._answer(401, b"{}", {"WWW-Authenticate": 'Basic realm="models"'})
            pulled.append(self.path)
            if self.path == "/v2/":
                return self._answer(200, b"{}", {})
            if "/manifests/" in self.path:
                kind = {"Content-Type": _MANIFEST, "Docker-Content-Digest": digest}
                return self._answer(200, manifest, kind)
            return self._answer(404 if found is None else 200, found or b"{}", {})

        do_HEAD = do_GET  # noqa: N815 - as http.server calls it

        def _answer(self, status: int, content: bytes, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        address = f"127.0.0.1:{server.server_port}"
        try:
            yield Registry(
                f"{address}/models/server@{digest}",
                RegistryLogin(server=address, username="puller", password="right"),
                pulled,
            )
        finally:
            server.shutdown()
            thread.join()


def _taken(engine: Engine, image: str) -> tuple[dict[str, bytes], bytes]:
    """The blobs of an image, by digest, and its manifest."""
    saved = subprocess.run(
        ["docker", "save", image], env=engine.environment, capture_output=True, check=True
    ).stdout
    with tarfile.open(fileobj=io.BytesIO(saved)) as archive:

        def read(name: str) -> bytes:
            file = archive.extractfile(name)
            return file.read() if file else b""

        (listed,) = json.loads(read("manifest.json"))
        config, layers = read(listed["Config"]), [read(name) for name in listed["Layers"]]
    described = {
        "schemaVersion": 2,
        "mediaType": _MANIFEST,
        "config": _described("application/vnd.docker.container.image.v1+json", config),
        "layers": [_described("application/vnd.docker.image.rootfs.diff.tar.gzip", each) for each in layers],
    }
    return {_digest(blob): blob for blob in (config, *layers)}, json.dumps(described).encode()


def _described(kind: str, blob: bytes) -> dict[str, object]:
    return {"mediaType": kind, "size": len(blob), "digest": _digest(blob)}


def _digest(blob: bytes) -> str:
    return f"sha256:{hashlib.sha256(blob).hexdigest()}"
