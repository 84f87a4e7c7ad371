"""Reading objects: ranges in parallel, each pinned to the version that was looked at, handed on in order."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from hybrid_provider.artifacts.ahead import mapped_ahead
from hybrid_provider.exceptions import (
    ArtifactChanged,
    ArtifactNotFound,
    ArtifactUnavailable,
    ConfigurationError,
)

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence

    from botocore.credentials import Credentials
    from obstore import GetOptions
    from obstore.store import ClientConfig, S3Config, S3Credential, S3Store

    from hybrid_provider.artifacts.s3 import StoredObject
    from hybrid_provider.aws import AwsAccess

# obstore keeps a credential until it is said to end; boto3 renews its own at least 10 minutes before that.
_CREDENTIAL_LIFE = timedelta(minutes=5)
_AWS_HOSTS = (".amazonaws.com", ".amazonaws.com.cn")


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferPolicy:
    """How objects are read.

    Attributes:
        part_bytes: Size of one ranged request; S3's own guidance is 8 to 16 MB.
        parts_in_flight: Requests at once, and parts in memory; 8 saturate a 10 Gbit/s link at S3's usual
            85 to 90 MB/s per request, and hold 64 MiB.
        attempts: Tries of one part before the transfer fails; AWS's SDKs use 3 to 5.
        first_pause: Before the second try; doubles with each further one, with jitter.
        part_timeout: For one request; 8 MiB in 5 minutes is 28 kB/s.
        stall_timeout: Without a byte.
    """

    part_bytes: int = 8 << 20
    parts_in_flight: int = 8
    attempts: int = 5
    first_pause: timedelta = timedelta(milliseconds=250)
    part_timeout: timedelta = timedelta(minutes=5)
    stall_timeout: timedelta = timedelta(seconds=30)


@dataclass(frozen=True, slots=True)
class Part:
    """Bytes ``start`` to ``end`` (exclusive) of one object."""

    item: StoredObject
    start: int
    end: int


def parts_of(objects: Sequence[StoredObject], part_bytes: int) -> Iterator[Part]:
    """All parts of all objects in order; an empty object has one empty part."""
    for item in objects:
        for start in range(0, max(item.size_bytes, 1), part_bytes):
            yield Part(item, start, min(start + part_bytes, item.size_bytes))


def read_parts(
    access: AwsAccess, objects: Sequence[StoredObject], policy: TransferPolicy
) -> Generator[tuple[Part, memoryview], None, None]:
    """Read all objects, of one bucket, in order.

    Close the generator to stop early.

    Raises:
        ArtifactChanged: An object is not the one that was looked at.
        ArtifactNotFound: An object is gone.
        ArtifactUnavailable: A part could not be read in several attempts.
        ConfigurationError: Reading is not allowed.
    """
    store = open_bucket(access, objects[0].location.bucket, policy)

    def read(part: Part) -> tuple[Part, memoryview]:
        return part, _read_with_retries(store, part, policy)

    return mapped_ahead(read, parts_of(objects, policy.part_bytes), policy.parts_in_flight)


def _read_with_retries(store: S3Store, part: Part, policy: TransferPolicy) -> memoryview:
    for attempt in range(1, policy.attempts):
        try:
            return _read(store, part)
        except ArtifactUnavailable:
            pause = policy.first_pause * 2 ** (attempt - 1)
            time.sleep(pause.total_seconds() * random.uniform(0.5, 1.5))  # noqa: S311 - spreads the load, no secret
    return _read(store, part)


def _read(store: S3Store, part: Part) -> memoryview:
    import obstore
    from obstore.exceptions import BaseError, PermissionDeniedError, PreconditionError, UnauthenticatedError

    if part.start == part.end:
        return memoryview(b"")
    item = part.item
    options: GetOptions = {"if_match": f'"{item.etag}"', "range": (part.start, part.end)}
    if item.version_id is not None:
        options["version"] = item.version_id
    try:
        answer = obstore.get(store, item.location.key, options=options)
        body = memoryview(answer.bytes())
    except PreconditionError as error:
        raise _changed(item) from error
    except FileNotFoundError as error:
        raise ArtifactNotFound(f"{item.location} was removed; sync what is there now") from error
    except (PermissionDeniedError, UnauthenticatedError) as error:
        raise ConfigurationError(
            f"{item.location}: access denied; grant s3:GetObject to the aws connection's identity"
        ) from error
    except ValueError as error:
        raise ConfigurationError(
            f"{item.location}: an empty part, '.' or '..' in a key cannot be read; rename the object"
        ) from error
    except BaseError as error:
        raise ArtifactUnavailable(
            f"{item.location}: {_first_line(error)}; the same call may work later"
        ) from error
    if answer.meta["size"] != item.size_bytes:
        raise _changed(item)
    if len(body) != part.end - part.start or answer.range != (part.start, part.end):
        raise ArtifactUnavailable(
            f"{item.location}: S3 sent {len(body)} bytes for the range {part.start} to {part.end}"
        )
    return body


def _changed(item: StoredObject) -> ArtifactChanged:
    return ArtifactChanged(
        f"{item.location} was replaced while it was being read (it is no longer ETag {item.etag}, "
        f"{item.size_bytes} bytes); run again to take the new one"
    )


def _first_line(error: Exception) -> str:
    """What obstore's error says; a page of its internals follows."""
    return str(error).partition("\n")[0].strip()


