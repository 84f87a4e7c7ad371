"""What Google Cloud and Azure say of an object: asked with a signed HEAD, for obstore does not tell."""

from __future__ import annotations

import base64
import hashlib
import hmac
import logging
import time
import urllib.error
import urllib.request
from datetime import timedelta
from email.utils import formatdate
from http import HTTPStatus
from typing import TYPE_CHECKING, cast
from urllib.parse import quote, urlsplit

from hybrid_provider.artifacts.checksum import MD5, Checksum
from hybrid_provider.artifacts.clouds import open_cloud
from hybrid_provider.artifacts.redirects import following_none
from hybrid_provider.artifacts.transfer_policy import TransferPolicy
from hybrid_provider.exceptions import ArtifactUnavailable

if TYPE_CHECKING:
    from email.message import Message

    from obstore import HTTP_METHOD
    from obstore.store import ObjectStore

    from hybrid_provider.artifacts.clouds import CloudAccess
    from hybrid_provider.artifacts.objects import Location, StoredObject

_PATIENT = TransferPolicy()
_SIGNED_FOR = timedelta(minutes=5)
_GOOGLE = "https://storage.googleapis.com"
_AZURE_VERSION = "2021-08-06"
_BUSY = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS)
_CANNOT_ASK = {
    "gs": "the connection may not ask for it: give it a service account's key, or the role "
    "Service Account Token Creator on itself",
    "az": "the connection may not ask for it: give the account's key, or the role Storage Blob "
    "Data Reader on the account",
}
_log = logging.getLogger(__name__)


class CloudChecksums:
    """Asks about the objects of one bucket.

    Args:
        access: The account.
    """

    def __init__(self, access: CloudAccess) -> None:
        self._access = access
        self._store: ObjectStore | None = None
        self._refused = False

    def of(self, item: StoredObject) -> Checksum | None:
        """Google's CRC32C or MD5, Azure's MD5; None where there is none, or the connection may not ask.

        Raises:
            ArtifactUnavailable: The store throttles, fails or cannot be reached.
        """
        if self._refused or self._access.cloud not in _CANNOT_ASK:
            return None
        request = self._signed(item.location)
        head = None if request is None else self._answer(item.location, request)
        # Another object, or none, is found and explained by what reads it next.
        if head is None or head.get("ETag", "").strip('"') != item.etag:
            return None
        return checksum_in(head)

    def _signed(self, location: Location) -> urllib.request.Request | None:
        """A HEAD of the object as the connection may send it; None where it cannot sign one."""
        config = self._access.config
        path = f"/{location.bucket.partition('@')[0]}/{quote(location.key, safe='/~')}"
        if self._access.cloud == "gs" and config.get("skip_signature"):
            return _request(f"{config.get('base_url') or _GOOGLE}{path}")
        if self._access.cloud == "az" and "account_name" in config:
            account = str(config["account_name"])
            endpoint = config.get("endpoint") or f"https://{account}.blob.core.windows.net"
            if "sas_key" in config:
                return _request(f"{endpoint}{path}?{config['sas_key']}")
            # obstore would sign the path as it is escaped, which Azure refuses where that makes a difference.
            if "account_key" in config:
                return _request(f"{endpoint}{path}", account, str(config["account_key"]))
        return self._signed_by_obstore(location)

    def _signed_by_obstore(self, location: Location) -> urllib.request.Request | None:
        import obstore
        from obstore.exceptions import BaseError

        self._store = self._store or open_cloud(self._access, location, _PATIENT)
        # Azure's signature is to read, whichever the method; for HEAD obstore asks to be allowed nothing.
        method: HTTP_METHOD = "HEAD" if self._access.cloud == "gs" else "GET"
        try:
            return _request(obstore.sign(self._store, method, location.key, _SIGNED_FOR))  # type: ignore[arg-type]
        except BaseError:
            self._refuse(location)
            return None

    def _answer(self, location: Location, request: urllib.request.Request) -> Message | None:
        """The answer's header fields; None where the object is gone or asking is refused."""
        problem: object = None
        for attempt in range(_PATIENT.attempts):
            if attempt:
                time.sleep(_PATIENT.first_pause.total_seconds() * 2 ** (attempt - 1))
            try:
                seconds = _PATIENT.stall_timeout.total_seconds()
                with following_none.open(request, timeout=seconds) as answer:
                    return cast("Message", answer.headers)
            except urllib.error.HTTPError as error:
                error.close()
                if error.code < HTTPStatus.INTERNAL_SERVER_ERROR and error.code not in _BUSY:
                    if error.code != HTTPStatus.NOT_FOUND:
                        self._refuse(location)
                    return None
                problem = f"HTTP {error.code}"
            except OSError as error:
                problem = error
        raise ArtifactUnavailable(
            f"{location}: the store does not tell its checksum ({problem}); the same call may work later"
        )

    def _refuse(self, location: Location) -> None:
        """Ask no more, and say so once: a prefix may hold thousands of objects."""
        if not self._refused:
            self._refused = True
            _log.warning(
                "%s: its checksum is not compared, for %s", location, _CANNOT_ASK[self._access.cloud]
            )


def checksum_in(head: Message) -> Checksum | None:
    """The checksum in an answer's header fields: the cheapest that can be computed, or the only one.

    An object that Google composed of others has no MD5, and a blob that came to Azure in blocks has one only
    where its uploader gave it.
    """
    fields = ",".join(head.get_all("x-goog-hash", [])).split(",")
    hashes = dict(field.strip().partition("=")[::2] for field in fields)
    crc32c = Checksum("CRC32C", hashes["crc32c"]) if "crc32c" in hashes else None
    if crc32c is not None and crc32c.can_be_computed:
        return crc32c
    md5 = hashes.get("md5") or head.get("Content-MD5")
    return Checksum(MD5, md5) if md5 else crc32c


def _request(url: str, account: str = "", key: str = "") -> urllib.request.Request:
    """A HEAD, of Azure with what its account's key signs (Microsoft's "Authorize with Shared Key")."""
    fields = {}
    if key:
        fields = {"x-ms-date": formatdate(usegmt=True), "x-ms-version": _AZURE_VERSION}
        named = "".join(f"{name}:{value}\n" for name, value in fields.items())
        text = "HEAD" + "\n" * 12 + named + f"/{account}{urlsplit(url).path}"
        digest = hmac.digest(base64.b64decode(key), text.encode(), hashlib.sha256)
        fields["Authorization"] = f"SharedKey {account}:{base64.b64encode(digest).decode()}"
    return urllib.request.Request(url, method="HEAD", headers=fields)  # noqa: S310 - likewise
