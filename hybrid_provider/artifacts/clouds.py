"""Objects of Google Cloud and Azure, and this machine's files: looked at and opened with obstore alone."""

from __future__ import annotations

import os
import urllib.error
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPException
from typing import TYPE_CHECKING
from urllib.parse import quote

from hybrid_provider.artifacts.objects import Location, StoredObject, no_more_than_fit
from hybrid_provider.artifacts.redirects import (
    REDIRECTED,
    REDIRECTS,
    following_none,
    not_followed_from,
    redirect_in,
)
from hybrid_provider.exceptions import (
    ArtifactNotFound,
    ArtifactRefused,
    ArtifactUnavailable,
    ConfigurationError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from obstore import ObjectMeta
    from obstore.store import AzureConfig, ClientConfig, GCSConfig, ObjectStore

    from hybrid_provider.artifacts.transfer_policy import TransferPolicy

_NO_GOOGLE = (
    "outside Google's cloud, give credentials in the google_cloud_platform connection, or in "
    "GOOGLE_APPLICATION_CREDENTIALS"
)
_SECONDS_FOR_A_LOOK = 30
_FOUND_AT = {"gs": "gs", "az": "az", "abfs": "az", "file": "file"}


@dataclass(frozen=True, kw_only=True)
class CloudAccess:
    """What opens the objects of one connection.

    Attributes:
        cloud: ``gs`` (Google), ``az`` (Azure) or ``file`` (this machine).
        config: obstore's settings of that store (``service_account_key``, ``account_key``, …); secrets are
            among them, so they are not shown.
        plain_http: Whether the endpoint may be without TLS, as an emulator's is.
    """

    cloud: str
    config: Mapping[str, str | bool] = field(default_factory=dict, repr=False)
    plain_http: bool = False

    def require(self, location: Location) -> None:
        """Raise ConfigurationError unless the location is of this cloud."""
        if _FOUND_AT.get(location.scheme) != self.cloud:
            raise ConfigurationError(
                f"{location}: the access given is one to {self.cloud}://; give that of the URI's cloud"
            )


def open_cloud(access: CloudAccess, location: Location, policy: TransferPolicy) -> ObjectStore:
    """A bucket, container or this machine's root folder in obstore."""
    from obstore.exceptions import BaseError
    from obstore.store import AzureStore, GCSStore, LocalStore

    access.require(location)
    options: ClientConfig = {
        "allow_http": access.plain_http,
        "timeout": policy.request_timeout,
        "read_timeout": policy.stall_timeout,
    }
    container, _, host = location.bucket.partition("@")
    try:
        if access.cloud == "gs":
            google: GCSConfig = access.config  # type: ignore[assignment] # plain values of a connection
            return GCSStore(
                container, config=google, client_options=options, retry_config=policy.within_obstore
            )
        if access.cloud == "az":
            azure: AzureConfig = {**access.config}  # type: ignore[typeddict-item]
            if host:
                azure.setdefault("account_name", host.partition(".")[0])
            if "sas_key" in azure:
                own = f"https://{azure.get('account_name')}.blob.core.windows.net"
                options |= not_followed_from(azure.get("endpoint", own))
                _refuse_redirects(
                    location, f"{azure.get('endpoint', own)}/{container}", str(azure["sas_key"])
                )
            return AzureStore(
                container, config=azure, client_options=options, retry_config=policy.within_obstore
            )
    except (BaseError, ValueError) as error:
        first_line = str(error).partition("\n")[0]
        raise ConfigurationError(f"{location}: the connection's settings are refused: {first_line}") from None
    return LocalStore("/")


def _refuse_redirects(location: Location, container: str, signature: str) -> None:
    """Raise ConfigurationError if the endpoint redirects: the signature, in the URL, is told there."""
    url = f"{container}/{quote(location.key, safe='/~')}?{signature}"
    if location.is_prefix:
        url = f"{container}?restype=container&comp=list&maxresults=1&{signature}"
    try:
        request = urllib.request.Request(url, headers={"Range": "bytes=0-0"})  # noqa: S310 - the connection's own
        following_none.open(request, timeout=_SECONDS_FOR_A_LOOK).close()
    except urllib.error.HTTPError as error:
        error.close()
        if error.code in REDIRECTS:
            raise ConfigurationError(f"{location}: {REDIRECTED}") from None
    except (OSError, HTTPException, ValueError):
        return  # obstore asks as well: in several attempts, and its errors are explained


def cloud_objects(
    access: CloudAccess, location: Location, policy: TransferPolicy, version_id: str | None = None
) -> tuple[StoredObject, ...]:
    """The object at ``location``, or those under it by key; errors as of :func:`.reading.describe`."""
    import obstore

    store = open_cloud(access, location, policy)
    with cloud_errors_explained(location):
        if not location.is_prefix:
            found = [_stored(location, obstore.head(store, location.key), version_id)]
            _refuse_links(access, location, found)
            return tuple(found)
        listed = (
            _stored(Location(location.bucket, meta["path"], location.scheme), meta, None)
            for page in obstore.list(store, location.key)
            for meta in page
        )
        found = list(no_more_than_fit(location, listed))
    if not found:
        raise ArtifactNotFound(
            f"there is no object under {location}; check the URI, or wait until training has ended"
        )
    _refuse_links(access, location, found)
    return tuple(sorted(found, key=lambda item: item.location.key.encode()))


def _refuse_links(access: CloudAccess, location: Location, found: Sequence[StoredObject]) -> None:
    """Refuse a file that is a link, or lies behind one below the folder: it leads to what was not meant."""
    if access.cloud != "file":
        return
    folder = f"/{location.key.rpartition('/')[0]}"
    real_folder = os.path.realpath(folder)
    for item in found:
        path = f"/{item.location.key}"
        if os.path.realpath(path) != os.path.normpath(real_folder + path.removeprefix(folder)):
            raise ArtifactRefused(f"{item.location} is a link, or lies behind one; put the file itself there")


def _stored(location: Location, meta: ObjectMeta, version_id: str | None) -> StoredObject:
    return StoredObject(
        location=location,
        size_bytes=meta["size"],
        etag=(meta["e_tag"] or "").strip('"'),
        version_id=version_id,
        last_modified=meta["last_modified"],
    )


@contextmanager
def cloud_errors_explained(location: Location) -> Iterator[None]:
    """Raise obstore's errors as ours, each naming the location and the remedy, never a credential."""
    from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError

    try:
        yield
    except FileNotFoundError as error:
        raise ArtifactNotFound(
            f"{location}: there is no such object; check the URI, or wait until training has ended"
        ) from error
    except (PermissionDeniedError, UnauthenticatedError) as error:
        raise ConfigurationError(
            f"{location}: access denied; grant the connection's identity to read and list the objects"
        ) from error
    except ValueError as error:
        raise ConfigurationError(
            f"{location}: an empty part, '.' or '..' in a key cannot be read; rename the object"
        ) from error
    except BaseError as error:
        redirected = redirect_in(error)
        if redirected is not None:
            raise ConfigurationError(f"{location}: {redirected}") from error
        first_line = str(error).partition("\n")[0].strip()
        # Google's credentials are last looked for at a server that only its own machines have.
        remedy = f"; {_NO_GOOGLE}" if "computeMetadata" in first_line else ""
        raise ArtifactUnavailable(
            f"{location}: {first_line}{remedy}; the same call may work later"
        ) from error
