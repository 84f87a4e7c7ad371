"""What of a probe could never be asked, or never be answered; found before anything is switched."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final
from urllib.parse import urlsplit

from hybrid_provider.exceptions import ConfigurationError

_LARGEST_PORT: Final = 65535
_HTTP_CODES: Final = range(100, 600)
_TOKEN: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")


def _is_token(given: object) -> bool:
    return isinstance(given, str) and _TOKEN.fullmatch(given) is not None


def _is_status(given: object) -> bool:
    return isinstance(given, int) and not isinstance(given, bool) and given in _HTTP_CODES


def _is_value(given: object) -> bool:
    return isinstance(given, str) and given.isascii() and given.isprintable()


def _are_headers(given: object) -> bool:
    return isinstance(given, Mapping) and all(
        _is_token(name) and _is_value(value) for name, value in given.items()
    )


def _are_places(given: object) -> bool:
    return isinstance(given, Mapping) and all(isinstance(place, str) for place in given)


# The settings of an HTTP probe: what each must be, and what to give.
_REQUEST: Final[Mapping[str, tuple[Callable[[object], bool], str]]] = {
    "path": (lambda given: isinstance(given, str) and given.startswith("/"), "it begins with '/'"),
    "method": (_is_token, "give one such as GET"),
    "body": (lambda given: given is None or isinstance(given, str), "give text, JSON as it is sent"),
    "headers": (_are_headers, "give names and values, each text of ASCII"),
    "expect_status": (_is_status, "give one such as 200"),
    "expect_headers": (_are_headers, "give names and values, each text of ASCII"),
    "expect_json": (_are_places, "give places such as model.status, and values"),
    "release_header": (lambda given: given is None or _is_token(given), "give a header's name, or None"),
    "release_json": (lambda given: given is None or isinstance(given, str), "give a place, or None"),
}


def request_faults(probe: object) -> list[str]:
    """Which settings of an HTTP probe cannot be right, and what to give."""
    return [
        f"{name} {getattr(probe, name)!r}: {remedy}"
        for name, (is_right, remedy) in _REQUEST.items()
        if not is_right(getattr(probe, name))
    ]


def checked_url(url: str) -> str:
    """Return a URL for a probe unchanged if it is one.

    Raises:
        ConfigurationError: It is not ``http://…`` or ``https://…`` with a host.
    """
    try:
        parts = urlsplit(url)
        good = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except (ValueError, TypeError, AttributeError):
        good = False
    if not good:
        raise ConfigurationError(f"probe URL {url!r}: it looks like http://edge-01:8080/ping")
    return url


def checked_port(port: object) -> int:
    """Return a port unchanged if it is one.

    Raises:
        ConfigurationError: It is no number from 1 to 65535.
    """
    if not isinstance(port, int) or isinstance(port, bool) or not 0 < port <= _LARGEST_PORT:
        raise ConfigurationError(f"probe port {port!r}: give a number from 1 to {_LARGEST_PORT}")
    return port
