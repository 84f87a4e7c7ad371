"""One way to look at and open objects, whichever cloud they are in."""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

from hybrid_provider.artifacts import s3, s3_checksums
from hybrid_provider.artifacts.bucket import open_bucket
from hybrid_provider.artifacts.cloud_checksums import CloudChecksums
from hybrid_provider.artifacts.clouds import CloudAccess, cloud_objects, open_cloud
from hybrid_provider.artifacts.objects import Location, StoredObject, artifact_of
from hybrid_provider.aws import AwsAccess
from hybrid_provider.exceptions import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable

    from obstore.store import ObjectStore

    from hybrid_provider.artifacts.artifact import Artifact
    from hybrid_provider.artifacts.checksum import Checksum, Running
    from hybrid_provider.artifacts.transfer_policy import TransferPolicy

Access: TypeAlias = AwsAccess | CloudAccess
_log = logging.getLogger(__name__)


def describe(access: Access, uri: str, policy: TransferPolicy, *, version_id: str | None = None) -> Artifact:
    """The artifact that is at ``uri`` now.

    Args:
        access: The account; its cloud must be the URI's.
        uri: An object, or with a ``/`` at its end a prefix of objects.
        policy: How long an answer is awaited.
        version_id: An older version of an object in S3; None takes the newest.

    Raises:
        ArtifactNotFound: There is nothing at the URI, or nothing but empty objects.
        ArtifactUnavailable: The store throttles, fails or cannot be reached.
        ConfigurationError: The URI is malformed, of another cloud, or reading it is not allowed.
    """
    location = Location.parse(uri)
    return artifact_of(location, stored_objects(access, location, policy, version_id=version_id))


def stored_objects(
    access: Access, location: Location, policy: TransferPolicy, *, version_id: str | None = None
) -> tuple[StoredObject, ...]:
    """The object at ``location``, or those under it by key; errors as of :func:`describe`."""
    if isinstance(access, CloudAccess):
        return cloud_objects(access, location, policy, version_id)
    _require_s3(location)
    return s3.stored_objects(access, s3.S3Location.parse(str(location)), policy, version_id=version_id)


def open_store(access: Access, location: Location, policy: TransferPolicy) -> ObjectStore:
    """The bucket of a location in obstore; errors as of :func:`.s3.refuse_redirects`."""
    if isinstance(access, CloudAccess):
        return open_cloud(access, location, policy)
    _require_s3(location)
    s3.refuse_redirects(access, location, policy)
    return open_bucket(access, location.bucket, policy)


def checksum_teller(access: Access) -> Callable[[StoredObject], Checksum | None]:
    """What gives the store's own checksum over a whole object, where it has one and tells it."""
    if isinstance(access, CloudAccess):
        return CloudChecksums(access).of
    return partial(s3_checksums.checksum_of, access)


def is_damaged(access: Access, item: StoredObject, running: Running) -> bool:
    """Whether bytes that came to their end are not those that the store took in, and it is certain.

    Only the first part of an upload in parts was looked at before: that all are as long is asked only here.
    """
    if running.holds:
        return False
    expected = running.expected
    if isinstance(access, CloudAccess) or not expected.parts:
        return True
    if s3_checksums.parts_are_even(access, item, expected):
        return True
    _log.warning("%s was uploaded in parts of several lengths: its checksum is not compared", item.location)
    return False


def _require_s3(location: Location) -> None:
    if location.scheme != "s3":
        raise ConfigurationError(
            f"{location}: the access given is one to s3://; give that of the URI's cloud"
        )
