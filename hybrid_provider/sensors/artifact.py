"""Waits for a model artifact in cloud storage."""

from __future__ import annotations

import time
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, cast

from airflow.sdk import BaseSensorOperator, conf
from airflow.sdk.bases.sensor import PokeReturnValue
from airflow.sdk.exceptions import AirflowFailException, AirflowSensorTimeout
from airflow.triggers.base import StartTriggerArgs

from hybrid_provider._explained import explained
from hybrid_provider.artifacts.arrival import Awaited, date_of
from hybrid_provider.artifacts.artifact import Artifact, ArtifactDict
from hybrid_provider.artifacts.source import ArtifactSource
from hybrid_provider.exceptions import ArtifactUnavailable
from hybrid_provider.hooks.objects import access_for, connections_of
from hybrid_provider.sites import why_it_stays
from hybrid_provider.triggers.artifact import ModelArtifactTrigger

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow.sdk import Context

    from hybrid_provider.artifacts.reading import Access

_LAST_LOOK = "hybrid_last_look"


class ModelArtifactSensor(BaseSensorOperator):
    """Wait until an artifact is there, whole and stable.

    Given a URI, it waits for two looks in a row that see the same ETag and size. Given what another task
    returned, it waits until exactly that artifact is there, and hands on what it was given.

    Args:
        artifact: A URI (``s3://bucket/path/model.tar.gz``, or a prefix with a ``/`` at its end), an
            artifact's dict, or what the training operator returned; also of ``gs://``, ``az://``,
            ``abfs://`` and ``file://``, as for the sync operator. Templated.
        newer_than: An ISO 8601 date, a ``datetime``, or a release as the sync operator returns it; only an
            artifact written after it, or after the release's artifact, counts. Templated.
        newest: With a prefix, take the newest object of this name under it (``model.tar.gz``, ``*.tar.gz``),
            or the newest folder (``model/``). Templated.
        marker: With a prefix or a folder, the name of an object in it that is written last (``_SUCCESS``);
            until it is there, and not older than all others, the artifact is not whole. Templated.
        aws_conn_id: As in the amazon provider. Templated.
        region_name: As in the amazon provider. Templated.
        verify: As in the amazon provider.
        botocore_config: As in the amazon provider.
        gcp_conn_id: For ``gs://``, as in the google provider, which need not be installed. Templated.
        wasb_conn_id: For ``az://`` and ``abfs://``, as in Azure's provider, likewise. Templated.
        deferrable: Wait in the triggerer; ``[operators] default_deferrable`` where None. Without effect on a
            site's queue: the triggerer may not reach what the site's worker reaches.
        start_from_trigger: Begin in the triggerer, without a worker's first look. It needs ``deferrable``,
            and arguments that are known when the DAG is parsed; with a template or another task's output the
            task begins on a worker.

    Returns:
        An :class:`~hybrid_provider.artifacts.artifact.ArtifactDict`, or the training's output that was given;
        the sync operator takes either as it is: ``artifact=arrived.output``.

    Raises:
        AirflowSensorTimeout: Nothing came within ``timeout``, Airflow's own argument in seconds.
        ConfigurationError: A URI, date or connection that cannot be right.
        ArtifactNotFound: The objects may not be read. An object store that fails or throttles is no failure:
            the sensor looks again.
    """

    template_fields: Sequence[str] = (
        "artifact",
        "newer_than",
        "newest",
        "marker",
        "aws_conn_id",
        "region_name",
        "gcp_conn_id",
        "wasb_conn_id",
    )

    def __init__(
        self,
        *,
        artifact: object,
        newer_than: object = None,
        newest: str | None = None,
        marker: str | None = None,
        aws_conn_id: str | None = "aws_default",
        region_name: str | None = None,
        verify: bool | str | None = None,
        botocore_config: dict[str, Any] | None = None,
        gcp_conn_id: str | None = "google_cloud_default",
        wasb_conn_id: str | None = "wasb_default",
        deferrable: bool | None = None,
        start_from_trigger: bool = False,
        **kwargs: Any,  # noqa: ANN401 - BaseSensorOperator's own arguments
    ) -> None:
        super().__init__(**kwargs)
        self.artifact = artifact
        self.newer_than = newer_than
        self.newest = newest
        self.marker = marker
        self.aws_conn_id = aws_conn_id
        self.region_name = region_name
        self.verify = verify
        self.botocore_config = botocore_config
        self.gcp_conn_id = gcp_conn_id
        self.wasb_conn_id = wasb_conn_id
        self.deferrable = deferrable
        self.start_from_trigger = start_from_trigger and self._is_deferrable() and self._is_known_now()
        if self.start_from_trigger:
            self.start_trigger_args = StartTriggerArgs(
                trigger_cls=f"{ModelArtifactTrigger.__module__}.{ModelArtifactTrigger.__qualname__}",
                trigger_kwargs={
                    "uri": str(artifact).strip(),
                    "newer_than": newer_than.isoformat() if isinstance(newer_than, datetime) else newer_than,
                    **self._common_arguments(),
                },
                next_method="resume",
                # No trigger knows yet when the task begins; Airflow keeps this one.
                timeout=timedelta(seconds=self.timeout),
            )

    @explained
    def poke(self, context: Context) -> PokeReturnValue:
        """Look once; what was seen is kept outside this process, for a rescheduled sensor is a new one."""
        awaited = self._awaited()
        memory = context["task_state_store"]
        seen = memory.get(_LAST_LOOK)
        before = Artifact.from_dict(cast("ArtifactDict", seen)) if seen else None
        try:
            now = awaited.look(self._access(awaited.uri))
        except ArtifactUnavailable as error:
            self.log.warning("%s", error)
            return PokeReturnValue(is_done=False)
        self.log.info(
            "%s: %s", awaited.uri, f"{now.size_bytes} bytes, ETag {now.etag}" if now else "nothing yet"
        )
        if awaited.arrived(now, before) and now is not None:
            return PokeReturnValue(is_done=True, xcom_value=self._handed_on(now.to_dict()))
        if now != before:
            memory.set(_LAST_LOOK, cast("Any", now.to_dict() if now else {}))
        return PokeReturnValue(is_done=False)

    def execute(self, context: Context) -> object:
        """Wait here, or after a first look in the triggerer."""
        if self._wants_to_defer() and (reason := why_it_stays(self)):
            self.log.info("%s", reason)
        if not self._is_deferrable():
            return super().execute(context)
        first = self.poke(context)
        if not first.is_done:
            self.defer(trigger=self._trigger(), method_name="resume")
        return first.xcom_value

    def resume(
        self,
        context: Context,  # noqa: ARG002 - Airflow's signature
        event: Mapping[str, Any],
    ) -> Mapping[str, object]:
        """Take the trigger's event."""
        if "artifact" in event:
            return self._handed_on(event["artifact"])
        if event.get("timed_out"):
            raise AirflowSensorTimeout(event["error"])
        raise AirflowFailException(event["error"])

    def _is_deferrable(self) -> bool:
        return self._wants_to_defer() and why_it_stays(self) is None

    def _wants_to_defer(self) -> bool:
        if self.deferrable is None:
            return conf.getboolean("operators", "default_deferrable", fallback=False)
        return self.deferrable

    def _is_known_now(self) -> bool:
        """Whether the arguments stand when the DAG is parsed: plain values, no template among them."""
        texts = [value for name in self.template_fields if isinstance(value := getattr(self, name), str)]
        plain = isinstance(self.artifact, str) and isinstance(self.newer_than, str | datetime | None)
        return plain and not any("{" in text for text in texts)

    def _awaited(self) -> Awaited:
        source = ArtifactSource.read(self.artifact)
        return Awaited(
            uri=source.uri,
            expected=source.artifact,
            newer_than=date_of(self.newer_than),
            newest=self.newest,
            marker=self.marker,
        )

    def _access(self, uri: str) -> Access:
        return access_for(self, uri)

    def _trigger(self) -> ModelArtifactTrigger:
        awaited = self._awaited()
        return ModelArtifactTrigger(
            uri=awaited.uri,
            expected=awaited.expected.to_dict() if awaited.expected else None,
            newer_than=awaited.newer_than.isoformat() if awaited.newer_than else None,
            deadline=time.time() + self.timeout,
            **self._common_arguments(),
        )

    def _common_arguments(self) -> dict[str, Any]:
        """The arguments that the sensor and its trigger have alike."""
        return {
            "newest": self.newest,
            "marker": self.marker,
            "poke_interval": self.poke_interval,
            **connections_of(self),
        }

    def _handed_on(self, seen: ArtifactDict) -> Mapping[str, object]:
        """What was seen; for a training's output that output, since its date becomes the release's."""
        source = ArtifactSource.read(self.artifact)
        if source.training is None:
            return cast("Mapping[str, object]", seen)
        return {**source.training, "artifact": seen}
