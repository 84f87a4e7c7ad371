"""What lies at an ``s3://`` URI: looked at, never read."""

from __future__ import annotations

from concurrent.futures import Future
from contextlib import closing, contextmanager
from dataclasses import dataclass
from threading import Thread
from typing import TYPE_CHECKING, TypeVar

from hybrid_provider.artifacts.bucket import open_bucket
from hybrid_provider.artifacts.clock import clock_refused, clock_said_refused
from hybrid_provider.artifacts.objects import Location, StoredObject, artifact_of, no_more_than_fit
from hybrid_provider.artifacts.redirects import OTHER_REGION, REDIRECTED, REDIRECTS
from hybrid_provider.artifacts.transfer_policy import TransferPolicy
from hybrid_provider.exceptions import (
    ArtifactError,
    ArtifactNotFound,
    ArtifactUnavailable,
    ConfigurationError,
    HybridError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from botocore.exceptions import ClientError

    from hybrid_provider.artifacts.artifact import Artifact
    from hybrid_provider.aws import AwsAccess

T = TypeVar("T")

_PATIENT = TransferPolicy()
_NO_BUCKET = "NoSuchBucket"
_NOT_NOW = "SlowDown"
_NOT_FOUND = frozenset({"404", "NoSuchKey", "NotFound", "NoSuchVersion"})
_DENIED = frozenset({401, 403})
_SERVER_ERROR = 500
_ANSWERS: tuple[tuple[frozenset[str], type[HybridError], str], ...] = (
    (
        frozenset({_NO_BUCKET}),
        ConfigurationError,
        "the bucket does not exist; check the URI, and the account and endpoint of the aws connection",
    ),
    (
        _NOT_FOUND,
        ArtifactNotFound,
        "there is no such object; check the URI, or wait until training has ended",
    ),
    (
        frozenset({"401", "403", "AccessDenied", "Forbidden", "AllAccessDisabled"}),
        ConfigurationError,
        (
            "access denied; grant the aws connection's identity s3:GetObject on the object and s3:ListBucket "
            "on the bucket, without which a missing object looks like this too"
        ),
    ),
    (
        frozenset({"InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken"}),
        ConfigurationError,
        "the credentials are refused; renew them in the aws connection",
    ),
    (
        frozenset({"301", "PermanentRedirect", "AuthorizationHeaderMalformed"}),
        ConfigurationError,
        OTHER_REGION,
    ),
    (
        frozenset({"302", "303", "307", "308", "TemporaryRedirect"}),
        ConfigurationError,
        REDIRECTED,
    ),
    (
        frozenset({_NOT_NOW, "RequestTimeout", "ExpiredToken", "Throttling"}),
        ArtifactUnavailable,
        "S3 cannot serve it now; the same call may work later",
    ),
)


@dataclass(frozen=True, slots=True)
class S3Location(Location):
    """A bucket of S3, and an object's key or a prefix that ends in ``/``."""

    @classmethod
    def parse(cls, uri: str) -> S3Location:
        """Read ``s3://bucket/key``.

        Raises:
            ConfigurationError: It is something else, or names no more than a bucket.
        """
        location = Location.parse(uri)
        if location.scheme != "s3":
            raise ConfigurationError(f"URI {uri!r} is not of S3; give s3://bucket/path")
        return cls(location.bucket, location.key)


def describe(access: AwsAccess, uri: str, *, version_id: str | None = None) -> Artifact:
    """The artifact that is at ``uri`` now.

    Args:
        access: The AWS account.
        uri: An object, or with a ``/`` at its end a prefix of objects.
        version_id: An older version of the object; None takes the newest.

    Raises:
        ArtifactNotFound: There is nothing at the URI, or nothing but empty objects.
        ArtifactUnavailable: S3 throttles, fails or cannot be reached.
        ConfigurationError: The URI is malformed, the bucket is not there, or reading it is not allowed.
    """
    location = S3Location.parse(uri)
    return artifact_of(location, stored_objects(access, location, version_id=version_id))


def stored_objects(
    access: AwsAccess,
    location: Location,
    policy: TransferPolicy = _PATIENT,
    *,
    version_id: str | None = None,
) -> tuple[StoredObject, ...]:
    """The object at ``location``, or those under it by key; errors as of :func:`describe`."""
    found = _listed_fast(access, location, policy) if location.is_prefix else None
    if found is None:
        with s3_errors_explained(access, location):
            found = in_time(
                location,
                policy,
                lambda: (
                    _listed(access, location)
                    if location.is_prefix
                    else (_head(access, location, version_id),)
                ),
            )
    if not found:
        raise ArtifactNotFound(
            f"there is no object under {location}; check the URI, or wait until training has ended"
        )
    return found


def _head(access: AwsAccess, location: Location, version_id: str | None) -> StoredObject:
    wanted = {"Bucket": location.bucket, "Key": location.key}
    if version_id is not None:
        wanted["VersionId"] = version_id
    head = access.client("s3").head_object(**wanted)
    version = head.get("VersionId")
    return StoredObject(
        location=location,
        size_bytes=head["ContentLength"],
        etag=head["ETag"].strip('"'),
        # Objects from before versioning was turned on carry the literal version "null".
        version_id=None if version == "null" else version,
        last_modified=head["LastModified"],
    )


def _listed_fast(
    access: AwsAccess, location: Location, policy: TransferPolicy
) -> tuple[StoredObject, ...] | None:
    """What obstore lists, ten times as fast as boto3; None where boto3 must look.

    obstore lists by UTF-8 bytes as S3 does, but takes the ``/`` off the key of a folder's marker, which then
    looks like any empty file; and boto3's errors are those that are explained.
    """
    import obstore
    from obstore.exceptions import BaseError

    refuse_redirects(access, location, policy)
    with s3_errors_explained(access, location):
        store = open_bucket(access, location.bucket, policy)
    listed = (
        StoredObject(
            location=S3Location(location.bucket, meta["path"]),
            size_bytes=meta["size"],
            etag=(meta["e_tag"] or "").strip('"'),
            version_id=None,
            last_modified=meta["last_modified"],
        )
        for page in obstore.list(store, location.key)
        for meta in page
    )
    try:
        found = list(no_more_than_fit(location, listed))
    except (BaseError, OSError, ValueError):
        return None
    if any(item.size_bytes == 0 or not item.etag for item in found):
        return None
    return tuple(sorted(found, key=lambda item: item.location.key.encode()))


def refuse_redirects(access: AwsAccess, location: Location, policy: TransferPolicy) -> None:
    """Ask once what boto3 asks, which goes nowhere else, before obstore may ask.

    obstore follows a redirect to another port of the same host, and takes the session token along.

    Raises:
        ConfigurationError: The endpoint redirects, or refuses this identity.
        ArtifactUnavailable: It refuses this machine's clock.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    client = access.client("s3")

    def look() -> None:
        if location.is_prefix:
            client.list_objects_v2(Bucket=location.bucket, Prefix=location.key, MaxKeys=1)
        else:
            answer = client.get_object(Bucket=location.bucket, Key=location.key, Range="bytes=0-0")
            with closing(answer["Body"]) as body:
                body.read(1)  # no more than this, whatever a server makes of the range

    try:
        in_time(location, policy, look)
    except ClientError as error:
        status = _status(error)
        if status in REDIRECTS or status in _DENIED:
            raise _explained(access, location, error) from error
    except RecursionError as error:
        raise ConfigurationError(f"{location}: {REDIRECTED}") from error
    except BotoCoreError:
        return  # obstore asks as well: in several attempts, and its errors are explained


def in_time(location: Location, policy: TransferPolicy, look: Callable[[], T]) -> T:
    """What ``look`` gives within the time for a request: boto3's own limit begins anew with each byte."""
    outcome: Future[T] = Future()

    def run() -> None:
        try:
            outcome.set_result(look())
        except BaseException as error:  # noqa: BLE001 - raised where it is awaited
            outcome.set_exception(error)

    # A pool would wait for its thread at the end of the process, however slowly the bytes come.
    Thread(target=run, name="look", daemon=True).start()
    seconds = policy.request_timeout.total_seconds()
    try:
        return outcome.result(seconds)
    except TimeoutError as error:
        raise ArtifactUnavailable(
            f"{location}: S3 did not answer in {seconds:g} s; the same call may work later"
        ) from error


def _listed(access: AwsAccess, location: Location) -> tuple[StoredObject, ...]:
    pages = access.client("s3").get_paginator("list_objects_v2")
    listed = (
        StoredObject(
            location=S3Location(location.bucket, item["Key"]),
            size_bytes=item["Size"],
            etag=item["ETag"].strip('"'),
            version_id=None,
            last_modified=item["LastModified"],
        )
        for page in pages.paginate(Bucket=location.bucket, Prefix=location.key)
        for item in page.get("Contents", ())
        # Consoles mark a folder by an empty object whose key ends in "/": it is no file.
        if item["Size"] or not item["Key"].endswith("/")
    )
    return tuple(no_more_than_fit(location, listed))


@contextmanager
def s3_errors_explained(access: AwsAccess, location: Location) -> Iterator[None]:
    """Raise botocore's errors as ours, each naming the location and the remedy."""
    from botocore.exceptions import (
        BotoCoreError,
        ClientError,
        NoCredentialsError,
        PartialCredentialsError,
        ProfileNotFound,
    )

    try:
        yield
    # boto3 looks for the profile when its session is made or, where nothing made it look, when a client is.
    except (NoCredentialsError, PartialCredentialsError, ProfileNotFound) as error:
        raise ConfigurationError(
            f"{location}: no AWS credentials ({error}); put them into the aws connection"
        ) from error
    except ClientError as error:
        raise _explained(access, location, error) from error
    # botocore takes a redirect for one to another region, and asks the same endpoint for that region.
    except RecursionError as error:
        raise ConfigurationError(f"{location}: {REDIRECTED}") from error
    except BotoCoreError as error:
        raise ArtifactUnavailable(
            f"{location}: S3 cannot be reached ({error}); the same call may work later"
        ) from error


def _explained(access: AwsAccess, location: Location, error: ClientError) -> HybridError:
    code = str(error.response["Error"].get("Code", ""))
    status = _status(error)
    if status in _DENIED:
        date = error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date")
        clock = clock_refused(date) or clock_said_refused(code)
        if clock is not None:
            return ArtifactUnavailable(f"{location}: {clock} (S3 answered {code})")
    kind_of_answer = _NOT_NOW if status >= _SERVER_ERROR else code
    if code in _NOT_FOUND and not _bucket_exists(access, location.bucket):
        kind_of_answer = _NO_BUCKET
    for codes, kind, remedy in _ANSWERS:
        if kind_of_answer in codes:
            return kind(f"{location}: {remedy} (S3 answered {code})")
    message = error.response["Error"].get("Message", "")
    return ArtifactError(f"{location}: S3 answered {code} (HTTP {status}): {message}")


def _status(error: ClientError) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def _bucket_exists(access: AwsAccess, bucket: str) -> bool:
    """Whether a bucket is there; a HEAD of an object answers a bare 404 in both cases."""
    from botocore.exceptions import ClientError

    try:
        access.client("s3").head_bucket(Bucket=bucket)
    except ClientError as error:
        return str(error.response["Error"].get("Code")) not in {"404", _NO_BUCKET}
    return True
