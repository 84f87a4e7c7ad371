"""A bucket in obstore, configured as boto3 is for the same access."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from hybrid_provider.artifacts.redirects import not_followed_from
from hybrid_provider.exceptions import ConfigurationError

if TYPE_CHECKING:
    from botocore.credentials import Credentials
    from obstore.store import ClientConfig, S3Config, S3Credential, S3Store

    from hybrid_provider.artifacts.transfer_policy import TransferPolicy
    from hybrid_provider.aws import AwsAccess

# obstore asks again five minutes before a credential is said to end: with this before each request, though
# not ten times in a second. boto3 renews its own at least ten minutes before their end.
_CREDENTIAL_LIFE = timedelta(minutes=5)
_AWS_HOSTS = (".amazonaws.com", ".amazonaws.com.cn")


def open_bucket(access: AwsAccess, bucket: str, policy: TransferPolicy) -> S3Store:
    """A bucket in obstore, configured as boto3 is for the same access."""
    from obstore.store import S3Store as Store

    client = access.client("s3")
    credentials = access.session.get_credentials()
    if credentials is None:
        raise ConfigurationError(f"s3://{bucket}: no AWS credentials; put them into the aws connection")
    config, options = _bucket_config(client, bucket), _client_options(client, access, policy)
    if "proxy_url" not in options:
        options |= not_followed_from(config["endpoint"])
    return Store(
        bucket,
        config=config,
        client_options=options,
        retry_config=policy.within_obstore,
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
        "timeout": policy.request_timeout,
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
