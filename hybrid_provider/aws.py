"""Access to one AWS account as a plain value: the core is given this and never a connection."""

from __future__ import annotations

from dataclasses import dataclass, field
from threading import Lock
from typing import TYPE_CHECKING, Any

from hybrid_provider.aws_logging import mask_secrets

if TYPE_CHECKING:
    from collections.abc import Mapping

    import boto3
    from botocore.config import Config


@dataclass(frozen=True, kw_only=True)
class AwsAccess:
    """What every client of one AWS connection shares.

    Attributes:
        session: Credentials and region; refreshes assumed roles by itself.
        verify: As in ``boto3``: True, False or a CA bundle's path; None leaves it to the environment.
        config: botocore's settings (retries, proxies, addressing style).
        endpoints: Service name (``s3``, ``sagemaker``) to endpoint URL; a service that is absent uses the
            environment's ``AWS_ENDPOINT_URL_…`` or AWS's own.
        settings: Service name to further settings, the connection's ``service_config``.
    """

    session: boto3.Session
    verify: bool | str | None = None
    config: Config | None = None
    endpoints: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    _clients: dict[str, Any] = field(default_factory=dict, init=False, repr=False, compare=False)
    _making: Lock = field(default_factory=Lock, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Whoever logs at DEBUG sees no session token."""
        mask_secrets()

    def client(self, service: str) -> Any:  # noqa: ANN401 - boto3 makes its clients' classes at run time
        """A client of one service with all of the above; made once, and used from any thread."""
        # Making one costs 20 ms and more, and a session must not make two at once.
        with self._making:
            if service not in self._clients:
                self._clients[service] = self.session.client(
                    service, endpoint_url=self.endpoints.get(service), verify=self.verify, config=self.config
                )
            return self._clients[service]
