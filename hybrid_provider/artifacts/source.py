"""What an operator may be given as its artifact: what training returned, an artifact, or a URI."""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, cast

from hybrid_provider.artifacts.artifact import Artifact, ArtifactDict
from hybrid_provider.artifacts.objects import Location
from hybrid_provider.exceptions import ConfigurationError


@dataclass(frozen=True, slots=True, kw_only=True)
class ArtifactSource:
    """Where the artifact is, and what is known of it already.

    Attributes:
        uri: The object's or prefix's URI.
        artifact: The artifact at one moment, None where only the URI was given.
        created: The training's end, None where it is not known.
        training: What training returned besides the artifact, for the release's provenance.
    """

    uri: str
    artifact: Artifact | None = None
    created: datetime | None = None
    training: Mapping[str, object] | None = None

    @classmethod
    def read(cls, value: object) -> ArtifactSource:
        """Take a URI, an artifact's dict, a dict with the keys ``artifact`` and ``ended``, or its text.

        Jinja renders ``{{ ti.xcom_pull('train') }}`` to the text of a dict unless the DAG sets
        ``render_template_as_native_obj``; that text is parsed as a literal, never run.

        Raises:
            ConfigurationError: It is anything else.
        """
        if isinstance(value, str):
            value = _literal(value.strip())
        if isinstance(value, str):
            return cls(uri=str(Location.parse(value)))
        if isinstance(value, Mapping) and isinstance(value.get("artifact"), Mapping):
            artifact = _artifact(value["artifact"])
            training = {str(key): fact for key, fact in value.items() if key != "artifact"}
            return cls(
                uri=artifact.uri, artifact=artifact, created=_date(value.get("ended")), training=training
            )
        if isinstance(value, Mapping):
            artifact = _artifact(value)
            return cls(uri=artifact.uri, artifact=artifact)
        raise ConfigurationError(
            f"artifact is {value!r}; give the training task's output (train.output), an artifact's dict, "
            "or a URI. None means that the task before returned nothing"
        )


def _literal(text: str) -> object:
    """The dict whose text this is, or the text."""
    if not text.startswith("{"):
        return text
    for parse in (json.loads, ast.literal_eval):
        try:
            return cast("object", parse(text))
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            continue
    raise ConfigurationError(
        f"artifact is the text {text[:60]!r}… of no plain dict; give train.output instead of a template, "
        "or set render_template_as_native_obj=True on the DAG"
    )


def _artifact(fields: Mapping[Any, Any]) -> Artifact:
    try:
        artifact = Artifact.from_dict(cast("ArtifactDict", fields))
        complete = isinstance(artifact.size_bytes, int) and isinstance(artifact.etag, str)
        Location.parse(artifact.uri)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        complete, problem = False, f": {error!r}"
    else:
        problem = ""
    if not complete or artifact.last_modified.tzinfo is None:
        raise ConfigurationError(
            f"artifact has the keys {sorted(map(str, fields))}; it needs uri, size_bytes, etag, "
            f"version_id and last_modified, as the training operator and the sensor return them{problem}"
        )
    return artifact


def _date(text: object) -> datetime | None:
    if not isinstance(text, str):
        return None
    try:
        date = datetime.fromisoformat(text)
    except ValueError as error:
        raise ConfigurationError(f"'ended' of the training's output is {text!r}, no ISO 8601 date") from error
    return date if date.tzinfo else date.replace(tzinfo=UTC)
