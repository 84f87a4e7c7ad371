"""obstore kept from taking secrets to wherever an endpoint points."""

from __future__ import annotations

import urllib.request
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from obstore.store import ClientConfig

# Nothing listens on port 0, and nothing can.
_NOWHERE = "http://127.0.0.1:0"


def not_followed_from(endpoint: str) -> ClientConfig:
    """The settings by which only the endpoint's own host is asked, and any other is not there.

    obstore follows redirects and has no setting for them. It would send the session token of S3 along, and
    as the referrer the URL, in which Azure's shared access signature is. A proxy of the environment decides
    itself what it lets through.
    """
    parts = urlsplit(endpoint)
    proxies = urllib.request.getproxies()
    host = str(parts.hostname)
    if (parts.scheme in proxies or "all" in proxies) and not urllib.request.proxy_bypass(host):
        return {}
    return {"proxy_url": _NOWHERE, "proxy_excludes": host}
