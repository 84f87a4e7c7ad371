"""A proxy before a real S3 that spoils answers as it is told to."""

from __future__ import annotations

import http.client
import threading
from collections import deque
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

SKEWED = (
    b"<Error><Code>RequestTimeTooSkewed</Code><Message>The difference is too large.</Message>"
    b"<ServerTime>2126-11-28T15:00:00Z</ServerTime></Error>"
)
EXPIRED = b"<Error><Code>ExpiredToken</Code><Message>The provided token has expired.</Message></Error>"


class FaultProxy(ThreadingHTTPServer):
    """Each GET takes the next fault; none left, none is made, and none of a look that asks for a byte or a key.

    ``503`` and ``403`` are answers, and ``expired`` is that of S3 to a token past its time, ``skewed`` to a clock
    that is a century behind. ``cut`` ends the connection half way, ``short`` and ``long`` are a byte less
    and a byte more than asked for, ``flip`` is another byte in the middle, ``stall`` is silence after half of it
    until the proxy ends, ``crawl`` is a byte at a time.

    A GET whose range begins as ``late_range`` waits until ``late`` is set. A HEAD that asks for a checksum waits
    where ``late_checksums`` says so, until a range is asked for.

    ``requests`` counts those GETs, and ``listings`` those of them that list a prefix of S3.
    """

    daemon_threads = True

    def __init__(self, upstream: str, faults: Iterable[str]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.upstream = urlsplit(upstream).netloc
        self.faults = deque(faults)
        self.requests = 0
        self.listings = 0
        self.crawl_seconds = 0.1
        self.late_range = ""
        self.late = threading.Event()
        self.late_checksums = False
        self.reading = threading.Event()
        # S3's signature is over the host that was asked; fake-gcs-server wants its own.
        self.hides = False
        self.ending = threading.Event()

    def handle_error(self, *_: object) -> None:
        """A client that gave up on a spoiled answer is what is wanted."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: FaultProxy
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else each body waits 40 ms for the acknowledgment of its head

    def do_HEAD(self) -> None:
        if self.server.late_checksums and self.headers["x-amz-checksum-mode"]:
            self.server.reading.wait()
        self._forward(None)

    def do_GET(self) -> None:
        if self.headers["Range"] == "bytes=0-0" or "max-keys=1&" in self.path:
            self._forward(None)
            return
        self.server.requests += 1
        self.server.listings += "list-type=2" in self.path
        if self.headers["Range"]:
            self.server.reading.set()
        fault = self.server.faults.popleft() if self.server.faults else None
        if self.server.late_range and (self.headers["Range"] or "").startswith(self.server.late_range):
            self.server.late.wait()
        if fault in {"503", "403"}:
            self.send_response(int(fault))
            self.send_header("Content-Length", "0")
            self.end_headers()
        elif fault == "expired":
            self._refuse(400, EXPIRED)
        elif fault == "skewed":
            self._refuse(403, SKEWED)
        else:
            self._forward(fault)

    def _refuse(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _forward(self, fault: str | None) -> None:
        connection = http.client.HTTPConnection(self.server.upstream, timeout=20)
        hidden = {"host"} if self.server.hides else set()
        headers = {name: value for name, value in self.headers.items() if name.lower() not in hidden}
        connection.request(self.command, self.path, headers=headers)
        answer = connection.getresponse()
        body = answer.read()
        connection.close()
        status = answer.status
        if fault == "short":
            body = body[:-1]
        elif fault == "long":
            body += b"x"
        elif fault == "flip" and body:
            middle = len(body) // 2
            body = body[:middle] + bytes([body[middle] ^ 1]) + body[middle + 1 :]
        self.send_response(status)
        for name, value in answer.getheaders():
            if name.lower() not in {"content-length", "transfer-encoding", "connection"}:
                self.send_header(name, value)
        length = answer.getheader("Content-Length") if self.command == "HEAD" else len(body)
        self.send_header("Content-Length", str(length))
        self.end_headers()
        if fault == "cut":
            self.wfile.write(body[: len(body) // 2])
            self.close_connection = True
            return
        if fault == "stall":
            self.wfile.write(body[: len(body) // 2])
            self.server.ending.wait()
            self.close_connection = True
            return
        if fault == "crawl":
            self._crawl(body)
            return
        self.wfile.write(body)

    def _crawl(self, body: bytes) -> None:
        for byte in body:
            if self.server.ending.wait(self.server.crawl_seconds):
                break
            try:
                self.wfile.write(bytes([byte]))
            except OSError:  # the client gave up
                break
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Silent."""


@contextmanager
def faulty(upstream: str, *faults: str) -> Iterator[FaultProxy]:
    proxy = FaultProxy(upstream, faults)
    thread = threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield proxy
    finally:
        proxy.ending.set()
        proxy.late.set()
        proxy.reading.set()
        proxy.shutdown()
        thread.join()
        proxy.server_close()
