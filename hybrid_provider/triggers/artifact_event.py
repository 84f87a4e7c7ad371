"""Fires an asset's event for each new model artifact, so that DAGs are scheduled on arrivals."""

from __future__ import annotations

import asyncio
import hashlib
import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, cast

from airflow.triggers.base import BaseEventTrigger, TriggerEvent

from hybrid_provider.artifacts.arrival import Arrivals, Awaited
from hybrid_provider.exceptions import HybridError
from hybrid_provider.hooks.objects import access_for, connections_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from pydantic import JsonValue

    from hybrid_provider.artifacts.artifact import Artifact

PERSISTED_SECONDS: Final = 5.0
"""After it, a fired event is in Airflow's database: the triggerer writes events about every second."""


class ModelArtifactEventTrigger(BaseEventTrigger):
    """Watch a URI, or a prefix, for an :class:`~airflow.sdk.AssetWatcher`; each artifact fires once.

    ::

        Asset("digits_artifact", watchers=[AssetWatcher(
            name="digits_arrivals",
            trigger=ModelArtifactEventTrigger(uri="s3://models/digits/", newest="model.tar.gz"),
        )])

    An artifact fires when two looks in a row saw it alike. Of those that are there when the watch begins,
    only the newest fires. An artifact that was replaced is a new one. The event's payload is
    ``{"artifact": …}``, an :class:`~hybrid_provider.artifacts.artifact.ArtifactDict`.

    What has fired is kept in the asset's state, so that a triggerer that restarts goes on. It is written down
    some seconds after the event: a triggerer that dies in between fires once more rather than never, and to
    sync and deploy the same artifact again changes nothing.

    Args:
        uri: Of an object, or of a prefix with a ``/`` at its end, which counts as one artifact.
        newest: Each object of this name under the prefix (``model.tar.gz``, ``*.tar.gz``), or each folder of
            it (``model/``), is an artifact.
        marker: The name of the object that is written last into a prefix or folder (``_SUCCESS``).
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
        newest: str | None = None,
        marker: str | None = None,
        poke_interval: float = 60.0,
        aws_conn_id: str | None = "aws_default",
        region_name: str | None = None,
        verify: bool | str | None = None,
        botocore_config: dict[str, Any] | None = None,
        gcp_conn_id: str | None = "google_cloud_default",
        wasb_conn_id: str | None = "wasb_default",
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call] # of BaseTrigger, which has no annotations
        self.uri = uri
        self.newest = newest
        self.marker = marker
        self.poke_interval = poke_interval
        self.aws_conn_id = aws_conn_id
        self.region_name = region_name
        self.verify = verify
        self.botocore_config = botocore_config
        self.gcp_conn_id = gcp_conn_id
        self.wasb_conn_id = wasb_conn_id
        self._complaint = ""

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """The class and its arguments."""
        return f"{type(self).__module__}.{type(self).__qualname__}", {
            "uri": self.uri,
            "newest": self.newest,
            "marker": self.marker,
            "poke_interval": self.poke_interval,
            **connections_of(self),
        }

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Yield an event for each artifact, for ever; what goes wrong is logged and tried again."""
        arrivals = Arrivals(await self._remembered())
        while True:
            there = await self._look()
            if there is not None:
                for artifact in arrivals.new(there):
                    self.log.info("New artifact %s", artifact.uri)
                    yield TriggerEvent({"artifact": artifact.to_dict()})
                if arrivals.changed:
                    await asyncio.sleep(min(PERSISTED_SECONDS, self.poke_interval))
                    await self._remember(arrivals.fired)
                    arrivals.changed = False
            await asyncio.sleep(self.poke_interval)

    async def _look(self) -> Sequence[Artifact] | None:
        """What is there, the newest last; None where that cannot be told now."""
        try:
            found = await asyncio.to_thread(self._artifacts)
        except HybridError as error:
            if str(error) != self._complaint:
                self.log.warning("%s; still trying", error)
            self._complaint = str(error)
            return None
        self._complaint = ""
        return found

    def _artifacts(self) -> Sequence[Artifact]:
        # Opened at each look: a watch lives for months, and its connection may be corrected meanwhile.
        access = access_for(self, self.uri)
        awaited = Awaited(uri=self.uri, newest=self.newest, marker=self.marker)
        if self.newest is not None:
            return awaited.all(access)
        artifact = awaited.look(access)
        return () if artifact is None else (artifact,)

    @property
    def _key(self) -> str:
        """Two watches of one asset have each their own."""
        account = [self.aws_conn_id, self.region_name, self.gcp_conn_id, self.wasb_conn_id]
        what = json.dumps([self.uri, self.newest, self.marker, *account])
        return f"hybrid_fired_{hashlib.sha256(what.encode()).hexdigest()[:16]}"

    async def _remembered(self) -> frozenset[str] | None:
        """What fired already; None if this watch has never looked."""
        if self.asset_state_store is None:
            return None
        try:
            kept = await self.asset_state_store.aget(self._key)
        except ValueError:
            self.log.warning(
                "The watch of %s serves several assets, and no state of one asset can keep what fired; after "
                "a restart its newest artifact fires again. Give each asset's watch another poke_interval",
                self.uri,
            )
            return None
        return None if kept is None else frozenset(cast("list[str]", kept))

    async def _remember(self, fired: frozenset[str]) -> None:
        if self.asset_state_store is None:
            return
        # It was told of when this was read.
        with suppress(ValueError):
            await self.asset_state_store.aset(self._key, cast("JsonValue", sorted(fired)))
