"""An HTTP server of a test's own, which answers with a head alone."""

from __future__ import annotations

import itertools
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@contextmanager
def server_that(answers: Callable[[BaseHTTPRequestHandler], None]) -> Iterator[int]:
    """Answers each GET and HEAD as ``answers`` says by status and header fields; its port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answers(self)
            self.end_headers()
            self.close_connection = True

        do_HEAD = do_GET  # noqa: N815 - as http.server calls it

        def log_message(self, *_: object) -> None:
            """Silent."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def redirecting_server(
    status: int = 307, *, host: str = "localhost", after: int = 0
) -> Iterator[tuple[int, list[dict[str, str]]]]:
    """Says of each object that it is there, and where to get it; its port, and what was asked there of whom.

    The other one has another name, ``localhost``, or where ``host`` is 127.0.0.1 another port alone. The first
    GETs, ``after`` of them, are answered.
    """
    asked: list[dict[str, str]] = []
    gets = itertools.count()

    def elsewhere(request: BaseHTTPRequestHandler) -> None:
        asked.append(dict(request.headers))
        request.send_response(404)
        request.send_header("Content-Length", "0")

    with server_that(elsewhere) as target:

        def redirect(request: BaseHTTPRequestHandler) -> None:
            if request.command == "HEAD":
                request.send_response(200)
                request.send_header("ETag", '"e"')
                request.send_header("Last-Modified", "Tue, 24 Nov 2026 20:00:00 GMT")
                request.send_header("Content-Length", "100")
            elif next(gets) < after:
                request.send_response(206)
                request.send_header("Content-Length", "0")
            else:
                request.send_response(status)
                request.send_header("Location", f"http://{host}:{target}{request.path}")
                request.send_header("Content-Length", "0")

        with server_that(redirect) as port:
            yield port, asked
