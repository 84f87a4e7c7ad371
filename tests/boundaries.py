"""Servers between a task's process and all that it depends on: they see every call, and kill the process at one."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import threading
from collections import Counter
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Boundary:
    """A moment at one call: before it does anything, or after it has, with its answer lost."""

    call: str
    occurrence: int
    side: str

    def __str__(self) -> str:
        return f"{self.side} {self.call} #{self.occurrence}"


class Boundaries:
    """Forwards AWS calls and keeps the task state, and kills ``pid`` at ``crash_at``."""

    def __init__(self, emulator_environment: dict[str, str]) -> None:
        self._lock = threading.Lock()
        self._servers: list[ThreadingHTTPServer] = []
        self._counts: Counter[str] = Counter()
        self.calls: list[tuple[str, int]] = []
        self.scopes: set[tuple[str, str]] = set()
        self.stores: dict[str, dict[str, Any]] = {}
        self.pid = 0
        self.crash_at: Boundary | None = None
        self.hit: list[Boundary] = []
        self.environment = {
            name: self._serve(url)
            for name, url in emulator_environment.items()
            if name.removeprefix("AWS_ENDPOINT_URL_") in {"S3", "SAGEMAKER", "CLOUDWATCH_LOGS", "IAM"}
        }
        self.store_url = self._serve(None)

    def attempt(self, crash_at: Boundary | None = None) -> None:
        """Begin to count anew."""
        self._counts.clear()
        self.calls.clear()
        self.scopes.clear()
        self.crash_at = crash_at

    def taken_hits(self) -> list[Boundary]:
        """Where processes were killed since this was asked last."""
        hits, self.hit = self.hit, []
        return hits

    def close(self) -> None:
        for server in self._servers:
            server.shutdown()
            server.server_close()

    def at(self, call: str, side: str, occurrence: int) -> bool:
        """Whether the process was killed here."""
        here = Boundary(call, occurrence, side)
        if here != self.crash_at:
            return False
        os.kill(self.pid, signal.SIGKILL)
        self.hit.append(here)
        return True

    def counted(self, call: str) -> int:
        with self._lock:
            self._counts[call] += 1
            self.calls.append((call, self._counts[call]))
            return self._counts[call]

    def _serve(self, upstream: str | None) -> str:
        handler = type("Handler", (_Handler,), {"boundaries": self, "upstream": upstream})
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        self._servers.append(server)
        return f"http://127.0.0.1:{server.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    boundaries: Boundaries
    upstream: str | None

    def answer(self) -> None:
        body = self._body()
        call = self._call(body)
        scope = re.search(r"Credential=[^/]+/\d+/([^/]+)/([^/]+)/", self.headers.get("Authorization", ""))
        if scope:
            self.boundaries.scopes.add((scope[2], scope[1]))
        occurrence = self.boundaries.counted(call)
        if self.boundaries.at(call, "before", occurrence):
            self.close_connection = True
            return
        status, headers, payload = self._stored(body) if self.upstream is None else self._forwarded(body)
        if self.boundaries.at(call, "after", occurrence):
            self.close_connection = True
            return
        self.send_response_only(status)
        for name, value in headers:
            if name.lower() not in {"transfer-encoding", "connection", "content-length"}:
                self.send_header(name, value)
        length = (
            dict(headers).get("Content-Length", str(len(payload))) if self.command == "HEAD" else len(payload)
        )
        self.send_header("Content-Length", str(length))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(payload)
        self.wfile.flush()

    do_GET = do_HEAD = do_POST = do_PUT = answer  # noqa: N815 - the base class's names

    def _body(self) -> bytes:
        if self.headers.get("Expect", "").lower() == "100-continue":
            self.send_response_only(100)
            self.end_headers()
            self.wfile.flush()
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        raw = b""
        while True:
            line = self.rfile.readline()
            size = int(line.split(b";")[0], 16)
            raw += line + self.rfile.read(size + 2)
            if size == 0:
                return raw

    def _call(self, body: bytes) -> str:
        if self.upstream is None:
            return f"store {'set' if self.command == 'PUT' else 'get'}"
        target = self.headers.get("X-Amz-Target")
        if target:
            return target.rpartition(".")[2]
        if body.startswith(b"Action="):
            return body.decode().partition("&")[0].removeprefix("Action=")
        what = "source" if "hybrid-source" in self.path else "artifact"
        return f"s3 {self.command} {what}"

    def _forwarded(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        place = urlsplit(str(self.upstream))
        connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=60)
        try:
            connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() not in {"connection", "expect"}:
                    connection.putheader(name, value)
            connection.endheaders(body or None)
            reply = connection.getresponse()
            return reply.status, reply.getheaders(), reply.read()
        finally:
            connection.close()

    def _stored(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        _, run_id, key = self.path.split("/")
        store = self.boundaries.stores.setdefault(run_id, {})
        if self.command == "PUT":
            store[key] = json.loads(body)
        return 200, [], json.dumps(store.get(key)).encode()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name for it
        pass
