"""What becomes of the model of the demo's edge-03 when its container is stopped, killed, crashes or is removed."""

from __future__ import annotations

import argparse
import json
import socketserver
import threading
from contextlib import closing, suppress
from http.server import BaseHTTPRequestHandler
from urllib.parse import parse_qs, urlsplit

import pytest

from containers.host import engine_gate, engine_keeper
from containers.host.engine import Engine, Host

COMPOSE = {"com.docker.compose.project": "hybrid", "com.docker.compose.oneoff": "False"}
OF_THE_MODEL = {"hybrid.model": "digits", "hybrid.role": "serving"}


class FakeEngine(socketserver.ThreadingUnixStreamServer):
    """So much of the Engine API as the host and its keeper ask; what it holds is for tests to see and change."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, path):
        self.containers, self.started, self.volumes, self.networks = {}, {}, set(), {"hybrid_site"}
        self.happened = threading.Event()
        self.looked = threading.Semaphore(0)
        super().__init__(str(path), Handler)

    def add(self, name, state="running", started="2026-11-28T15:00:00Z", **labels):
        self.containers[name] = {"Id": name, "State": state, "Labels": labels}
        self.started[name] = started

    def listed(self, filters):
        wanted = dict(each.split("=", 1) for each in filters.get("label", []))
        return [
            one
            for one in self.containers.values()
            if wanted.items() <= one["Labels"].items()
            and one["State"] in filters.get("status", [one["State"]])
        ]


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        asked = urlsplit(self.path)
        filters = json.loads(parse_qs(asked.query).get("filters", ["{}"])[0])
        if asked.path == "/events":
            self.send_response(200)
            self.end_headers()
            with suppress(OSError):  # who listened has gone
                while self.server.happened.wait(30):
                    self.server.happened.clear()
                    self.wfile.write(b"{}\n")
        elif asked.path == "/containers/json":
            self.answer(self.server.listed(filters))
            self.server.looked.release()
        elif asked.path == "/volumes":
            self.answer({"Volumes": [{"Name": name} for name in self.server.volumes]})
        else:
            name = asked.path.split("/")[2]
            self.answer({"Id": name, "State": {"StartedAt": self.server.started[name]}})

    def do_POST(self):
        _, _, name, verb = urlsplit(self.path).path.split("/")
        self.server.containers[name]["State"] = {"stop": "exited", "start": "running"}[verb]
        self.answer()

    def do_DELETE(self):
        _, kind, name = urlsplit(self.path).path.split("/")
        held = getattr(self.server, kind)
        held.pop(name) if isinstance(held, dict) else held.discard(name)
        self.answer()

    def answer(self, told=None):
        text = b"" if told is None else json.dumps(told).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def engine(tmp_path):
    """An engine with a host, its model, and a part of the stack beside them."""
    with FakeEngine(tmp_path / "socket") as running:
        running.add("edge-03", **COMPOSE, **{"com.docker.compose.service": "edge-03"})
        running.add("postgres", **COMPOSE, **{"com.docker.compose.service": "postgres"})
        # Of an image that compose built.
        image = {"com.docker.compose.project": "hybrid", "com.docker.compose.service": "edge-01"}
        running.add("model", **OF_THE_MODEL, **image)
        running.add("of-another", **{"hybrid.model": "another"})
        running.volumes = {"a-release"}
        serving = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        serving.start()
        yield running
        running.shutdown()
        serving.join()


@pytest.fixture
def host(tmp_path):
    return Host(str(tmp_path / "socket"), "digits", "hybrid", "edge-03", "hybrid_site")


def states(engine):
    return {name: one["State"] for name, one in engine.containers.items()}


def test_with_its_host_all_of_the_model_goes_and_nothing_else(engine, host):
    del engine.containers["edge-03"]

    engine_keeper.keep(host)

    assert states(engine) == {"postgres": "running", "of-another": "running"}
    assert engine.volumes == set()
    assert engine.networks == {"hybrid_site"}


def test_the_network_goes_too_where_all_else_of_the_stack_was_faster(engine, host):
    del engine.containers["edge-03"], engine.containers["postgres"]

    engine_keeper.keep(host)

    assert engine.networks == set()


@pytest.mark.parametrize(("state", "model"), [("exited", "exited"), ("restarting", "running")])
def test_the_model_is_off_where_its_host_is_and_stays_on_over_a_crash(engine, host, state, model):
    engine.containers["edge-03"]["State"] = state
    keeper = threading.Thread(target=engine_keeper.keep, args=(host,))
    keeper.start()
    looks = 2 if state == "exited" else 1  # at the host, and at what runs of the model
    for _ in range(looks):
        assert engine.looked.acquire(timeout=30)
    engine.happened.set()
    # That it looks again says that it is done with what it saw.
    assert engine.looked.acquire(timeout=30)
    seen = states(engine)
    del engine.containers["edge-03"]
    engine.happened.set()
    keeper.join(30)

    assert seen["model"] == model
    assert engine.volumes == set()


def test_a_host_that_starts_again_starts_what_served_last(engine, host):
    for name, started in {"model": "2026-11-28T15:00:00Z", "rolled-back-to": "2026-11-28T16:00:00Z"}.items():
        engine.add(name, "exited", started, **OF_THE_MODEL)
    engine.add("never-begun", "created", "0001-01-01T00:00:00Z", **OF_THE_MODEL)
    with closing(Engine(host)) as asked:
        asked.boot()

    on = {name for name, state in states(engine).items() if state == "running"}
    assert on == {"edge-03", "postgres", "of-another", "rolled-back-to"}


def test_a_container_that_never_served_is_not_started(engine, host):
    engine.add("model", "created", "0001-01-01T00:00:00Z", **OF_THE_MODEL)
    with closing(Engine(host)) as asked:
        asked.boot()

    assert states(engine)["model"] == "created"


def claim(host, owns):
    with closing(Engine(host)) as asked:
        engine_gate.claim(asked, argparse.Namespace(model=host.model, owns=owns))


def test_a_model_that_was_there_before_the_host_is_not_the_hosts(engine, host, tmp_path):
    with pytest.raises(SystemExit, match="holds the model digits already"):
        claim(host, tmp_path / "owns")

    assert engine.volumes == {"a-release"}


def test_a_host_keeps_its_own_model_over_a_restart(engine, host, tmp_path):
    (tmp_path / "owns").write_text("edge-03")
    claim(host, tmp_path / "owns")

    assert engine.volumes == {"a-release"}
    assert "model" in engine.containers


def test_a_host_in_a_new_container_keeps_the_model_and_gets_a_new_keeper(engine, host, tmp_path):
    (tmp_path / "owns").write_text("the container before")
    engine.add("keeper", **{"hybrid.keeper": "edge-03"})
    claim(host, tmp_path / "owns")

    assert engine.volumes == {"a-release"}
    assert "keeper" not in engine.containers


def test_a_new_host_does_what_the_keeper_of_the_one_before_had_not_done_yet(engine, host, tmp_path):
    engine.add("keeper", **{"hybrid.keeper": "edge-03"})
    claim(host, tmp_path / "owns")

    assert engine.volumes == set()
    assert states(engine) == {"edge-03": "running", "postgres": "running", "of-another": "running"}
