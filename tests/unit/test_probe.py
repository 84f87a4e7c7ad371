"""An HTTP probe against a real server on loopback."""

from __future__ import annotations

import asyncio
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest

from hybrid_provider.exceptions import ConfigurationError
from hybrid_provider.rollout.probe import HttpProbe
from tests.servers import free_port


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        status = int(self.path.rpartition("/")[2] or 200)
        self.send_response(status)
        if "named" in self.path:
            self.send_header("X-Release-Id", "r1")
        if status == 302:
            self.send_header("Location", "/named/200")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200 if body == b'{"instances": [[0]]}' else 400)
        self.send_header("X-Release-Id", "r1")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def port():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


def target_of(host="127.0.0.1", probe_url=None):
    return SimpleNamespace(name="edge-01", host=host, probe_url=probe_url)


def ask(probe, target=None, release_id="r1"):
    return asyncio.run(probe.check(target or target_of(), release_id))


def test_the_release_that_answers_is_proved(port):
    assert ask(HttpProbe(port=port, path="/named/200")).healthy


@pytest.mark.parametrize(
    ("path", "release_id", "fault"),
    [
        ("/named/500", "r1", "HTTP 500, expected 200"),
        ("/named/302", "r1", "HTTP 302, expected 200"),
        ("/named/200", "r2", "release 'r1' answers, not r2"),
        ("/named/200", "r", "release 'r1' answers, not r"),
        ("/named/200", "r12", "release 'r1' answers, not r12"),
        ("/bare/200", "r1", "no header X-Release-Id says which release answers"),
    ],
)
def test_anything_else_is_a_fault_with_its_reason(port, path, release_id, fault):
    assert fault in ask(HttpProbe(port=port, path=path), release_id=release_id).fault


def test_an_older_release_that_still_answers_is_no_success(port):
    assert not ask(HttpProbe(port=port, path="/named/200"), release_id="r2").healthy


def test_without_a_release_header_the_status_is_enough(port):
    assert ask(HttpProbe(port=port, path="/bare/200", release_header=None)).healthy


def test_a_body_is_posted(port):
    assert ask(HttpProbe(port=port, path="/x", method="POST", body='{"instances": [[0]]}')).healthy


def test_nobody_there_is_a_fault_and_no_error():
    port = free_port()
    assert str(port) in ask(HttpProbe(port=port)).fault


def test_a_target_s_own_url_goes_before_the_fleet_s(port):
    probe = HttpProbe(url="http://nowhere.invalid/ping")
    assert ask(probe, target_of(probe_url=f"http://{{host}}:{port}/named/200")).healthy


def test_a_url_names_the_host_and_the_target():
    assert HttpProbe(url="http://{host}/{name}").url_of(target_of("10.0.0.7")) == "http://10.0.0.7/edge-01"
    assert HttpProbe().url_of(target_of("fe80::1")) == "http://[fe80::1]:8080/ping"


@pytest.mark.parametrize("url", ["edge-01:8080/ping", "ftp://edge-01/", "file:///etc/passwd", "http:///ping"])
def test_what_is_no_http_url_is_refused(url):
    with pytest.raises(ConfigurationError, match="probe URL"):
        HttpProbe(url=url)


def test_a_path_begins_with_a_slash():
    with pytest.raises(ConfigurationError, match="begins with '/'"):
        HttpProbe(path="ping")
