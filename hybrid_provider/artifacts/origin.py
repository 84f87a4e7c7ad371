"""Whether an artifact's bucket and objects are whose and where they should be; S3 alone can tell."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from hybrid_provider.artifacts.s3 import S3Location, s3_errors_explained, stored_objects
from hybrid_provider.aws import AwsAccess
from hybrid_provider.exceptions import ArtifactRefused, ConfigurationError

if TYPE_CHECKING:
    from hybrid_provider.artifacts.artifact import Artifact
    from hybrid_provider.artifacts.policy import ArtifactPolicy
    from hybrid_provider.artifacts.reading import Access

# As many as botocore's pool keeps connections.
_HEADS_AT_ONCE = 10
# AWS gives it to nobody.
_NO_ACCOUNT = "000000000000"
# The one region whose location S3 leaves out.
_DEFAULT_REGION = "us-east-1"


def check_origin(access: Access, artifact: Artifact, policy: ArtifactPolicy) -> None:
    """Compare account, region and KMS key with the policy's; one HEAD per object for the key.

    Raises:
        ArtifactRefused: One of them is another.
        ConfigurationError: The artifact is not in S3, or asking is not allowed.
    """
    if not isinstance(access, AwsAccess):
        raise ConfigurationError(
            f"{artifact.uri}: expected_account, expected_region and expected_kms_key are facts of S3 alone; "
            "leave them out, and use allowed_sources"
        )
    location = S3Location.parse(artifact.uri)
    client = access.client("s3")
    if policy.expected_account is not None:
        _check_account(access, client, location, policy.expected_account)
    if policy.expected_region is not None:
        _check_region(access, client, location, policy.expected_region)
    if policy.expected_kms_key is not None:
        _check_kms_key(access, client, location, policy.expected_kms_key, artifact.version_id)


def _check_account(access: AwsAccess, client: Any, location: S3Location, expected: str) -> None:  # noqa: ANN401 - boto3 makes its clients' classes at run time
    with s3_errors_explained(access, location):
        # What is denied without the expectation as well is no answer to it.
        client.head_bucket(Bucket=location.bucket)
        if _belongs_to(client, location.bucket, _NO_ACCOUNT):
            raise ConfigurationError(
                f"{location}: this S3 server takes {_NO_ACCOUNT} for the owner of any bucket, "
                "so expected_account proves nothing; leave it out"
            )
        if not _belongs_to(client, location.bucket, expected):
            raise ArtifactRefused(
                f"{location}: the bucket does not belong to account {expected} (expected_account)"
            )


def _belongs_to(client: Any, bucket: str, account: str) -> bool:  # noqa: ANN401 - as above
    from botocore.exceptions import ClientError

    try:
        client.head_bucket(Bucket=bucket, ExpectedBucketOwner=account)
    except ClientError as error:
        if error.response["ResponseMetadata"]["HTTPStatusCode"] != HTTPStatus.FORBIDDEN:
            raise
        return False
    return True


def _check_region(access: AwsAccess, client: Any, location: S3Location, expected: str) -> None:  # noqa: ANN401 - as above
    with s3_errors_explained(access, location):
        answer = client.head_bucket(Bucket=location.bucket)
        region = answer.get("BucketRegion")
        if region is None:
            # Servers other than AWS may not name it in the head.
            region = (
                client.get_bucket_location(Bucket=location.bucket)["LocationConstraint"] or _DEFAULT_REGION
            )
    if region != expected:
        raise ArtifactRefused(
            f"{location}: the bucket is in region {region}, not {expected} (expected_region)"
        )


def _check_kms_key(
    access: AwsAccess,
    client: Any,  # noqa: ANN401 - as above
    location: S3Location,
    expected: str,
    version_id: str | None,
) -> None:
    def check(key: str) -> None:
        wanted = {"Bucket": location.bucket, "Key": key}
        if version_id is not None:
            wanted["VersionId"] = version_id
        with s3_errors_explained(access, S3Location(location.bucket, key)):
            found = client.head_object(**wanted).get("SSEKMSKeyId")
        if found is None or expected not in {found, found.rpartition("/")[2]}:
            raise ArtifactRefused(
                f"s3://{location.bucket}/{key} is encrypted with {found or 'no KMS key'}, not {expected} "
                "(expected_kms_key); nothing was read"
            )

    keys = [item.location.key for item in stored_objects(access, location, version_id=version_id)]
    with ThreadPoolExecutor(_HEADS_AT_ONCE, thread_name_prefix="head") as pool:
        for checked in pool.map(check, keys):
            _ = checked
