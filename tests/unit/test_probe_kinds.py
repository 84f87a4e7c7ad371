"""Command, TCP, JSON and golden probes, from this machine and on the host, against a real server on loopback."""

from __future__ import annotations

import asyncio
import json
import subprocess
import threading
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from hybrid_provider.exceptions import ConfigurationError, TargetUnreachable
from hybrid_provider.rollout.golden import GOLDEN_FILE, GoldenProbe, read_cases
from hybrid_provider.rollout.http import Request, client_command, read_response
from hybrid_provider.rollout.probe import AllProbes, CommandProbe, HttpProbe, TcpProbe, asked, json_at
from hybrid_provider.rollout.probe_settings import bound, probe_of
from hybrid_provider.targets.shell import Finished
from tests.releases import make_release
from tests.servers import free_port, require_program

RELEASE = "r1"


class Model(BaseHTTPRequestHandler):
    """Doubles numbers; says which release it is in a header and in its JSON."""

    def do_GET(self):
        self.answer({"status": "ready", "models": [{"version": RELEASE}]})

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        if self.headers["Content-Type"] == "text/csv":
            self.answer([2 * float(number) for number in body.split(",")])
            return
        self.answer(
            {"predictions": [2.0000001 * number for number in json.loads(body)["instances"]], "took": 3}
        )

    def answer(self, content):
        body = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("X-Release-Id", RELEASE)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def port():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Model)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


class Host:
    """A target whose shell is this machine's, with only these programs in its PATH."""

    name = "edge-01"
    host = "127.0.0.1"
    probe_url = None

    def __init__(self, programs=None):
        self.programs = programs

    async def run(self, command, limit):
        environment = {"PATH": str(self.programs)} if self.programs else None
        process = await asyncio.create_subprocess_exec(
            "/bin/sh",
            "-c",
            command,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=environment,
        )
        stdout, stderr = await process.communicate()
        return Finished(
            exit_code=process.returncode,
            stdout=stdout.decode(errors="replace"),
            stderr=stderr.decode(errors="replace"),
        )


class Gone(Host):
    async def run(self, command, limit):
        raise TargetUnreachable(self.name, "no route to it")


