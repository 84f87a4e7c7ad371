"""One HTTP request of a probe, from this machine or by ``curl`` or ``wget`` where the model runs."""

from __future__ import annotations

import re
import shlex
import ssl
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Final

from hybrid_provider.exceptions import TargetError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import timedelta

    from hybrid_provider.targets.target import Target

# A model's answer to a handful of inputs; more is no answer to a probe.
MAX_ANSWER_BYTES: Final = 2**20
# The whole text is one argument of the target's shell, and Linux takes 128 KiB.
MAX_BODY_BYTES: Final = 100_000
_NO_CLIENT: Final = "neither curl nor wget is there"
_STATUS: Final = re.compile(r"HTTP/[0-9.]+ ([0-9]{3})")


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

    client = httpx.AsyncClient(
        trust_env=False,
        follow_redirects=False,
        verify=_tls() if request.url.startswith("https:") else False,
        timeout=None,  # noqa: S113 - whoever asks limits the whole request; httpx limits its parts
    )
    try:
        async with (
            client,
            client.stream(
                request.method, request.url, content=request.body, headers=dict(request.headers)
            ) as response,
        ):
            body = b""
            async for piece in response.aiter_bytes():
                body += piece
                if len(body) > MAX_ANSWER_BYTES:
                    raise NoAnswer(f"{request.url}: the answer is longer than {MAX_ANSWER_BYTES} bytes")
    except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
        raise NoAnswer(f"{request.url}: {error or type(error).__name__}") from None
    headers = {name.lower(): value for name, value in response.headers.items()}
    return Response(status=response.status_code, headers=headers, body=body.decode(errors="replace"))


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
    response = read_response(finished.stdout, finished.stderr)
    if response is None:
        said = finished.stderr.strip().splitlines()[-1:] or [f"the client ended with {finished.exit_code}"]
        raise NoAnswer(f"{request.url}, asked on the host: {said[0].strip()}")
    return response


def client_command(request: Request, limit: timedelta) -> str:
    """Shell text that sends the request; curl writes headers before the body, wget to standard error."""
    quote = shlex.quote
    seconds = max(1, int(limit.total_seconds()))
    headers = [f"{name}: {value}" for name, value in request.headers.items()]
    curl = ["curl", "-sS", "-i", "--noproxy", "'*'", "--max-time", str(seconds), "-X", quote(request.method)]
    curl += [word for header in headers for word in ("-H", quote(header))]
    wget = ["wget", "-q", "-S", "-O", "-", "-T", str(seconds)]
    wget += [word for header in headers for word in ("--header", quote(header))]
    feed = ""
    if request.body is not None:
        feed = f"printf %s {quote(request.body)} | "
        curl += ["--data-binary", "@-"]
        wget += ["--post-data", quote(request.body)]
    return (
        "unset http_proxy https_proxy HTTPS_PROXY ALL_PROXY all_proxy\n"
        f"if command -v curl >/dev/null 2>&1; then {feed}{' '.join(curl)} {quote(request.url)}\n"
        f"elif command -v wget >/dev/null 2>&1; then {' '.join(wget)} {quote(request.url)}\n"
        f"else echo {quote(_NO_CLIENT)} >&2; exit 127; fi"
    )


def read_response(stdout: str, stderr: str) -> Response | None:
    """The response in what curl or wget wrote; None where there is none."""
    text = stdout.replace("\r\n", "\n")
    if not _STATUS.match(text):
        lines = [line.strip() for line in stderr.splitlines()]
        starts = [number for number, line in enumerate(lines) if _STATUS.search(line)]
        return _response(lines[starts[0] :], stdout) if starts else None
    head, _, body = text.partition("\n\n")
    # 100 Continue comes before the answer itself.
    while head.startswith("HTTP") and head.split()[1:2] == ["100"] and _STATUS.match(body):
        head, _, body = body.partition("\n\n")
    return _response(head.splitlines(), body)


def _response(lines: list[str], body: str) -> Response | None:
    status = _STATUS.search(lines[0])
    if status is None:
        return None
    pairs = (line.partition(":") for line in lines[1:] if ":" in line)
    headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
    return Response(status=int(status[1]), headers=headers, body=body)


@cache
def _tls() -> ssl.SSLContext:
    """Loading the certificates takes 20 ms, which is too much for each probe."""
    return ssl.create_default_context()
