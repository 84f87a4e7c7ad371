"""One HTTP request of a probe, from this machine or by ``curl`` or ``wget`` where the model runs."""

from __future__ import annotations

import re
import shlex
import ssl
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from hybrid_provider.exceptions import TargetError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import timedelta

    from hybrid_provider.targets.target import Target

# A model's answer to a handful of inputs; more is no answer to a probe.
MAX_ANSWER_BYTES: Final = 2**20
# The whole text is one argument of the target's shell, and Linux takes 128 KiB.
MAX_BODY_BYTES: Final = 100_000
# What a client on the host may write, its headers with it.
_MAX_WRITTEN_BYTES: Final = MAX_ANSWER_BYTES + 2**16
_CURL: Final = "curl"
_NO_CLIENT: Final = "neither curl nor wget is there"
_STATUS: Final = re.compile(r"HTTP/[0-9.]+ ([0-9]{3})")
_EXIT: Final = re.compile(r"client ended with ([0-9]+)")
_GOOD: Final = range(200, 300)
_INTERIM: Final = range(100, 200)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is asked."""

    url: str
    method: str = "GET"
    body: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """What was answered; the names of headers are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: str


class NoAnswer(Exception):
    """No response came; says why."""


async def ask_from_here(request: Request) -> Response:
    """Ask from this machine; redirects are not followed, proxies are not used.

    Raises:
        NoAnswer: No whole response came.
    """
    import httpx

    # What is packed could unpack to more than this machine has.
    headers = {"Accept-Encoding": "identity", **request.headers}
    client = httpx.AsyncClient(
        trust_env=False,
        follow_redirects=False,
        verify=_tls() if request.url.startswith("https:") else False,
        timeout=None,  # noqa: S113 - whoever asks limits the whole request; httpx limits its parts
    )
    try:
        async with (
            client,
            client.stream(request.method, request.url, content=request.body, headers=headers) as response,
        ):
            body = b""
            async for piece in response.aiter_raw():
                body += piece
                if len(body) > MAX_ANSWER_BYTES:
                    raise NoAnswer(_too_long(request))
    except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
        raise NoAnswer(f"{request.url}: {error or type(error).__name__}") from None
    received = {name.lower(): value for name, value in response.headers.items()}
    return Response(status=response.status_code, headers=received, body=body.decode(errors="replace"))


async def ask_on_host(target: Target, request: Request, limit: timedelta) -> Response:
    """Ask where the model runs.

    Raises:
        NoAnswer: No whole response came.
    """
    if request.body is not None and len(request.body.encode()) > MAX_BODY_BYTES:
        raise NoAnswer(
            f"{request.url}: a body of more than {MAX_BODY_BYTES} bytes is too long for a probe on the host"
        )
    try:
        finished = await target.run(client_command(request, limit), limit)
    except TargetError as error:
        raise NoAnswer(f"{request.url}, asked on the host: {error.reason}") from None
    if len(finished.stdout) > MAX_ANSWER_BYTES:
        raise NoAnswer(_too_long(request))
    response = read_response(finished.stdout, finished.stderr)
    if response is None:
        said = finished.stderr.strip().splitlines() or [f"the client ended with {finished.exit_code}"]
        # Its own words come before its exit code; wget has none for an answer that was cut off.
        last = "the answer is cut off" if any(map(_STATUS.match, map(str.strip, said))) else said[-2:][0]
        raise NoAnswer(f"{request.url}, asked on the host: {last.strip()}")
    return response


def _too_long(request: Request) -> str:
    return f"{request.url}: the answer is longer than {MAX_ANSWER_BYTES} bytes"


