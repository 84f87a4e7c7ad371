"""What a rollout asks of one place where a model runs, whatever kind of place it is."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Protocol

from hybrid_provider.names import checked_name

if TYPE_CHECKING:
    from collections.abc import Callable

    from hybrid_provider.artifacts.release import Release


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What one rollout asks of each of its targets.

    Attributes:
        release: The release to bring and to switch to; its files are read from ``release.path``.
        rollout: The rollout's id; a retry has the same one, and so takes over its own lease.
        healthy_deadline: An activation that is not committed by then undoes itself on the target.
        lease: How long the target stays reserved for this rollout when nothing more is heard of it.
        keep_releases: How many of the newest releases stay on the target.
    """

    release: Release
    rollout: str
    healthy_deadline: timedelta
    lease: timedelta
    keep_releases: int

    def __post_init__(self) -> None:
        checked_name("model", self.release.model)
        checked_name("release", self.release.release_id)
        checked_name("rollout", self.rollout)


@dataclass(frozen=True, slots=True, kw_only=True)
class Readiness:
    """What a target is found to be before anything is sent to it.

    Attributes:
        current: The release that is live there, None if there is none.
        committed: Whether the order's release, by its digest, is live and was committed.
        live: For how long it has been live, by the target's own clock.
        present: Whether the order's release is there already.
        undone: The release that an interrupted activation had left live and that was undone just now.
    """

    current: str | None = None
    committed: bool = False
    live: timedelta = timedelta(0)
    present: bool = False
    undone: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Staged:
    """How a release came to lie, verified, on a target."""

    bytes_sent: int = 0
    bytes_linked: int = 0


class Target(Protocol):
    """One target during one rollout.

    Every method raises a :class:`~hybrid_provider.exceptions.TargetError` and nothing else, may be
    cancelled at any moment, and leaves the target on one whole release whenever it ends.
    """

    @property
    def name(self) -> str:
        """The target's name, unique in its fleet."""

    @property
    def host(self) -> str:
        """The address that a probe asks."""

    @property
    def probe_url(self) -> str | None:
        """The URL to probe here, where it is not the same for the whole fleet."""

    async def preflight(self, order: Order) -> Readiness:
        """Find all faults in one go, undo an interrupted activation, and take the lease."""

    async def stage(self, order: Order, progress: Callable[[int], None]) -> Staged:
        """Bring the release, inert and verified; ``progress`` is told of bytes that were sent."""

    async def activate(self, order: Order, release_id: str) -> None:
        """Make a release that is there live until :meth:`commit`, :meth:`revert` or the healthy deadline."""

    async def commit(self, order: Order) -> None:
        """Keep what was activated."""

    async def revert(self, order: Order) -> bool:
        """Go back to what was live before :meth:`activate`; returns when that is so.

        Returns:
            False where the activation was committed before: then the commit's answer was lost, and it stays.
        """

    async def finish(self, order: Order) -> None:
        """Give the lease back and remove releases past ``keep_releases``."""

    async def close(self) -> None:
        """Let go of the connection."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """How a model runs on one target; each is None where the fleet's own setting holds.

    Attributes:
        base_folder: Holds one folder for each model; relative to the user's HOME, or absolute.
        reload_command: Shell text, run there by ``sh -c`` in HOME after each switch.
        probe_url: What to ask whether the release is served.
    """

    base_folder: str | None = None
    reload_command: str | None = None
    probe_url: str | None = None

    def over(self, fleet: Placement) -> Placement:
        """This placement with the fleet's settings where it has none."""
        return Placement(
            base_folder=self.base_folder or fleet.base_folder,
            reload_command=self.reload_command or fleet.reload_command,
            probe_url=self.probe_url or fleet.probe_url,
        )


class TargetSpec(Protocol):
    """A target that is not opened yet, as plain values."""

    @property
    def name(self) -> str:
        """The target's name, unique in its fleet."""

    def open(self, fleet: Placement) -> Target:
        """The target; connects when it is first asked something."""
