"""What S3 says of an object's bytes: its checksum, and where the parts of its upload end."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from hybrid_provider.artifacts.checksum import Checksum
from hybrid_provider.artifacts.s3 import in_time, s3_errors_explained
from hybrid_provider.artifacts.transfer_policy import TransferPolicy
from hybrid_provider.exceptions import ArtifactNotFound

if TYPE_CHECKING:
    from hybrid_provider.artifacts.objects import StoredObject
    from hybrid_provider.aws import AwsAccess

_PATIENT = TransferPolicy()
# As many as botocore's pool keeps connections.
_HEADS_AT_ONCE = 10


def checksum_of(access: AwsAccess, item: StoredObject) -> Checksum | None:
    """The checksum of an object, which a HEAD tells, or two; errors as of :func:`.s3.describe`.

    Raises:
        ArtifactChanged: Another object is there.
    """
    try:
        checksum = Checksum.of(_head(access, item))
        if checksum is None or not checksum.parts:
            return checksum
        part_bytes = _head(access, item, part=1)["ContentLength"]
    except ArtifactNotFound:  # of what is read next, and explained better then
        return None
    if not (checksum.parts - 1) * part_bytes < item.size_bytes <= checksum.parts * part_bytes:
        return None
    return replace(checksum, part_bytes=part_bytes)


def parts_are_even(access: AwsAccess, item: StoredObject, checksum: Checksum) -> bool:
    """Whether all parts of the upload but the last are as long as the first, which alone was asked for."""

    def is_as_long(part: int) -> bool:
        return bool(_head(access, item, part)["ContentLength"] == checksum.part_bytes)

    with ThreadPoolExecutor(_HEADS_AT_ONCE, thread_name_prefix="head") as pool:
        return all(pool.map(is_as_long, range(1, checksum.parts)))


def _head(access: AwsAccess, item: StoredObject, part: int | None = None) -> dict[str, Any]:
    wanted = {"Bucket": item.location.bucket, "Key": item.location.key, "ChecksumMode": "ENABLED"}
    if item.version_id is not None:
        wanted["VersionId"] = item.version_id
    given: dict[str, Any] = wanted if part is None else {**wanted, "PartNumber": part}
    with s3_errors_explained(access, item.location):
        head: dict[str, Any] = in_time(
            item.location, _PATIENT, lambda: access.client("s3").head_object(**given)
        )
    if head["ETag"].strip('"') != item.etag:
        raise item.changed()
    return head
