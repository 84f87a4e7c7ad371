"""Waits for a model artifact in the triggerer."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from hybrid_provider.artifacts.arrival import Awaited, date_of
from hybrid_provider.artifacts.artifact import Artifact, ArtifactDict
from hybrid_provider.exceptions import ArtifactUnavailable, HybridError
from hybrid_provider.hooks.objects import access_for, connections_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from hybrid_provider.artifacts.reading import Access


class ModelArtifactTrigger(BaseTrigger):
    """Look each ``poke_interval`` until the artifact has arrived or the deadline is there.

    It keeps the deadline itself: a trigger that Airflow times out cannot say what it was waiting for.
    The event is ``{"artifact": …}``, or ``{"error": …, "timed_out": …}``.

    Args:
        uri: Of an object, or of a prefix of objects.
        expected: The artifact that must be there; None takes any that stands still.
        newer_than: ISO 8601; one written then or before does not count.
        deadline: Seconds since the epoch; None leaves it to Airflow, which knows when a task began that
            started here.
        newest: As of the sensor.
        marker: As of the sensor.
        poke_interval: Seconds between two looks.
        aws_conn_id: As in the amazon provider.
        region_name: As in the amazon provider.
        verify: As in the amazon provider.
        botocore_config: As in the amazon provider.
        gcp_conn_id: For ``gs://``, as in the google provider, which need not be installed.
        wasb_conn_id: For ``az://`` and ``abfs://``, as in Azure's provider, likewise.
    """

    def __init__(
        self,
        *,
        uri: str,
        expected: ArtifactDict | None = None,
        newer_than: str | None,
        deadline: float | None = None,
        newest: str | None = None,
        marker: str | None = None,
        poke_interval: float,
        aws_conn_id: str | None,
        region_name: str | None,
        verify: bool | str | None,
        botocore_config: dict[str, Any] | None,
        gcp_conn_id: str | None = "google_cloud_default",
        wasb_conn_id: str | None = "wasb_default",
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call] # of BaseTrigger, which has no annotations
        self.uri = uri
        self.expected = expected
        self.newer_than = newer_than
        self.deadline = deadline
        self.newest = newest
        self.marker = marker
        self.poke_interval = poke_interval
        self.aws_conn_id = aws_conn_id
        self.region_name = region_name
        self.verify = verify
        self.botocore_config = botocore_config
        self.gcp_conn_id = gcp_conn_id
        self.wasb_conn_id = wasb_conn_id

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """The class and its arguments."""
        return f"{type(self).__module__}.{type(self).__qualname__}", {
            "uri": self.uri,
            "expected": self.expected,
            "newer_than": self.newer_than,
            "deadline": self.deadline,
            "newest": self.newest,
            "marker": self.marker,
            "poke_interval": self.poke_interval,
            **connections_of(self),
        }

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Yield the one event."""
        try:
            yield TriggerEvent(await self._wait())
        except HybridError as error:
            yield TriggerEvent({"error": str(error), "timed_out": False})

    async def _wait(self) -> dict[str, Any]:
        awaited = self._awaited()
        # Both the connection and boto3 block; Airflow's comms take calls from other threads.
        access = await asyncio.to_thread(self._access)
        before: Artifact | None = None
        while True:
            now = await self._look(awaited, access)
            if now is not None and awaited.arrived(now, before):
                return {"artifact": now.to_dict()}
            before = now
            left = self.poke_interval if self.deadline is None else self.deadline - time.time()
            if self.deadline is not None and left <= 0:
                state = f"{now.size_bytes} bytes there, not stable or too old" if now else "nothing there"
                return {"error": f"{self.uri} did not arrive in time: {state}", "timed_out": True}
            await asyncio.sleep(min(self.poke_interval, left))

    async def _look(self, awaited: Awaited, access: Access) -> Artifact | None:
        try:
            return await asyncio.to_thread(awaited.look, access)
        except ArtifactUnavailable as error:
            self.log.warning("%s", error)
            return None

    def _access(self) -> Access:
        return access_for(self, self.uri)

    def _awaited(self) -> Awaited:
        return Awaited(
            uri=self.uri,
            expected=Artifact.from_dict(self.expected) if self.expected else None,
            newer_than=date_of(self.newer_than),
            newest=self.newest,
            marker=self.marker,
        )
