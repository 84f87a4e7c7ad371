"""Proofs that a target serves the release: HTTP, a command, TCP, and several together.

Golden inference is in :mod:`hybrid_provider.rollout.golden`; :mod:`hybrid_provider.rollout.probe_settings`
makes a probe of what a DAG or a file gives.
"""

from __future__ import annotations

import asyncio
import json
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, Protocol
from urllib.parse import urlsplit

from hybrid_provider.exceptions import ConfigurationError, TargetError
from hybrid_provider.rollout.http import (
    MAX_BODY_BYTES,
    NoAnswer,
    Request,
    Response,
    ask_from_here,
    ask_on_host,
)
from hybrid_provider.rollout.probe_checks import checked_port, checked_url, request_faults

if TYPE_CHECKING:
    from hybrid_provider.targets.target import Target

# On the target itself whoever asks waits no longer than this; the policy's probe_timeout is mostly shorter.
ON_HOST_LIMIT: Final = timedelta(seconds=60)
_NEEDS_NC: Final = "command -v nc >/dev/null || { echo no nc is there >&2; exit 127; }"
_PLAIN: Final = "identity"


@dataclass(frozen=True, slots=True)
class Answer:
    """What one probe found.

    Attributes:
        fault: Why the target is not healthy; empty when it is.
    """

    fault: str = ""

    @property
    def healthy(self) -> bool:
        """Whether the target serves the release."""
        return not self.fault


class Probe(Protocol):
    """Asks a target whether it serves a release."""

    async def check(self, target: Target, release_id: str) -> Answer:
        """Ask once. Whatever goes wrong is an unhealthy answer with its reason; may be cancelled."""


