"""The one grammar for names that become folders, object keys or shell words.

It is an allow-list: ASCII letters, digits, ``.``, ``_`` and ``-``, beginning with a letter or a digit, at
most 64 characters. ``..``, ``/``, spaces, quotes, control and non-ASCII characters cannot be written in it.
"""

from __future__ import annotations

import re

from hybrid_provider.exceptions import InvalidName

MAX_NAME_LENGTH = 64
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def checked_name(what: str, name: object) -> str:
    """Return ``name`` unchanged if the grammar allows it.

    Args:
        what: What the name is of, for the message: ``"model"``, ``"target"``, ``"release"``.
        name: The name to check; anything but a ``str`` is refused as well.

    Raises:
        InvalidName: It is empty, too long, or holds a character outside the grammar.
    """
    if not isinstance(name, str) or not _is_written_in_it(name):
        raise InvalidName(
            f"{what} name {name!r}: use letters, digits, '.', '_' and '-', "
            "beginning with a letter or a digit, and no '..'"
        )
    if len(name) > MAX_NAME_LENGTH:
        raise InvalidName(
            f"{what} name {name!r} has {len(name)} characters; at most {MAX_NAME_LENGTH} are allowed"
        )
    return name


def is_name(name: str) -> bool:
    """Whether the grammar allows ``name``."""
    return len(name) <= MAX_NAME_LENGTH and _is_written_in_it(name)


def _is_written_in_it(name: str) -> bool:
    return _NAME.fullmatch(name) is not None and ".." not in name