@pytest.fixture(params=["curl", "wget"])
def host(request, tmp_path):
    """A host with one HTTP client."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / request.param).symlink_to(require_program(request.param, request.param))
    return Host(tmp_path / "bin")


def ask(probe, target=None, release_id=RELEASE):
    return asyncio.run(probe.check(target or Host(), release_id)).fault


def test_a_host_asks_itself_with_whatever_client_it_has(port, host):
    assert ask(HttpProbe(port=port, on_host=True), host) == ""
    assert "release 'r1' answers, not r2" in ask(HttpProbe(port=port, on_host=True), host, "r2")
    assert ask(HttpProbe(port=free_port(), on_host=True), host) != ""


def test_a_host_without_a_client_says_so(port, tmp_path):
    assert "neither curl nor wget is there" in ask(HttpProbe(port=port, on_host=True), Host(tmp_path))
    assert "no route to it" in ask(HttpProbe(port=port, on_host=True), Gone())


def test_an_interim_response_is_not_taken_for_the_answer():
    said = "curl\nHTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 201 Created\r\nX-Release-Id: r1\r\n\r\nbody"
    response = read_response(said, "client ended with 0\n")
    assert (response.status, response.headers, response.body) == (201, {"x-release-id": "r1"}, "body")


def test_the_headers_that_wget_writes_to_standard_error_are_read():
    head = "  HTTP/1.1 200 OK\n  X-Release-Id: r1\n  Content-Length: 8\n"
    response = read_response('wget\n{"a": 1}', f"{head}client ended with 0\n")
    assert (response.status, response.headers["x-release-id"], response.body) == (200, "r1", '{"a": 1}')
    refused = "wget: can't connect to remote host: Connection refused\nclient ended with 4"
    assert read_response("wget\n", refused) is None


def test_an_answer_that_its_client_calls_cut_off_is_none():
    cut = "curl: (18) transfer closed with 3 bytes remaining to read\nclient ended with 18\n"
    assert read_response('curl\nHTTP/1.1 200 OK\nContent-Length: 8\n\n{"a":', cut) is None
    assert read_response("wget\n{", "  HTTP/1.1 200 OK\nclient ended with 4\n") is None
    # wget fails of each status that is no good one, and its head is there all the same.
    assert read_response("wget\n", "  HTTP/1.1 503 Busy\nclient ended with 8\n").status == 503


def test_nothing_of_a_request_reaches_the_host_s_shell_as_a_command(tmp_path):
    request = Request(
        url="http://x/$(touch u)`touch u`",
        body="'; touch b; '",
        headers={"a": "$(touch h)"},
        method="$(touch m)",
    )
    subprocess.run(
        ["sh", "-c", client_command(request, timedelta(seconds=1))],
        cwd=tmp_path,
        capture_output=True,
        check=False,
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        ({"expect_json": {"status": "ready"}}, ""),
        ({"expect_json": {"status": "loading"}}, "status is 'ready', expected 'loading'"),
        ({"expect_headers": {"X-Other": "1"}}, "header X-Other is None"),
        ({"release_json": "models.0.version"}, ""),
        ({"release_json": "models.1.version"}, "no models.1.version of its JSON says which release answers"),
    ],
)
def test_what_the_answer_says_is_held_against_what_it_must(port, settings, fault):
    found = ask(HttpProbe(port=port, **settings))
    assert fault in found
    assert bool(fault) == bool(found)


def test_an_older_release_in_the_json_is_no_success(port):
    assert "release 'r1' answers, not r2" in ask(
        HttpProbe(port=port, release_json="models.0.version"), release_id="r2"
    )


@pytest.mark.parametrize(
    ("body", "place"),
    [("no json", "a"), ("[1]", "²"), ("[1]", "a"), ('{"a": [1]}', "a.7"), ('{"a": "text"}', "a.0")],
)
def test_a_place_that_is_not_there_holds_nothing(body, place):
    assert json_at(body, place) is None


def test_a_command_runs_on_the_host_and_knows_the_release():
    assert ask(CommandProbe(command='test "$RELEASE_ID" = r1')) == ""
    assert "ended with 3, expected 0: out of order" in ask(
        CommandProbe(command="echo out of order >&2; exit 3")
    )
    assert (
        ask(CommandProbe(command="echo version=r1; exit 7", expect_exit=7, expect_output="version=r[0-9]"))
        == ""
    )
    assert "nothing that matches 'r2'" in ask(CommandProbe(command="echo r1", expect_output="r2"))
    assert "no route to it" in ask(CommandProbe(command="true"), Gone())


def test_a_release_id_reaches_a_command_as_text_alone(tmp_path):
    ask(CommandProbe(command="true"), release_id=f"x; touch {tmp_path}/y")
    assert list(tmp_path.iterdir()) == []


def test_a_port_that_nobody_listens_on_is_unhealthy(port):
    assert ask(TcpProbe(port=port)) == ""
    assert "Connection refused" in ask(TcpProbe(port=free_port())) or "Connect call failed" in ask(
        TcpProbe(port=free_port())
    )


def test_a_host_tries_its_own_port(port, tmp_path):
    (tmp_path / "nc").symlink_to(require_program("busybox", "busybox-static"))
    (tmp_path / "true").symlink_to(require_program("busybox", "busybox-static"))
    assert ask(TcpProbe(port=port, on_host=True), Host(tmp_path)) == ""
    assert "on the host" in ask(TcpProbe(port=free_port(), on_host=True), Host(tmp_path))


def test_a_host_without_nc_says_so(port, tmp_path):
    assert "no nc is there" in ask(TcpProbe(port=port, on_host=True), Host(tmp_path))


def test_several_probes_must_all_pass(port):
    passed, failed = CommandProbe(command="true"), CommandProbe(command="exit 4")
    assert ask(AllProbes((passed, HttpProbe(port=port)))) == ""
    assert "ended with 4" in ask(AllProbes((passed, failed, HttpProbe(port=port))))


def golden(*cases, **common):
    return json.dumps({"format": "hybrid-golden/1", "cases": list(cases), **common})


GOOD = {"name": "twice", "input": {"instances": [1, 2]}, "expected": {"predictions": [2, 4]}}


def released(tmp_path, text):
    return make_release(tmp_path, {GOLDEN_FILE: text.encode(), "model.onnx": b"weights"})


@pytest.mark.parametrize("on_host", [False, True])
@pytest.mark.parametrize(
    ("case", "fault"),
    [
        (GOOD, ""),
        ({"input_text": "1,2", "content_type": "text/csv", "expected": [2, 4]}, ""),
        (
            {**GOOD, "expected": {"predictions": [2, 5]}},
            "golden case twice: $.predictions[1] is 4.0000002, expected 5",
        ),
        ({**GOOD, "expected": {"predictions": [2]}}, "expected a list of 1"),
        ({**GOOD, "expected": {"label": 7}}, "$ has no label"),
        (
            {**GOOD, "relative_tolerance": 1e-9, "absolute_tolerance": 0},
            "$.predictions[0] is 2.0000001, expected 2",
        ),
    ],
)
def test_a_model_must_answer_as_it_did_when_it_was_made(port, tmp_path, case, fault, on_host):
    probe = GoldenProbe(ping=HttpProbe(port=port, release_header=None, on_host=on_host))
    release = released(tmp_path, golden(case))
    found = ask(probe.bound(release), release_id=release.release_id)
    assert fault in found
    assert bool(fault) == bool(found)


def test_the_answers_of_another_release_prove_nothing(port, tmp_path):
    release = released(tmp_path, golden(GOOD))
    probe = GoldenProbe(ping=HttpProbe(port=port)).bound(release)
    assert "release 'r1' answers, not" in ask(probe, release_id=release.release_id)


def test_the_release_before_is_proved_without_the_new_one_s_answers(port, tmp_path):
    release = released(tmp_path, golden({**GOOD, "expected": "quite another"}))
    assert ask(GoldenProbe(ping=HttpProbe(port=port)).bound(release), release_id=RELEASE) == ""


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("{", "no JSON"),
        ("[]", "it begins with"),
        (golden(), "at least one"),
        (golden({"input": 1}), "case 1: it has no expected"),
        (golden(GOOD, {"expected": 1}), "case 2: give input"),
        (golden({**GOOD, "path": "invocations"}), "begins with '/'"),
        (golden(GOOD, relative_tolerance="much"), "a tolerance is a number"),
        (golden(GOOD, relative_tolerance=float("inf")), "a tolerance is a number"),
        (golden(GOOD, absolute_tolerance=True), "a tolerance is a number"),
        ("[" * 100_000, "no JSON"),
    ],
)
def test_a_golden_file_with_faults_is_explained(text, fault):
    with pytest.raises(ConfigurationError, match=r"golden\.json: ") as failure:
        read_cases(text, "golden.json")
    assert fault in str(failure.value)


def test_a_golden_case_that_is_too_long_to_be_sent_on_the_host_is_refused_before_anything_is_sent(tmp_path):
    release = released(tmp_path, golden({"name": "a film", "input": "x" * 100_000, "expected": 1}))
    with pytest.raises(ConfigurationError, match=r"case a film has more than 100000 bytes"):
        bound(probe_of({"kind": "golden", "ping": {"on_host": True}}), release)
    assert bound(probe_of({"kind": "golden"}), release).cases


class Broken:
    """A DAG's own probe, with a mistake in it."""

    async def check(self, target, release_id):
        return target.no_such_thing


