"""The provider's entry into Airflow's UI and API server."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from airflow.sdk.plugins_manager import AirflowPlugin

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping

URL_PREFIX: Final = "/hybrid_fleet"
STATIC: Final = Path(__file__).parent / "static"


@cache
def version_of_page() -> str:
    """Of the page's modules, so that a browser may keep them for ever and mixes no two versions."""
    sums = (hashlib.sha256(path.read_bytes()).digest() for path in sorted(STATIC.glob("*.js")))
    return hashlib.sha256(b"".join(sums)).hexdigest()[:12]


async def fleet_app(
    scope: MutableMapping[str, Any],
    receive: Callable[[], Awaitable[MutableMapping[str, Any]]],
    send: Callable[[MutableMapping[str, Any]], Awaitable[None]],
) -> None:
    """The page's routes, imported at the first request: every worker loads the plugin, and serves none."""
    from hybrid_provider.fleet.api import app

    await app(scope, receive, send)


class HybridPlugin(AirflowPlugin):
    """Puts the page "Model fleet" into the menu "Browse", and what it reads under ``/hybrid_fleet``."""

    name = "hybrid"
    fastapi_apps = [{"app": fleet_app, "url_prefix": URL_PREFIX, "name": "Model fleet"}]  # noqa: RUF012 - Airflow's declaration
    react_apps = [  # noqa: RUF012 - likewise
        {
            "name": "Model fleet",
            # Relative: the UI resolves it against [api] base_url, whose path it so keeps.
            "bundle_url": f".{URL_PREFIX}/static/{version_of_page()}/fleet.js",
            "destination": "nav",
            "category": "browse",
            "url_route": "model-fleet",
        }
    ]
