"""Requests and replies held against botocore's service model.

A request is read into Python values, every constraint of the model checked on the way, and the faults are
worded as the service words them. A reply is written by its shape, so that one that the model does not
know cannot leave.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from hybrid_provider.emulator.sagemaker.errors import SerializationException, ValidationException

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from botocore.model import ListShape, MapShape, Shape, StringShape, StructureShape

_PYTHON_TYPES: Final[dict[str, tuple[type[Any], ...]]] = {
    "string": (str,),
    "integer": (int,),
    "long": (int,),
    "float": (int, float),
    "double": (int, float),
    "boolean": (bool,),
    "timestamp": (int, float),
    "structure": (dict,),
    "map": (dict,),
    "list": (list,),
}

_JAVA_CLASSES: Final = {
    r"\p{Alnum}": "a-zA-Z0-9",
    r"\p{L}": r"\w",
    r"\p{N}": r"\d",
    r"\p{Z}": " \u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000",
}


def read_request(shape: StructureShape, body: object) -> dict[str, Any]:
    """The request's values, with timestamps as aware datetimes and unknown members left out.

    Raises:
        SerializationException: A value has the wrong type.
        ValidationException: Values break constraints of the model; the message lists all of them.
    """
    request = _read(shape, body)
    faults = list(_faults(shape, request, ""))
    if faults:
        plural = "error" if len(faults) == 1 else "errors"
        raise ValidationException(f"{len(faults)} validation {plural} detected: {'; '.join(faults)}")
    return dict(request)


def write_reply(shape: Shape, value: Any) -> Any:  # noqa: ANN401 - any JSON value
    """The reply as JSON values: timestamps in seconds since 1970, absent members left out."""
    if shape.type_name == "structure":
        unknown = value.keys() - shape.members.keys()
        if unknown:
            raise ValueError(f"{shape.name} has no member {', '.join(sorted(unknown))}")
        return {
            name: write_reply(shape.members[name], item) for name, item in value.items() if item is not None
        }
    if shape.type_name == "list":
        return [write_reply(shape.member, item) for item in value]
    if shape.type_name == "map":
        return {key: write_reply(shape.value, item) for key, item in value.items()}
    if shape.type_name == "timestamp":
        return round(value.timestamp(), 3)
    return value


def one_fault(value: object, path: str, constraint: str) -> str:
    """The message of a request with this one fault; ``path`` may be in the model's capitals."""
    return f"1 validation error detected: {_fault(value, _below('', path), constraint)}"


def _read(shape: Shape, value: Any) -> Any:  # noqa: ANN401 - any JSON value
    kind = shape.type_name
    _check_type(kind, value)
    if kind == "structure":
        known = {name: item for name, item in value.items() if name in shape.members and item is not None}
        return {name: _read(shape.members[name], item) for name, item in known.items()}
    if kind == "list":
        return [_read(shape.member, item) for item in value]
    if kind == "map":
        return {key: _read(shape.value, item) for key, item in value.items()}
    return datetime.fromtimestamp(value, UTC) if kind == "timestamp" else value


def _check_type(kind: str, value: object) -> None:
    expected = _PYTHON_TYPES[kind]
    # bool is an int in Python, and is none in JSON.
    if not isinstance(value, expected) or (isinstance(value, bool) and bool not in expected):
        raise SerializationException(f"{type(value).__name__} value can not be converted to {kind}")


def _faults(shape: Shape, value: Any, path: str) -> Iterator[str]:  # noqa: ANN401 - any JSON value
    checks: dict[str, Callable[[Any, Any, str], Iterator[str]]] = {
        "structure": _structure_faults,
        "list": _list_faults,
        "map": _map_faults,
        "string": _string_faults,
        "integer": _number_faults,
        "long": _number_faults,
        "float": _number_faults,
        "double": _number_faults,
    }
    if shape.type_name in checks:
        yield from checks[shape.type_name](shape, value, path)


def _number_faults(shape: Shape, value: float, path: str) -> Iterator[str]:
    least, most = shape.metadata.get("min"), shape.metadata.get("max")
    if least is not None and value < least:
        yield _fault(value, path, f"Member must have value greater than or equal to {least}")
    if most is not None and value > most:
        yield _fault(value, path, f"Member must have value less than or equal to {most}")


def _structure_faults(shape: StructureShape, value: dict[str, Any], path: str) -> Iterator[str]:
    for name in shape.required_members:
        if name not in value:
            yield _fault(None, _below(path, name), "Member must not be null")
    for name, item in value.items():
        yield from _faults(shape.members[name], item, _below(path, name))


def _list_faults(shape: ListShape, value: list[Any], path: str) -> Iterator[str]:
    yield from _length_faults(shape, value, path)
    for number, item in enumerate(value, start=1):
        yield from _faults(shape.member, item, f"{path}.{number}.member")


def _map_faults(shape: MapShape, value: dict[str, Any], path: str) -> Iterator[str]:
    yield from _length_faults(shape, value, path)
    for part, inner, items in (("keys", shape.key, value.keys()), ("value", shape.value, value.values())):
        constraints = _string_constraints(inner)
        if any(True for item in items for _ in _string_faults(inner, item, path)):
            yield _fault(value, path, f"Map {part} must satisfy constraint: [{', '.join(constraints)}]")


def _string_faults(shape: StringShape, value: str, path: str) -> Iterator[str]:
    yield from _length_faults(shape, value, path)
    if shape.enum and value not in shape.enum:
        yield _fault(value, path, f"Member must satisfy enum value set: [{', '.join(shape.enum)}]")
    pattern = shape.metadata.get("pattern")
    if pattern and not python_pattern(pattern).fullmatch(value):
        yield _fault(value, path, f"Member must satisfy regular expression pattern: {pattern}")


def _length_faults(shape: Shape, value: str | list[Any] | dict[str, Any], path: str) -> Iterator[str]:
    least, most = shape.metadata.get("min"), shape.metadata.get("max")
    if least is not None and len(value) < least:
        yield _fault(value, path, f"Member must have length greater than or equal to {least}")
    if most is not None and len(value) > most:
        yield _fault(value, path, f"Member must have length less than or equal to {most}")


def _string_constraints(shape: Shape) -> list[str]:
    """All constraints of a map's keys or values; the service names them all when one is broken."""
    found = []
    if "max" in shape.metadata:
        found.append(f"Member must have length less than or equal to {shape.metadata['max']}")
    if "min" in shape.metadata:
        found.append(f"Member must have length greater than or equal to {shape.metadata['min']}")
    if "pattern" in shape.metadata:
        found.append(f"Member must satisfy regular expression pattern: {shape.metadata['pattern']}")
    return found


@lru_cache
def python_pattern(pattern: str) -> re.Pattern[str]:
    r"""The model's regular expressions are Java's, with classes that Python has other names for.

    ``\p{L}`` and ``\p{N}`` only occur beside ``_``, so that ``\w`` is what they are together.
    """
    for java, python in _JAVA_CLASSES.items():
        pattern = pattern.replace(java, python)
    return re.compile(pattern)


def _fault(value: object, path: str, constraint: str) -> str:
    shown = "null" if value is None else f"'{value}'"
    return f"Value {shown} at '{path}' failed to satisfy constraint: {constraint}"


def _below(path: str, member: str) -> str:
    name = ".".join(part[0].lower() + part[1:] for part in member.split("."))
    return f"{path}.{name}" if path else name
