"""The operator's arguments, as Jinja left them, read into a training spec; all faults in one message."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from hybrid_provider.exceptions import ConfigurationError, HybridError
from hybrid_provider.names import checked_name
from hybrid_provider.training.source import pack_file, pack_source
from hybrid_provider.training.spec import (
    DEFAULT_MAX_RUNTIME,
    DEFAULT_VOLUME_SIZE_GB,
    Compression,
    TrainingSpec,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from hybrid_provider.training.source import SourceBundle

T = TypeVar("T")
E = TypeVar("E", bound=StrEnum)


class Faults:
    """Collects what is wrong, so that all of it is told at once."""

    def __init__(self) -> None:
        self._found: list[str] = []

    def add(self, *faults: str) -> None:
        """Note faults, each as ``argument: what is wrong``."""
        self._found += faults

    def reading(self, read: Callable[[], T], otherwise: T) -> T:
        """What ``read`` gives; ``otherwise``, with a fault noted, where it refuses."""
        try:
            return read()
        except HybridError as error:
            self.add(str(error))
            return otherwise

    def raise_if_any(self, what: str, note: Callable[[], str] = str) -> None:
        """Raise ConfigurationError with all of them, and ``note`` at its end."""
        if self._found:
            faults = "\n".join(f"  - {fault}" for fault in dict.fromkeys(self._found))
            raise ConfigurationError(f"{what} was not started:\n{faults}{note()}")


def read_spec(arguments: Mapping[str, Any], folder: Path, faults: Faults) -> TrainingSpec:
    """Read the arguments; what is faulty is noted in ``faults`` and left at its default.

    Args:
        arguments: By the names of :class:`TrainingSpec`, with ``config`` for ``native`` and ``source_dir``.
        folder: The folder that relative paths begin at: the DAG file's.
        faults: Gets what is wrong.
    """

    def of(name: str, read: Callable[[str, Any], T], default: T) -> T:
        value = arguments.get(name)
        if value is None or value == "":
            return default
        return faults.reading(lambda: read(name, value), default)

    return TrainingSpec(
        model_name=of("model_name", _model_name, "model"),
        image_uri=of("image_uri", text, None),
        framework=of("framework", text, None),
        framework_version=of("framework_version", text, None),
        py_version=of("py_version", text, None),
        hyperparameters=of("hyperparameters", _json_mapping, {}),
        inputs=of("inputs", _inputs, {}),
        output_path=of("output_path", text, None),
        role=of("role", text, None),
        instance_type=of("instance_type", text, None),
        instance_count=of("instance_count", number, 1),
        volume_size_gb=of("volume_size_gb", number, DEFAULT_VOLUME_SIZE_GB),
        max_runtime=of("max_runtime", duration, DEFAULT_MAX_RUNTIME),
        spot=of("spot", flag, False),  # noqa: FBT003 - the default, named by the argument's name
        max_wait=of("max_wait", duration, None),
        checkpoint_uri=of("checkpoint_uri", text, None),
        compression=of("compression", _compression, Compression.GZIP),
        metric_definitions=of("metric_definitions", _metric_definitions, ()),
        environment=of("environment", _text_mapping, {}),
        tags=of("tags", _text_mapping, {}),
        subnets=of("subnets", _texts, ()),
        security_group_ids=of("security_group_ids", _texts, ()),
        kms_key=of("kms_key", text, None),
        keep_alive=of("keep_alive", duration, None),
        native=of("config", _json_mapping, {}),
        **_source(of("source_dir", text, None), of("entry_point", text, None), folder, faults),
    )


def _source(source_dir: str | None, entry_point: str | None, folder: Path, faults: Faults) -> dict[str, Any]:
    """The fields ``source`` and ``entry_point``."""
    if entry_point is None:
        if source_dir is not None:
            faults.add("entry_point: missing; name the script in source_dir")
        return {}
    if source_dir is not None and source_dir.startswith("s3://"):
        return {"source": source_dir, "entry_point": entry_point}
    if source_dir is None:
        script = folder / entry_point
        packed: SourceBundle | None = faults.reading(lambda: pack_file(script), None)
        return {"source": packed, "entry_point": script.name}
    packed = faults.reading(lambda: pack_source(folder / source_dir, entry_point), None)
    return {"source": packed, "entry_point": entry_point}


def text(name: str, value: object) -> str:
    """A string."""
    if not isinstance(value, (str, Path)):
        raise ConfigurationError(f"{name}: {value!r} is no text")
    return str(value)


def number(name: str, value: object) -> int:
    """A whole number, also from the text that Jinja made of it."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str) and re.fullmatch(r"\s*-?\d+\s*", value):
        return int(value)
    raise ConfigurationError(f"{name}: {value!r} is no whole number")


