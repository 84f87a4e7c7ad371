"""obstore kept from taking secrets to wherever an endpoint points."""

from __future__ import annotations

import urllib.request
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from obstore.store import ClientConfig

REDIRECTED = (
    "the endpoint redirects elsewhere; give the one that it leads to, if you trust that, as endpoint_url"
)
OTHER_REGION = "the bucket is in another region; set region_name, or the region of the aws connection"
# Nothing listens on port 0, and nothing can.
_NOWHERE = "http://127.0.0.1:0"
# As obstore's errors show an address that it could not reach, and an answer of S3 that names no other place.
_WENT_NOWHERE = "127.0.0.1:0,"
_NO_PLACE = "Received redirect without LOCATION"


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: object) -> None:
        """Take the answer for the error that it is."""


following_none = urllib.request.build_opener(_NoRedirects)
"""What is signed goes to the connection's own endpoint, and never on to where that points."""
REDIRECTS = range(300, 400)


def not_followed_from(endpoint: str) -> ClientConfig:
    """The settings by which only the endpoint's own host is asked, and any other is not there.

    obstore follows redirects and has no setting for them. It would send the session token of S3 along, and
    as the referrer the URL, in which Azure's shared access signature is. A proxy of the environment decides
    itself what it lets through. Another port of the host cannot be kept off so: whoever opens a store asks
    first in a way that follows none.
    """
    parts = urlsplit(endpoint)
    proxies = urllib.request.getproxies()
    host = str(parts.hostname)
    if (parts.scheme in proxies or "all" in proxies) and not urllib.request.proxy_bypass(host):
        return {}
    return {"proxy_url": _NOWHERE, "proxy_excludes": host}


def redirect_in(error: Exception) -> str | None:
    """What to say of an error of obstore's that a redirect made; None for any other."""
    text = str(error)
    if _NO_PLACE in text:
        return OTHER_REGION
    return REDIRECTED if _WENT_NOWHERE in text else None
