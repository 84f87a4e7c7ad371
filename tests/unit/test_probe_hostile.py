"""Servers that lie, drip, redirect, drown and babble: each is an unhealthy answer with its reason, and nothing else."""

from __future__ import annotations

import asyncio
import gzip
import json
import shutil
import socket
from types import SimpleNamespace
from urllib.parse import unquote

import pytest

from hybrid_provider.rollout.golden import GoldenProbe, read_cases
from hybrid_provider.rollout.probe import HttpProbe, TcpProbe
from tests.servers import require_program
from tests.unit.test_probe_kinds import Host, host  # noqa: F401 - a fixture

RELEASE = "r1"
NAMED = "HTTP/1.1 200 OK\r\nX-Release-Id: r1\r\n"


def target_at(address="127.0.0.1"):
    return SimpleNamespace(name="edge-01", host=address, probe_url=None)


def ask(said, probe=HttpProbe, address="127.0.0.1", target=None, seconds=5, **settings):
    """What a probe finds of a server that says this, to whoever connects, and closes; or does what it is told."""
    asked = []

    async def serve(reader, writer):
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        try:
            await said(writer) if callable(said) else writer.write(said)
            await writer.drain()
            writer.close()
        except OSError:
            writer.close()

    async def check():
        async with await asyncio.start_server(serve, address, 0) as server:
            port = server.sockets[0].getsockname()[1]
            made = probe(port=port, **settings) if isinstance(probe, type) else probe(port)
            async with asyncio.timeout(seconds):
                return (await made.check(target or target_at(address), RELEASE)).fault

    found = asyncio.run(check())
    return SimpleNamespace(fault=found, asked=asked)


def answered(body, *headers):
    head = "".join(f"{header}\r\n" for header in headers)
    return f"{NAMED}{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def test_a_chunked_answer_is_read_whole():
    chunked = f"{NAMED}Transfer-Encoding: chunked\r\n\r\n".encode() + b'6\r\n{"ok":\r\n2\r\n1}\r\n0\r\n\r\n'
    assert ask(chunked, expect_json={"ok": 1}).fault == ""
    assert "incomplete chunked read" in ask(chunked[:-9], expect_json={"ok": 1}).fault


def test_an_answer_that_is_cut_is_none():
    assert "without sending complete message body" in ask(answered(b"whole")[:-2]).fault


def test_the_type_that_an_answer_claims_is_not_what_it_is_judged_by():
    assert ask(answered(b'{"ok": 1}', "Content-Type: text/html"), expect_json={"ok": 1}).fault == ""
    page = answered(b"<html>all is well</html>", "Content-Type: application/json")
    assert "ok is None, expected 1" in ask(page, expect_json={"ok": 1}).fault


def test_a_server_that_drips_ends_with_the_probe_s_time():
    async def drip(writer):
        for _ in range(1000):
            writer.write(b"H")
            await writer.drain()
            await asyncio.sleep(0.01)

    with pytest.raises(TimeoutError):
        ask(drip, seconds=0.3)


def test_a_giant_answer_is_given_up_before_it_fills_the_worker():
    sent = []

    async def flood(writer):
        writer.write(f"{NAMED}\r\n".encode())
        for _ in range(1000):
            writer.write(bytes(100_000))
            await writer.drain()
            sent.append(100_000)

    assert "longer than 1048576 bytes" in ask(flood).fault
    assert sum(sent) < 50_000_000


def test_a_giant_head_is_no_answer():
    assert ask(f"{NAMED}X-Long: {'x' * 300_000}\r\n\r\n".encode()).fault


@pytest.mark.parametrize("layers", [1, 3])
def test_a_body_that_was_packed_unasked_is_not_unpacked(layers):
    """Three layers of gzip are a few bytes on the wire, and gigabytes in memory."""
    body = bytes(1_000_000)
    for _ in range(layers):
        body = gzip.compress(body)
    found = ask(answered(body, f"Content-Encoding: {', '.join(['gzip'] * layers)}"), expect_json={"ok": 1})
    assert "which was not asked for" in found.fault
    assert b"accept-encoding: identity" in found.asked[0].lower()


