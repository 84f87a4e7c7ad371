"""The seam between what is done on a POSIX target and how its shell is reached."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Protocol

from hybrid_provider.exceptions import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from datetime import timedelta

_VARIABLE = re.compile(r"[a-z][a-z_]*")
_FOLDER_PART = re.compile(r"[A-Za-z0-9._@+][A-Za-z0-9._@+-]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """How a script ended, and what it wrote."""

    exit_code: int
    stdout: str
    stderr: str


class Shell(Protocol):
    """Runs scripts with a target's ``sh``, in its user's HOME."""

    @property
    def name(self) -> str:
        """The target's name, for errors."""

    @property
    def host(self) -> str:
        """The target's address."""

    async def run(
        self, script: str, stdin: AsyncIterator[bytes] | None = None, limit: timedelta | None = None
    ) -> Finished:
        """Run ``script``, stream ``stdin`` into it and wait for its end.

        Args:
            script: The text for ``sh -c``.
            stdin: What the script reads; None is nothing.
            limit: How long it may take; None is the shell's own command timeout for a script without
                ``stdin``, and no limit for one with it.

        Raises:
            TargetUnreachable: There is no connection, it was lost, or the limit passed.
            TargetRefused: The target is not the one we know, or does not let us in.
        """

    async def close(self) -> None:
        """Close the connection."""


@cache
def shell_text(name: str) -> str:
    """The text of one of this package's shell scripts, without its comments and indentation."""
    lines = (files("hybrid_provider.targets") / "scripts" / f"{name}.sh").read_text().split("\n")
    kept = (line.strip() for line in lines)
    return "\n".join(line for line in kept if line and not line.startswith("#"))


def script(*names: str, variables: Mapping[str, str | int]) -> str:
    """A script that sets ``variables``, each quoted, and then runs the named texts one after the other.

    Raises:
        ConfigurationError: A value holds a NUL, which no shell can carry.
    """
    lines = []
    for name, value in variables.items():
        if not _VARIABLE.fullmatch(name):
            raise ValueError(f"{name!r} is no shell variable of ours")
        if "\0" in str(value):
            raise ConfigurationError(f"{name}: a NUL character cannot be passed to a shell")
        lines.append(f"{name}={shlex.quote(str(value))}")
    return "\n".join([*lines, *map(shell_text, names)])


def checked_folder(folder: str) -> str:
    """Return a folder on a target, relative to HOME or absolute, unchanged if its path is plain.

    Raises:
        ConfigurationError: It is empty, or a part of it is ``..``, begins with ``-`` or holds a character
            other than ASCII letters, digits and ``._@+-``.
    """
    parts = folder.removeprefix("/").removesuffix("/").split("/")
    if any(part == ".." or not _FOLDER_PART.fullmatch(part) for part in parts):
        raise ConfigurationError(
            f"base folder {folder!r}: use a path such as 'models' (in the user's HOME) or '/srv/models', "
            "of letters, digits and '._@+-', without '..' and '~'"
        )
    return folder
