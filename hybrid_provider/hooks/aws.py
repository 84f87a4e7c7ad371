"""The ``aws`` connections of the amazon provider, opened for the core."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseHook
from airflow.sdk.exceptions import AirflowNotFoundException

from hybrid_provider.aws import AwsAccess
from hybrid_provider.aws_logging import mask_secrets
from hybrid_provider.exceptions import ConfigurationError

if TYPE_CHECKING:
    from botocore.config import Config

SERVICES = ("s3", "sagemaker", "logs", "sts", "iam")


def aws_access(
    aws_conn_id: str | None,
    region_name: str | None = None,
    verify: bool | str | None = None,  # noqa: FBT001 - the amazon provider's argument, with its types
    botocore_config: dict[str, Any] | Config | None = None,
) -> AwsAccess:
    """Open a connection; the arguments are those of the amazon provider's operators.

    Args:
        aws_conn_id: An ``aws`` connection; None uses boto3's own search for credentials.
        region_name: Overrides the connection's region.
        verify: Overrides the connection's ``verify``.
        botocore_config: Settings for ``botocore.config.Config``.

    Raises:
        ConfigurationError: There is no such connection, or no region is known.
    """
    from airflow.providers.amazon.aws.hooks.base_aws import AwsGenericHook
    from botocore.config import Config as BotocoreConfig

    if aws_conn_id is not None:
        try:
            BaseHook.get_connection(aws_conn_id)
        except AirflowNotFoundException:
            raise ConfigurationError(
                f"aws connection {aws_conn_id!r} does not exist; add it under Admin, Connections, or with "
                f"`airflow connections add {aws_conn_id} --conn-type aws`"
            ) from None
    config = BotocoreConfig(**botocore_config) if isinstance(botocore_config, dict) else botocore_config
    hook: AwsGenericHook[Any] = AwsGenericHook(
        aws_conn_id=aws_conn_id, region_name=region_name, verify=verify, config=config
    )
    mask_secrets()  # a role is assumed here already
    session = hook.get_session()
    if session.region_name is None:
        raise ConfigurationError(
            f"no AWS region: give region_name, or set it in the extra of aws connection {aws_conn_id!r}"
        )
    urls = {service: hook.conn_config.get_service_endpoint_url(service) for service in SERVICES}
    return AwsAccess(
        session=session,
        verify=hook.verify,
        config=hook.config,
        endpoints={service: url for service, url in urls.items() if url},
        settings=hook.conn_config.service_config,
    )