@dataclass(frozen=True, kw_only=True)
class HttpProbe:
    """One HTTP request, from this machine or on the host; redirects are not followed, proxies not used.

    Attributes:
        url: What to ask, the same for the whole fleet but for ``{host}`` and ``{name}``, the target's address
            and name. None: ``http://{host}:<port><path>``. A target's own ``probe_url`` goes before both.
        port: Of that URL. 8080, as SageMaker's containers.
        path: Of that URL. ``/ping``, as SageMaker's containers.
        method: The request's method.
        body: The request's body.
        headers: The request's headers.
        expect_status: The only status that is healthy.
        expect_headers: Headers of the response and what they must be.
        expect_json: Places in the response's JSON, such as ``model.status`` or ``models.0.ready``, and what
            must be there.
        release_header: The response's header that must name the release, which is what proves that no older
            one answers. None asks for no such proof: then a target may pass while the old release serves.
        release_json: The place in the response's JSON that must name the release, asked instead of the
            header.
        on_host: Ask on the target itself, by its ``curl`` or ``wget``, where ``{host}`` is ``127.0.0.1``:
            for a service that listens there only, or behind a firewall.
    """

    url: str | None = None
    port: int = 8080
    path: str = "/ping"
    method: str = "GET"
    body: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    expect_status: int = 200
    expect_headers: Mapping[str, str] = field(default_factory=dict)
    expect_json: Mapping[str, object] = field(default_factory=dict)
    release_header: str | None = "X-Release-Id"
    release_json: str | None = None
    on_host: bool = False

    def __post_init__(self) -> None:
        if self.url is not None:
            checked_url(self.url)
        checked_port(self.port)
        faults = request_faults(self)
        if not faults and self.on_host and self.body and len(self.body.encode()) > MAX_BODY_BYTES:
            faults = [f"body: at most {MAX_BODY_BYTES} bytes can be sent on the host"]
        if faults:
            raise ConfigurationError(f"probe {'; '.join(faults)}")

    def url_of(self, target: Target, path: str | None = None) -> str:
        """The URL that is asked for one target; with another path where one is given."""
        host = "127.0.0.1" if self.on_host else target.host
        host = f"[{host}]" if ":" in host else host
        url = target.probe_url or self.url or f"http://{{host}}:{self.port}{self.path}"
        url = url.replace("{host}", host).replace("{name}", target.name)
        return urlsplit(url)._replace(path=path, query="").geturl() if path else url

    async def check(self, target: Target, release_id: str) -> Answer:
        """See :meth:`Probe.check`."""
        request = Request(
            url=self.url_of(target), method=self.method, body=self.body, headers=dict(self.headers)
        )
        try:
            response = await self.ask(target, request)
        except NoAnswer as error:
            return Answer(str(error))
        fault = self._fault_of(response) or self._other_release(response, release_id)
        return Answer(f"{request.url}: {fault}" if fault else "")

    @property
    def programs(self) -> tuple[str, ...]:
        """See :func:`programs_of`."""
        return ("curl/wget",) if self.on_host else ()

    async def ask(self, target: Target, request: Request) -> Response:
        """Send a request to where this probe asks.

        Raises:
            NoAnswer: No whole response came.
        """
        if self.on_host:
            response = await ask_on_host(target, request, ON_HOST_LIMIT)
        else:
            response = await ask_from_here(request)
        packed = response.headers.get("content-encoding", _PLAIN)
        if packed.lower() != _PLAIN:
            raise NoAnswer(
                f"{request.url}: the answer is packed as {_short(packed)}, which was not asked for"
            )
        return response

    def _fault_of(self, response: Response) -> str:
        if response.status != self.expect_status:
            said = f": {_short(' '.join(response.body.split()))}" if response.body.strip() else ""
            return f"HTTP {response.status}, expected {self.expect_status}{said}"
        for name, expected in self.expect_headers.items():
            found = response.headers.get(name.lower())
            if found != expected:
                return f"header {name} is {_short(found)}, expected {expected!r}"
        for place, wanted in self.expect_json.items():
            answer = json_at(response.body, place)
            # True is no 1, though Python says so.
            if answer != wanted or isinstance(answer, bool) != isinstance(wanted, bool):
                return f"{place} is {_short(answer)}, expected {wanted!r}"
        return ""

    def _other_release(self, response: Response, release_id: str) -> str:
        if self.release_json is not None:
            served, where = json_at(response.body, self.release_json), f"{self.release_json} of its JSON"
        elif self.release_header is not None:
            served = response.headers.get(self.release_header.lower())
            where = f"header {self.release_header}"
        else:
            return ""
        if served is None:
            return f"no {where} says which release answers"
        return "" if served == release_id else f"release {_short(served)} answers, not {release_id}"


@dataclass(frozen=True, kw_only=True)
class CommandProbe:
    """Shell text, run where the model runs, with ``RELEASE_ID`` in its environment.

    Only the command can tell which release serves: compare what it finds with ``$RELEASE_ID``.

    Attributes:
        command: For ``sh -c``, in HOME.
        expect_exit: The only exit code that is healthy.
        expect_output: A regular expression that must be found in what it writes to standard output.
    """

    command: str
    expect_exit: int = 0
    expect_output: str | None = None

    def __post_init__(self) -> None:
        if not self.command.strip():
            raise ConfigurationError("probe command is empty; give shell text such as './smoke-test'")
        try:
            re.compile(self.expect_output or "")
        except re.error as error:
            raise ConfigurationError(f"probe expect_output {self.expect_output!r}: {error}") from None

    @property
    def programs(self) -> tuple[str, ...]:
        """See :func:`programs_of`."""
        return ("sh",)

    async def check(self, target: Target, release_id: str) -> Answer:
        """See :meth:`Probe.check`."""
        text = f"RELEASE_ID={shlex.quote(release_id)}; export RELEASE_ID\n{self.command}"
        try:
            finished = await target.run(text, ON_HOST_LIMIT)
        except TargetError as error:
            return Answer(f"probe command: {error.reason}")
        said = (finished.stderr.strip() or finished.stdout.strip()).splitlines()[-1:]
        tail = f": {said[0][:200]}" if said else ""
        if finished.exit_code != self.expect_exit:
            return Answer(f"probe command ended with {finished.exit_code}, expected {self.expect_exit}{tail}")
        if self.expect_output is not None and not re.search(self.expect_output, finished.stdout):
            return Answer(f"probe command wrote nothing that matches {self.expect_output!r}{tail}")
        return Answer()


