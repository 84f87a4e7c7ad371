"""What all training triggers of one event loop and one aws connection share: clients and polls.

A boto3 session with two clients costs a second of CPU time and tens of megabytes, and a triggerer may hold a
thousand waits.
"""

from __future__ import annotations

import asyncio
import contextvars
import json
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from hybrid_provider.hooks.aws import aws_access
from hybrid_provider.training.polls import SharedPolls
from hybrid_provider.training.sagemaker.backend import SageMakerBackend

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@dataclass(frozen=True, kw_only=True)
class AwsArguments:
    """The amazon provider's arguments of the same names."""

    aws_conn_id: str | None
    region_name: str | None
    verify: bool | str | None
    botocore_config: dict[str, Any] | None

    def open(self) -> SageMakerBackend:
        """Read the connection; blocks, and raises ConfigurationError."""
        return SageMakerBackend(
            aws_access(self.aws_conn_id, self.region_name, self.verify, self.botocore_config)
        )


@dataclass(frozen=True)
class SharedCloud:
    """The account and region behind one aws connection."""

    backend: SageMakerBackend
    polls: SharedPolls


@dataclass
class _Opened:
    opening: asyncio.Task[SharedCloud]
    users: int = 0


_opened: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, _Opened]] = WeakKeyDictionary()


@asynccontextmanager
async def shared_cloud(arguments: AwsArguments) -> AsyncIterator[SharedCloud]:
    """The cloud of these arguments, opened by the first who needs it and forgotten with the last.

    Raises:
        ConfigurationError: There is no such connection.
    """
    clouds = _opened.setdefault(asyncio.get_running_loop(), {})
    key = json.dumps(asdict(arguments), sort_keys=True, default=repr)
    if key not in clouds:
        # A context of its own: the first to need it may end while others wait for it.
        clouds[key] = _Opened(asyncio.create_task(_open(arguments), context=contextvars.Context()))
    opened = clouds[key]
    opened.users += 1
    try:
        yield await asyncio.shield(opened.opening)
    finally:
        opened.users -= 1
        if opened.users == 0:
            del clouds[key]


async def _open(arguments: AwsArguments) -> SharedCloud:
    # Both the connection and boto3 block; Airflow's comms take calls from other threads.
    backend = await asyncio.to_thread(arguments.open)
    return SharedCloud(backend, SharedPolls(backend))
