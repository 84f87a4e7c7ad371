"""Names that point at one release of a model and move from one to the next."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from hybrid_provider.artifacts.folder import make_folder, read_small_file, write_small_file
from hybrid_provider.artifacts.release import is_release_id
from hybrid_provider.exceptions import ConfigurationError, StoreError

if TYPE_CHECKING:
    from pathlib import Path

CANDIDATE: Final = "candidate"
"""The release that was synced last."""
CHAMPION: Final = "champion"
"""The release that a fleet was proved to serve last."""
CHANNELS: Final = (CANDIDATE, CHAMPION)


@dataclass(frozen=True, slots=True)
class Channel:
    """What a channel names: ``current``, and ``previous`` to go back to; None for nothing."""

    current: str | None
    previous: str | None


def read_channel(folder: Path, name: str) -> Channel:
    """A channel of the model whose folder this is.

    Raises:
        StoreError: Its file is not what was written there. To take it for an empty channel would let its
            release be pruned.
    """
    path = folder / "channels" / name
    text = read_small_file(path)
    if text is None:
        return Channel(None, None)
    current, _, previous = text.partition("\n")
    if not is_release_id(current) or (previous and not is_release_id(previous)):
        raise StoreError(
            f"{path} names no release; write the id of the release that is its {name} there, or remove it"
        )
    return Channel(current, previous or None)


def write_channel(folder: Path, name: str, release_id: str) -> None:
    """Set a channel by one rename; the caller holds the model's lock."""
    before = read_channel(folder, name)
    if before.current == release_id:
        return
    make_folder(folder / "channels")
    write_small_file(folder / "channels" / name, f"{release_id}\n{before.current or ''}\n")


def check_channel(name: str) -> None:
    """Raise ConfigurationError unless there is such a channel."""
    if name not in CHANNELS:
        raise ConfigurationError(f"channel {name!r} is not one of {', '.join(CHANNELS)}")