def test_a_redirect_is_not_followed_whatever_it_says():
    def moved(place):
        return f"HTTP/1.1 302 Found\r\nLocation: {place}\r\nContent-Length: 0\r\n\r\n".encode()

    for place in ("/ping", "http://127.0.0.1:1/", "file:///etc/passwd", "http://[", "\x00"):
        found = ask(moved(place))
        assert found.fault
        assert len(found.asked) == 1


@pytest.mark.parametrize(
    "babble",
    [
        b"",
        b"\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/0.9 what\r\n\r\n",
        b"HTTP/1.1 abc\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        bytes(range(256)) * 10,
    ],
)
def test_what_is_no_http_is_a_fault(babble):
    assert ask(babble).fault


def test_two_names_of_a_release_prove_neither():
    twice = f"{NAMED}X-Release-Id: r0\r\nContent-Length: 0\r\n\r\n".encode()
    assert "release 'r1, r0' answers, not r1" in ask(twice).fault


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 500_000,
        b'{"ok": 1' + b"0" * 400 + b"}",
        b'{"ok": 1' + b"0" * 5000 + b"}",
        b'{"ok": NaN}',
        b"\xff\xfe{",
    ],
)
def test_json_that_is_a_trap_is_not_what_was_expected(body):
    assert "ok is" in ask(answered(body), expect_json={"ok": 1}).fault


def test_true_is_not_one():
    assert "ok is True, expected 1" in ask(answered(b'{"ok": true}'), expect_json={"ok": 1}).fault
    assert "ok is 1, expected True" in ask(answered(b'{"ok": 1}'), expect_json={"ok": True}).fault
    assert ask(answered(b'{"ok": [1.0]}'), expect_json={"ok": [1]}).fault == ""


def golden(expected=1.0, **common):
    text = json.dumps({"format": "hybrid-golden/1", "cases": [{"input": 0, "expected": expected}], **common})
    cases = {RELEASE: read_cases(text, "golden.json")}
    return lambda port: GoldenProbe(ping=HttpProbe(port=port), cases=cases)


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        (b"1.00001", ""),
        (b"NaN", "$ is NaN, expected 1.0"),
        (b"Infinity", "$ is Infinity, expected 1.0"),
        (b"1" + b"0" * 400, "$ is 1000"),
        (b"1" + b"0" * 5000, "the answer is no JSON"),
        (b"[" * 500_000, "the answer is no JSON"),
        (b"true", "$ is true, expected 1.0"),
        (b'"1.0"', '$ is "1.0", expected 1.0'),
        (b"null", "$ is null, expected 1.0"),
        (b"[1.0]", "$ is [1.0], expected 1.0"),
        (b"1.0 1.0", "the answer is no JSON"),
        (b"", "the answer is no JSON"),
    ],
)
def test_a_golden_answer_that_is_a_trap_differs(body, fault):
    found = ask(answered(body), golden()).fault
    assert fault in found
    assert bool(fault) == bool(found)


def test_a_model_that_answers_the_ping_and_not_the_golden_case_is_unhealthy():
    calls = []

    async def moody(writer):
        calls.append(1)
        writer.write(answered(b"") if len(calls) == 1 else b"HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n")

    assert "golden case 1: " in (found := ask(moody, golden()).fault)
    assert "HTTP 500" in found


def test_a_golden_value_may_be_no_number_and_must_then_be_none():
    assert ask(answered(b"NaN"), golden(float("nan"))).fault == ""
    assert ask(answered(b"1.0"), golden(float("nan"))).fault