def open_bucket(access: AwsAccess, bucket: str, policy: TransferPolicy) -> S3Store:
    """A bucket in obstore, configured as boto3 is for the same access."""
    from obstore.store import S3Store as Store

    client = access.client("s3")
    credentials = access.session.get_credentials()
    if credentials is None:
        raise ConfigurationError(f"s3://{bucket}: no AWS credentials; put them into the aws connection")
    return Store(
        bucket,
        config=_bucket_config(client, bucket),
        client_options=_client_options(client, access, policy),
        # Parts are retried here, where the error is understood; obstore retries a refused connection.
        retry_config={"max_retries": 2, "retry_timeout": policy.part_timeout},
        credential_provider=_Boto3Credentials(credentials),
    )


@dataclass(frozen=True)
class _Boto3Credentials:
    credentials: Credentials

    def __call__(self) -> S3Credential:
        frozen = self.credentials.get_frozen_credentials()
        return {
            "access_key_id": frozen.access_key,
            "secret_access_key": frozen.secret_key,
            "token": frozen.token,
            "expires_at": datetime.now(UTC) + _CREDENTIAL_LIFE,
        }


def _bucket_config(client: Any, bucket: str) -> S3Config:  # noqa: ANN401 - boto3 makes its clients' classes at run time
    """Region, endpoint and addressing, each given so that no environment variable of obstore's decides."""
    endpoint = urlsplit(client.meta.endpoint_url)
    style = (client.meta.config.s3 or {}).get("addressing_style", "auto")
    # As boto3 does: a bucket's name in the host's needs a wildcard certificate, which dots in it break.
    virtual = style == "virtual" or (
        style == "auto" and "." not in bucket and str(endpoint.hostname).endswith(_AWS_HOSTS)
    )
    url = f"{endpoint.scheme}://{bucket}.{endpoint.netloc}" if virtual else client.meta.endpoint_url
    return {
        "region": client.meta.region_name,
        "endpoint": url,
        "aws_endpoint_url_s3": url,
        "virtual_hosted_style_request": virtual,
        "skip_signature": False,
    }


def _client_options(client: Any, access: AwsAccess, policy: TransferPolicy) -> ClientConfig:  # noqa: ANN401 - as above
    endpoint = urlsplit(client.meta.endpoint_url)
    options: ClientConfig = {
        "allow_http": endpoint.scheme == "http",
        "timeout": policy.part_timeout,
        "read_timeout": policy.stall_timeout,
    }
    verify = access.verify
    if verify is None:
        verify = access.session._session.get_config_variable("ca_bundle")  # where boto3 looks as well
    if verify is False:
        options["allow_invalid_certificates"] = True
    elif isinstance(verify, str):
        options["root_certificate"] = _certificates(verify)
    proxy = (client.meta.config.proxies or {}).get(endpoint.scheme)
    if proxy:
        options["proxy_url"] = proxy
    return options


def _certificates(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ConfigurationError(
            f"CA bundle {path}: {error.strerror}; correct verify, or AWS_CA_BUNDLE, of the aws connection"
        ) from error