@dataclass(frozen=True, kw_only=True)
class TcpProbe:
    """Something accepts a connection. It proves no release: give it together with another probe.

    Attributes:
        port: The port.
        on_host: Connect on the target itself, by its ``nc``.
    """

    port: int
    on_host: bool = False

    def __post_init__(self) -> None:
        checked_port(self.port)

    @property
    def programs(self) -> tuple[str, ...]:
        """See :func:`programs_of`."""
        return ("nc",) if self.on_host else ()

    async def check(self, target: Target, release_id: str) -> Answer:
        """See :meth:`Probe.check`."""
        if self.on_host:
            # BusyBox's has no -z; others refuse its -e, and have said before what is wrong.
            where = f"127.0.0.1 {self.port}"
            command = f"{_NEEDS_NC}; nc -z {where} 2>/dev/null || nc -w 5 {where} -e true"
            answer = await CommandProbe(command=command).check(target, release_id)
            return Answer(f"port {self.port} on the host: {answer.fault}" if answer.fault else "")
        try:
            _, writer = await asyncio.open_connection(target.host, self.port)
        except OSError as error:
            return Answer(f"port {self.port} of {target.host}: {error.strerror or error}")
        writer.close()
        return Answer()


@dataclass(frozen=True)
class AllProbes:
    """All of these, one after the other; the first that is not healthy says why."""

    probes: tuple[Probe, ...]

    def __post_init__(self) -> None:
        if not self.probes:
            raise ConfigurationError(
                "probe is an empty list; give one probe or more, or None for the default"
            )

    @property
    def programs(self) -> tuple[str, ...]:
        """See :func:`programs_of`."""
        return tuple(dict.fromkeys(each for probe in self.probes for each in programs_of(probe)))

    async def check(self, target: Target, release_id: str) -> Answer:
        """See :meth:`Probe.check`."""
        for probe in self.probes:
            answer = await probe.check(target, release_id)
            if not answer.healthy:
                return answer
        return Answer()


async def asked(probe: Probe, target: Target, release_id: str, limit: timedelta) -> Answer:
    """What a probe finds within ``limit``; whatever it raises is an unhealthy answer.

    A probe may be a DAG's own: an error of it in the middle of a switch would else leave the fleet there.
    """
    try:
        async with asyncio.timeout(limit.total_seconds()):
            return await probe.check(target, release_id)
    except TimeoutError:
        return Answer(f"the probe had no answer within {limit.total_seconds():g} s (probe_timeout)")
    except Exception as error:  # noqa: BLE001 - see above
        return Answer(f"the probe itself failed: {type(error).__name__}: {error}")


def programs_of(probe: Probe) -> tuple[str, ...]:
    """Programs that a probe needs where the model runs; ``curl/wget`` is one of these two.

    A DAG's own probe may have the attribute ``programs`` too.
    """
    return tuple(getattr(probe, "programs", ()))


def json_at(body: str, place: str) -> object:
    """What is at a place such as ``models.0.version`` of a JSON text; None where nothing is."""
    try:
        found: Any = json.loads(body)
    except (ValueError, RecursionError):
        return None
    for step in place.removeprefix("$").strip(".").split("."):
        if isinstance(found, Mapping) and step in found:
            found = found[step]
        elif isinstance(found, Sequence) and not isinstance(found, str) and step.isdecimal():
            found = found[int(step)] if int(step) < len(found) else None
        else:
            return None
    return found


def _short(found: object) -> str:
    text = repr(found)
    return text if len(text) <= 80 else f"{text[:80]}…"  # noqa: PLR2004 - a line of a log
