"""Arguments of the operators that a template may have made a string."""

from __future__ import annotations

from collections.abc import Mapping

from hybrid_provider.exceptions import ConfigurationError
from hybrid_provider.operators._literal import literal


def names(what: str, given: object) -> tuple[str, ...]:
    """Names of targets: a list, one, or none.

    Raises:
        ConfigurationError: It is none of these.
    """
    listed = literal(what, given) or ()
    if isinstance(listed, str):
        listed = [listed]
    if not isinstance(listed, list | tuple | set) or not all(isinstance(name, str) for name in listed):
        raise ConfigurationError(f"{what} is {given!r}; give a list of targets' names")
    return tuple(listed)


def release_id_of(what: str, given: object) -> str | None:
    """A release's id from itself, what the sync or deploy operator returned, or None.

    Raises:
        ConfigurationError: It is none of these.
    """
    wanted = literal(what, given)
    if wanted in {None, "", "None"} if isinstance(wanted, str | None) else False:
        return None
    if isinstance(wanted, Mapping) and isinstance(wanted.get("release_id"), str):
        return str(wanted["release_id"])
    if isinstance(wanted, str):
        return wanted
    raise ConfigurationError(
        f"{what} is {given!r}; give a release id, or what the sync or deploy task returned"
    )


def flag(what: str, given: object) -> bool:
    """A switch.

    Raises:
        ConfigurationError: It is neither on nor off.
    """
    words = {"true": True, "false": False, "none": False, "": False}
    if isinstance(given, str) and given.strip().lower() in words:
        return words[given.strip().lower()]
    if isinstance(given, bool):
        return given
    raise ConfigurationError(f"{what} is {given!r}; give True or False")
