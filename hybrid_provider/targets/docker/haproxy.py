"""The router's configuration, as text."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from hybrid_provider.targets.docker.container import ROUTER_PORT

if TYPE_CHECKING:
    from datetime import timedelta

_HEAD: Final = """\
# Written by a rollout; a change made here is lost at the next switch.
global
    log stdout format raw local0
    hard-stop-after {hard_stop}s

defaults
    mode http
    # What an old process still has open gets its answer, and is closed with it: never a request without one.
    option idle-close-on-response
    option log-health-checks
    option redispatch
    retries 3
    timeout connect 5s
    timeout client {idle}s
    timeout server {idle}s
    timeout http-request 60s
    timeout http-keep-alive {keep_alive}s

resolvers engine
    nameserver dns 127.0.0.11:53
    hold valid 1s
    hold obsolete 1s

# The health check of ourselves tells, in the log, that this configuration is the one that works.
listen self
    bind 127.0.0.1:18080
    no log
    http-request return status 200

backend loaded-{generation}
    log global
    server self 127.0.0.1:18080 check inter 1s

frontend public
    bind :{port}
    no log
"""
_TRIAL: Final = (
    "    use_backend trial if {{ date ge {begun} }} {{ date lt {deadline} }} {{ nbsrv(trial) gt 0 }}\n"
)
_NOBODY: Final = "\nbackend live\n    http-request return status 503\n"
_BACKEND: Final = """
backend {name}
    http-response set-header X-Release-Id {release}
    server {alias} {alias}:{port} resolvers engine init-addr libc,none
"""
_CANDIDATE: Final = """
backend candidate-{generation}
    log global
{check}    server {alias} {alias}:{port} check inter 500ms rise 1 resolvers engine init-addr libc,none
"""
_HTTP_CHECK: Final = """\
    option httpchk
    http-check send meth GET uri {path} ver HTTP/1.1 hdr Host {alias}
    http-check expect status 200
"""
# A request may take as long as a large model needs.
_IDLE_SECONDS: Final = 3600
# How long a switch may have to wait for a client that keeps a connection and asks nothing.
_KEEP_ALIVE_SECONDS: Final = 10
_GRACE_SECONDS: Final = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A serving container, as the router sees it.

    Attributes:
        alias: Its name in the network.
        port: Where it listens.
        release: What it serves.
        ready_path: What it is asked before it gets requests; empty asks for a connection.
    """

    alias: str
    port: int
    release: str
    ready_path: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Routes:
    """Where requests go.

    Attributes:
        live: What was committed; None while nothing was.
        trial: What requests go to from ``begun`` until ``deadline``, and not one second longer.
        begun: In seconds since 1970, by the engine's clock.
        deadline: Likewise.
        candidate: What is only asked whether it is ready.
    """

    live: Server | None = None
    trial: Server | None = None
    begun: float = 0
    deadline: float = 0
    candidate: Server | None = None


def configuration(routes: Routes, generation: str, drain: timedelta) -> str:
    """HAProxy's configuration; ``generation`` names it in the log."""
    seconds = math.ceil(drain.total_seconds())
    text = _HEAD.format(
        hard_stop=seconds + _GRACE_SECONDS,
        idle=_IDLE_SECONDS,
        keep_alive=_KEEP_ALIVE_SECONDS,
        generation=generation,
        port=ROUTER_PORT,
    )
    if routes.trial is not None:
        text += _TRIAL.format(begun=math.floor(routes.begun), deadline=math.floor(routes.deadline))
    text += "    default_backend live\n"
    text += _backend("live", routes.live) if routes.live else _NOBODY
    if routes.trial is not None:
        text += _backend("trial", routes.trial)
    if routes.candidate is not None:
        text += _candidate(routes.candidate, generation)
    return text


def loaded_marker(generation: str) -> str:
    """What the log says once a configuration works."""
    return f"loaded-{generation}/self succeeded"


def ready_marker(generation: str, server: Server) -> str:
    """What the log says once a candidate is ready."""
    return f"candidate-{generation}/{server.alias} succeeded"


def failed_marker(generation: str, server: Server) -> str:
    """What the log says each time that a candidate is not."""
    return f"candidate-{generation}/{server.alias} failed"


def _backend(name: str, server: Server) -> str:
    return _BACKEND.format(name=name, release=server.release, alias=server.alias, port=server.port)


def _candidate(server: Server, generation: str) -> str:
    check = _HTTP_CHECK.format(path=server.ready_path, alias=server.alias) if server.ready_path else ""
    return _CANDIDATE.format(generation=generation, check=check, alias=server.alias, port=server.port)
