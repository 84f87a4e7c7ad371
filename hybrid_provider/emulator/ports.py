"""Where the parts of an emulator listen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Self

from hybrid_provider.emulator.processes import SECOND_PORT, free_ports, require_free

_HOSTS_FROM: Final = 10
_MOST_HOSTS: Final = 100


@dataclass(frozen=True, kw_only=True)
class Ports:
    """One port for each part.

    Attributes:
        s3: S3.
        sagemaker: SageMaker.
        aws: CloudWatch Logs, STS and IAM.
        hosts: One for each host's SSH.
        model_servers: One for each host's model server.
    """

    s3: int
    sagemaker: int
    aws: int
    hosts: tuple[int, ...]
    model_servers: tuple[int, ...]

    @classmethod
    def free(cls, address: str, hosts: int) -> Self:
        """Ports that nothing listens on now."""
        s3, sagemaker, aws, *others = free_ports(address, 3 + 2 * hosts)
        return cls(
            s3=s3,
            sagemaker=sagemaker,
            aws=aws,
            hosts=tuple(others[:hosts]),
            model_servers=tuple(others[hosts:]),
        )

    @classmethod
    def from_first(cls, address: str, hosts: int, first: int) -> Self:
        """The same ports every time.

        S3 on ``first``, SageMaker on the next, logs, STS and IAM on the one after it; the hosts from
        ``first + 10`` on, their model servers from ``first + 110`` on.

        Raises:
            EmulatorError: One of them is in use.
        """
        ports = cls(
            s3=first,
            sagemaker=first + 1,
            aws=first + 2,
            hosts=tuple(first + _HOSTS_FROM + number for number in range(hosts)),
            model_servers=tuple(first + _HOSTS_FROM + _MOST_HOSTS + number for number in range(hosts)),
        )
        for what, port in (
            ("the emulated S3", ports.s3),
            ("the emulated S3's gRPC", ports.s3 + SECOND_PORT),
            ("the emulated SageMaker", ports.sagemaker),
            ("the emulated logs, STS and IAM", ports.aws),
            *(("an emulated host", port) for port in ports.hosts),
            *(("a model server", port) for port in ports.model_servers),
        ):
            require_free(address, port, what)
        return ports