@pytest.fixture
def v6():
    try:
        with socket.socket(socket.AF_INET6) as probed:
            probed.bind(("::1", 0))
    except OSError:
        pytest.skip("this machine has no ::1")
    return "::1"


def test_a_host_of_ip_version_6_is_asked(v6):
    assert ask(answered(b""), address=v6).fault == ""
    server = socket.create_server((v6, 0), family=socket.AF_INET6)
    with server:
        probe = TcpProbe(port=server.getsockname()[1])
        assert asyncio.run(probe.check(target_at(v6), RELEASE)).fault == ""


ON_HOST = {"on_host": True}


def test_on_the_host_a_body_that_looks_like_a_head_is_a_body(host):  # noqa: F811
    said = b"HTTP/1.1 200 OK\r\nContent-Length: 44\r\n\r\nHTTP/1.1 200 OK\r\nX-Release-Id: r1\r\n\r\nall well"
    assert "no header X-Release-Id" in ask(said, target=host, **ON_HOST).fault


@pytest.mark.parametrize("client", ["curl", "wget", "busybox"])
def test_on_the_host_a_redirect_is_judged_by_itself_and_proves_nothing(tmp_path, client):
    moved = b"HTTP/1.1 302 Found\r\nLocation: /other\r\nContent-Length: 0\r\n\r\n"
    program = require_program(client, "busybox-static" if client == "busybox" else client)
    (tmp_path / ("curl" if client == "curl" else "wget")).symlink_to(program)
    calls = []

    async def moving(writer):
        calls.append(1)
        writer.write(moved if len(calls) == 1 else answered(b'{"ok": 1}'))

    def fault(**settings):
        calls.clear()
        found = ask(moving, target=Host(tmp_path), **ON_HOST, **settings)
        # BusyBox's cannot be told to stay where it is.
        assert len(found.asked) == (2 if client == "busybox" else 1)
        return found.fault

    assert "HTTP 302, expected 200" in fault()
    assert "no header X-Release-Id" in fault(expect_status=302)
    assert "ok is None, expected 1" in fault(expect_status=302, expect_json={"ok": 1})


def test_on_the_host_hints_before_the_answer_are_not_the_answer(tmp_path):
    said = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + answered(b"")
    (tmp_path / "curl").symlink_to(require_program("curl", "curl"))
    assert ask(said, target=Host(tmp_path), **ON_HOST).fault == ""


def test_on_the_host_two_names_of_a_release_prove_neither(host):  # noqa: F811
    twice = f"{NAMED}X-Release-Id: r0\r\nContent-Length: 0\r\n\r\n".encode()
    assert "release 'r1, r0' answers, not r1" in ask(twice, target=host, **ON_HOST).fault


def test_on_the_host_a_giant_answer_is_given_up(host):  # noqa: F811
    async def flood(writer):
        writer.write(f"{NAMED}\r\n".encode())
        for _ in range(1000):
            writer.write(bytes(100_000))
            await writer.drain()

    (host.programs / "head").symlink_to(shutil.which("head"))
    assert "longer than 1048576 bytes" in ask(flood, target=host, **ON_HOST).fault


def test_on_the_host_brackets_and_braces_of_a_url_are_what_they_are(host):  # noqa: F811
    found = ask(answered(b""), target=host, path="/ping?models[0]={a,b}", **ON_HOST)
    assert found.fault == ""
    assert [unquote(line.split()[1].decode()) for line in found.asked] == ["/ping?models[0]={a,b}"]


def test_on_the_host_babble_is_a_fault(host):  # noqa: F811
    for babble in (b"", b"SSH-2.0-OpenSSH_9.2\r\n", bytes(range(256)) * 10):
        assert ask(babble, target=host, **ON_HOST).fault


def test_on_the_host_an_answer_that_is_cut_is_none(host):  # noqa: F811
    fault = ask(answered(b"whole")[:-2], target=host, **ON_HOST).fault
    assert "cut off" in fault or "transfer closed" in fault