def client_command(request: Request, limit: timedelta) -> str:
    """Shell text that sends the request, after a line with the client's name.

    curl writes headers before the body, wget to standard error; the last line there is the exit code.
    """
    quote = shlex.quote
    seconds = max(1, int(limit.total_seconds()))
    headers = [f"{name}: {value}" for name, value in request.headers.items()]
    # Its user's own settings, and what brackets and braces of a URL mean to curl, are none of the probe's.
    curl = [_CURL, "-q", "-g", "-sS", "-i", "--noproxy", "'*'", "--max-time", str(seconds)]
    curl += ["-X", quote(request.method), *(word for header in headers for word in ("-H", quote(header)))]
    wget = ["wget", "-q", "-S", "-O", "-", "$limits"]
    wget += [word for header in headers for word in ("--header", quote(header))]
    # What it says it knows: a BusyBox that is built without -T crashes of it, and none can be told not to
    # follow a redirect.
    limits = (
        f"case $(wget --help 2>&1) in *--max-redirect*) limits='-t 1 --max-redirect=0 -T {seconds}' ;; "
        f"*'-T SEC'*) limits='-T {seconds}' ;; *) limits= ;; esac; "
    )
    feed = ""
    if request.body is not None:
        feed = f"printf %s {quote(request.body)} | "
        curl += ["--data-binary", "@-"]
        wget += ["--post-data", quote(request.body)]
    return (
        "unset http_proxy https_proxy HTTPS_PROXY ALL_PROXY all_proxy\n"
        "ask() {\nif command -v curl >/dev/null 2>&1; then echo curl; "
        f"{feed}{' '.join(curl)} {quote(request.url)}\n"
        "elif command -v wget >/dev/null 2>&1; then echo wget; "
        f"{limits}{' '.join(wget)} {quote(request.url)}\n"
        f"else echo {quote(_NO_CLIENT)} >&2; (exit 127); fi\n"
        "echo client ended with $? >&2\n}\n"
        f"if command -v head >/dev/null 2>&1; then ask | head -c {_MAX_WRITTEN_BYTES}; else ask; fi"
    )


def read_response(stdout: str, stderr: str) -> Response | None:
    """The response in what :func:`client_command` wrote; None where no whole one is."""
    client, _, written = stdout.replace("\r\n", "\n").partition("\n")
    told = [line.strip() for line in stderr.splitlines()]
    ended = _EXIT.fullmatch(told[-1]) if told else None
    failed = ended is None or ended[1] != "0"
    if client == _CURL:
        return None if failed else _of_curl(written)
    answers = [found for found in _heads(told, written) if found.status not in _INTERIM]
    # The answer comes first, and what it redirects to, if wget went there, after it: the body is of the last.
    response = replace(answers[0], body=answers[0].body if len(answers) == 1 else "") if answers else None
    # It fails of every other status as well.
    return None if response is None or (failed and response.status in _GOOD) else response


def _of_curl(written: str) -> Response | None:
    head, _, body = written.partition("\n\n")
    response = _response(head.splitlines(), body)
    # 100 Continue and 103 Early Hints come before the answer itself.
    while response is not None and response.status in _INTERIM:
        head, _, body = body.partition("\n\n")
        response = _response(head.splitlines(), body)
    return response


def _heads(lines: list[str], body: str) -> Iterator[Response]:
    """Each head in what wget wrote to standard error, as a response with the body."""
    starts = [number for number, line in enumerate(lines) if _STATUS.match(line)]
    for start, end in pairwise([*starts, len(lines)]):
        if (response := _response(lines[start:end], body)) is not None:
            yield response


def _response(lines: list[str], body: str) -> Response | None:
    status = _STATUS.match(lines[0]) if lines else None
    if status is None:
        return None
    headers: dict[str, str] = {}
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        if colon:
            key = name.strip().lower()
            # As a list, which is what two of one name are.
            headers[key] = f"{headers[key]}, {value.strip()}" if key in headers else value.strip()
    return Response(status=int(status[1]), headers=headers, body=body)


@cache
def _tls() -> ssl.SSLContext:
    """Loading the certificates takes 20 ms, which is too much for each probe."""
    return ssl.create_default_context()