def flag(name: str, value: object) -> bool:
    """True or False, also from the text that Jinja made of it."""
    spoken = {"true": True, "false": False}
    answer = value if isinstance(value, bool) else spoken.get(str(value).strip().lower())
    if answer is None:
        raise ConfigurationError(f"{name}: {value!r} is neither True nor False")
    return answer


def duration(name: str, value: object) -> timedelta:
    """A timedelta, or a whole number of seconds."""
    span = value if isinstance(value, timedelta) else timedelta(seconds=number(name, value))
    if span <= timedelta(0):
        raise ConfigurationError(f"{name}: {value!r} is not longer than nothing")
    return span


def literal(name: str, value: object) -> object:
    """``value``, or where Jinja made a text of a dict or list, what that text says; it is never run."""
    if not isinstance(value, str):
        return value
    for parse in (json.loads, ast.literal_eval):
        try:
            parsed: object = parse(value)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            continue
        return parsed
    raise ConfigurationError(
        f"{name}: {value[:80]!r} is the text of no plain value; "
        "set render_template_as_native_obj=True on the DAG"
    )


def _model_name(_name: str, value: object) -> str:
    return checked_name("model", value)


def _mapping(name: str, value: object) -> dict[str, Any]:
    parsed = literal(name, value)
    if not isinstance(parsed, Mapping) or not all(isinstance(key, str) for key in parsed):
        raise ConfigurationError(f"{name}: {value!r} is no dict with names as its keys")
    return dict(parsed)


def _json_mapping(name: str, value: object) -> dict[str, Any]:
    mapping = _mapping(name, value)
    for key, item in mapping.items():
        try:
            json.dumps(item, allow_nan=False)
        except (TypeError, ValueError):
            raise ConfigurationError(f"{name}[{key}]: {item!r} cannot be written as JSON") from None
    return mapping


def _inputs(name: str, value: object) -> dict[str, str | Mapping[str, object]]:
    channels = _json_mapping(name, value)
    for channel, source in channels.items():
        if not isinstance(source, (str, Mapping)):
            raise ConfigurationError(
                f"{name}[{channel}]: {source!r} is neither a URI nor a channel's description"
            )
        if isinstance(source, str) and not source.startswith("s3://"):
            raise ConfigurationError(f"{name}[{channel}]: {source!r} is no s3:// URI")
    return channels


def _text_mapping(name: str, value: object) -> dict[str, str]:
    mapping = _mapping(name, value)
    for key, item in mapping.items():
        if not isinstance(item, (str, int, float)):
            raise ConfigurationError(f"{name}[{key}]: {item!r} is no text")
    return {key: str(item) for key, item in mapping.items()}


def _sequence(name: str, value: object) -> Sequence[object]:
    parsed = (
        literal(name, value) if isinstance(value, str) and value.lstrip().startswith(("[", "(")) else value
    )
    if isinstance(parsed, (str, Mapping)) or not isinstance(parsed, Iterable):
        raise ConfigurationError(f"{name}: {value!r} is no list")
    return tuple(parsed)


def _texts(name: str, value: object) -> tuple[str, ...]:
    return tuple(text(f"{name}[{index}]", item) for index, item in enumerate(_sequence(name, value)))


def _metric_definitions(name: str, value: object) -> tuple[Mapping[str, str], ...]:
    read: list[Mapping[str, str]] = []
    for index, definition in enumerate(_sequence(name, value)):
        if not isinstance(definition, Mapping) or set(definition) != {"Name", "Regex"}:
            raise ConfigurationError(f"{name}[{index}]: {definition!r} needs exactly the keys Name and Regex")
        read.append({"Name": str(definition["Name"]), "Regex": str(definition["Regex"])})
    return tuple(read)


def choice(name: str, value: object, choices: type[E]) -> E:
    """One of an enumeration's values."""
    try:
        return choices(str(value).lower())
    except ValueError:
        allowed = ", ".join(repr(str(one)) for one in choices)
        raise ConfigurationError(f"{name}: {value!r} is none of {allowed}") from None


def _compression(name: str, value: object) -> Compression:
    return choice(name, value, Compression)