def test_a_probe_with_a_mistake_is_an_unhealthy_answer_and_no_end_of_the_rollout():
    found = asyncio.run(asked(Broken(), Host(), RELEASE, timedelta(seconds=5)))
    assert (
        found.fault
        == "the probe itself failed: AttributeError: 'Host' object has no attribute 'no_such_thing'"
    )


def test_a_release_without_its_golden_file_is_refused_before_anything_is_sent(tmp_path):
    release = make_release(tmp_path, {"model.onnx": b"weights"})
    with pytest.raises(ConfigurationError, match=r"let training write golden.json into the model"):
        bound(probe_of([{"kind": "golden"}]), release)


@pytest.mark.parametrize(
    ("given", "probe"),
    [
        (None, HttpProbe()),
        ({"port": 9000}, HttpProbe(port=9000)),
        ({"kind": "command", "command": "./smoke-test"}, CommandProbe(command="./smoke-test")),
        ({"kind": "golden", "ping": {"port": 9000}}, GoldenProbe(ping=HttpProbe(port=9000))),
        ([{"kind": "tcp", "port": 9000}, HttpProbe()], AllProbes((TcpProbe(port=9000), HttpProbe()))),
    ],
)
def test_a_probe_may_be_plain_values(given, probe):
    assert probe_of(given) == probe


@pytest.mark.parametrize(
    ("given", "fault"),
    [
        ("http://edge-01/ping", "give a probe, a mapping"),
        ({"kind": "ping"}, "there are http, command, tcp, golden"),
        ({"prot": 1}, "no setting is called prot"),
        ({"kind": "command"}, "command"),
        ({"kind": "tcp", "port": 0}, "from 1 to 65535"),
        ({"kind": "command", "command": " "}, "is empty"),
        ({"kind": "command", "command": "a", "expect_output": "("}, "expect_output"),
        ({"expect_status": 99}, "expect_status"),
        ({"expect_status": True}, "expect_status True"),
        ({"url": "http://["}, "probe URL"),
        ({"url": "http://edge-01:99999/"}, "probe URL"),
        ({"url": 8080}, "probe URL"),
        ({"path": 1, "method": "GET /x"}, "path 1: it begins with '/'; method 'GET /x'"),
        ({"body": {"instances": []}}, "JSON as it is sent"),
        ({"headers": {"X-Key": 5}}, "headers"),
        ({"headers": {"X-Key": "1\r\nX-Other: 2"}}, "headers"),
        ({"headers": {"X-Kéy": "1"}}, "headers"),
        ({"expect_json": ["ready"]}, "expect_json"),
        ({"release_header": "X Release"}, "release_header"),
        ({"release_json": 1}, "release_json"),
        ({"on_host": True, "body": "x" * 100_001}, "at most 100000 bytes can be sent on the host"),
        ([], "an empty list"),
    ],
)
def test_a_probe_that_cannot_be_is_explained(given, fault):
    with pytest.raises(ConfigurationError, match=fault):
        probe_of(given)
