"""Waits for a model artifact in cloud storage."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, cast

from airflow.sdk import BaseSensorOperator, conf
from airflow.sdk.bases.sensor import PokeReturnValue
from airflow.sdk.exceptions import AirflowFailException, AirflowSensorTimeout

from hybrid_provider._explained import explained
from hybrid_provider.artifacts.arrival import Awaited
from hybrid_provider.artifacts.artifact import Artifact, ArtifactDict
from hybrid_provider.artifacts.source import ArtifactSource
from hybrid_provider.exceptions import ArtifactUnavailable, ConfigurationError
from hybrid_provider.hooks.aws import aws_access
from hybrid_provider.triggers.artifact import ModelArtifactTrigger

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow.sdk import Context

_LAST_LOOK = "hybrid_last_look"


class ModelArtifactSensor(BaseSensorOperator):
    """Wait until an artifact is there, whole and stable.

    Given a URI, it waits for two looks in a row that see the same ETag and size. Given what another task
    returned, it waits until exactly that artifact is there, and hands on what it was given.

    Args:
        artifact: A URI (``s3://bucket/path/model.tar.gz``, or a prefix with a ``/`` at its end), an
            artifact's dict, or what the training operator returned. Templated.
        newer_than: An ISO 8601 date or a ``datetime``; only an artifact written after it counts. Templated.
        aws_conn_id: As in the amazon provider.
        region_name: As in the amazon provider.
        verify: As in the amazon provider.
        botocore_config: As in the amazon provider.
        deferrable: Wait in the triggerer; ``[operators] default_deferrable`` where None.

    Returns:
        An :class:`~hybrid_provider.artifacts.artifact.ArtifactDict`, or the training's output that was given.
    """

    template_fields: Sequence[str] = ("artifact", "newer_than", "aws_conn_id", "region_name")

    def __init__(
        self,
        *,
        artifact: object,
        newer_than: str | datetime | None = None,
        aws_conn_id: str | None = "aws_default",
        region_name: str | None = None,
        verify: bool | str | None = None,
        botocore_config: dict[str, Any] | None = None,
        deferrable: bool | None = None,
        **kwargs: Any,  # noqa: ANN401 - BaseSensorOperator's own arguments
    ) -> None:
        super().__init__(**kwargs)
        self.artifact = artifact
        self.newer_than = newer_than
        self.aws_conn_id = aws_conn_id
        self.region_name = region_name
        self.verify = verify
        self.botocore_config = botocore_config
        self.deferrable = deferrable

    @explained
    def poke(self, context: Context) -> PokeReturnValue:
        """Look once; what was seen is kept outside this process, for a rescheduled sensor is a new one."""
        awaited = self._awaited()
        memory = context["task_state_store"]
        seen = memory.get(_LAST_LOOK)
        before = Artifact.from_dict(cast("ArtifactDict", seen)) if seen else None
        try:
            now = awaited.look(
                aws_access(self.aws_conn_id, self.region_name, self.verify, self.botocore_config)
            )
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
        deferrable = self.deferrable
        if deferrable is None:
            deferrable = conf.getboolean("operators", "default_deferrable", fallback=False)
        if not deferrable:
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

    def _awaited(self) -> Awaited:
        source = ArtifactSource.read(self.artifact)
        return Awaited(uri=source.uri, expected=source.artifact, newer_than=_date(self.newer_than))

    def _trigger(self) -> ModelArtifactTrigger:
        awaited = self._awaited()
        return ModelArtifactTrigger(
            uri=awaited.uri,
            expected=awaited.expected.to_dict() if awaited.expected else None,
            newer_than=awaited.newer_than.isoformat() if awaited.newer_than else None,
            deadline=time.time() + self.timeout,
            poke_interval=self.poke_interval,
            aws_conn_id=self.aws_conn_id,
            region_name=self.region_name,
            verify=self.verify,
            botocore_config=self.botocore_config,
        )

    def _handed_on(self, seen: ArtifactDict) -> Mapping[str, object]:
        """What was seen; for a training's output that output, since its date becomes the release's."""
        source = ArtifactSource.read(self.artifact)
        if source.training is None:
            return cast("Mapping[str, object]", seen)
        return {**source.training, "artifact": seen}


def _date(value: str | datetime | None) -> datetime | None:
    if value is None or value == "":
        return None
    try:
        date = value if isinstance(value, datetime) else datetime.fromisoformat(value.strip())
    except (ValueError, AttributeError):
        raise ConfigurationError(f"newer_than is {value!r}; give an ISO 8601 date") from None
    return date if date.tzinfo else date.replace(tzinfo=UTC)
