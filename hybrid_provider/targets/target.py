"""What a rollout asks of one place where a model runs, whatever kind of place it is."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Protocol

from hybrid_provider.exceptions import ConfigurationError
from hybrid_provider.names import checked_name

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from hybrid_provider.artifacts.release import Release
    from hybrid_provider.targets.shell import Finished


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What one rollout asks of each of its targets.

    Attributes:
        model: The model's name.
        release: The release to bring and to switch to; its files are read from ``release.path``. None where
            nothing is brought, and a target goes to a release that it has: a rollback.
        rollout: The rollout's id; a retry has the same one, and so takes over its own lease.
        healthy_deadline: An activation that is not committed by then undoes itself on the target.
        lease: How long the target stays reserved for this rollout when nothing more is heard of it.
        keep_releases: How many of the newest releases stay on the target.
        drain: How long what the target is doing may take to end before the switch.
        verify_all: Hash also the files that the target's own record shows untouched since they were verified.
        programs: What the probe runs where the model does; ``curl/wget`` is one of these two.
    """

    model: str
    release: Release | None
    rollout: str
    healthy_deadline: timedelta
    lease: timedelta
    keep_releases: int
    drain: timedelta = timedelta(0)
    verify_all: bool = False
    programs: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        checked_name("model", self.model)
        checked_name("rollout", self.rollout)
        if self.release is not None:
            checked_name("release", self.release.release_id)

    @property
    def brought(self) -> Release:
        """The release that is brought.

        Raises:
            ConfigurationError: None is.
        """
        if self.release is None:
            raise ConfigurationError(f"rollout {self.rollout} of {self.model} brings no release")
        return self.release


@dataclass(frozen=True, slots=True, kw_only=True)
class Readiness:
    """What a target is found to be before anything is sent to it.

    Attributes:
        current: The release that is live there, None if there is none.
        previous: The release that was proved healthy there before the live one, and is there still.
        committed: Whether the order's release, by its digest, is live and was committed.
        live: For how long it has been live, by the target's own clock.
        present: Whether the order's release is there already.
        undone: The release that an interrupted activation had left live and that was undone just now.
        pinned: The release that somebody pinned the target to; no other may go live on it.
        lease: What nobody else calls the lease that was just taken; empty where nobody needs to know.
        overtaken: The lease of the same rollout that gave way to it: that of an earlier run, or that of
            another target which is this very place under another name.
    """

    current: str | None = None
    previous: str | None = None
    committed: bool = False
    live: timedelta = timedelta(0)
    present: bool = False
    undone: str | None = None
    pinned: str | None = None
    lease: str = ""
    overtaken: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspection:
    """What a target has and serves, as it says itself; the truth that everything else is a cache of.

    Attributes:
        release: The release that is live, None if there is none.
        digest: Of the live release's manifest there.
        committed: The release that was proved last, by the target's own record.
        previous: The one that was proved before it.
        since: When the committed release was proved, by the target's own clock.
        rollout: The rollout that did.
        holder: The rollout that has the target reserved now.
        pinned: The release that somebody pinned it to.
        releases: All that are there, whole.
        changed: Files of the live release that are not as its manifest says; empty also where nobody looked.
    """

    release: str | None = None
    digest: str | None = None
    committed: str | None = None
    previous: str | None = None
    since: datetime | None = None
    rollout: str | None = None
    holder: str | None = None
    pinned: str | None = None
    releases: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()


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

    @property
    def group(self) -> str | None:
        """The site or rack, of which no two targets are down together."""

    async def preflight(self, order: Order) -> Readiness:
        """Find all faults in one go, undo an interrupted activation, and take the lease."""

    async def stage(self, order: Order, progress: Callable[[int], None]) -> Staged:
        """Bring the release, inert and verified; ``progress`` is told of bytes that were sent."""

    async def drain(self, order: Order) -> None:
        """Give the target no new work, and let what it does end; nothing where it has no way to.

        What :meth:`activate`, or :meth:`revert` without it, leaves takes work again.
        """

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

    async def run(self, command: str, limit: timedelta) -> Finished:
        """Run shell text where the model runs, for a probe."""

    async def inspect(self, model: str, *, rehash: bool = False) -> Inspection:
        """Say what is there and live; takes no lease and changes nothing.

        Args:
            model: The model.
            rehash: Read every file of the live release and compare it with the manifest.
        """

    async def pin(self, model: str, release_id: str | None) -> None:
        """Keep the target on a release that it has, whatever rollouts come, until it is None."""

    async def close(self) -> None:
        """Let go of the connection."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """How a model runs on one target; each is None where the fleet's own setting holds.

    Attributes:
        base_folder: Holds one folder for each model; relative to the user's HOME, or absolute.
        reload_command: Shell text, run there by ``sh -c`` in HOME after each switch.
        drain_command: Shell text, run likewise before each switch: it takes the target out of service and
            waits for the end of what is under way. The reload command, run after the switch or instead of it,
            puts the target back.
        local_probe: Shell text, run likewise when nothing was heard of the worker until the healthy deadline:
            the release stays if it ends with 0, and otherwise, as without it, gives way to the one before.
        probe_url: What to ask whether the release is served.
        group: The site or rack, of which no two targets are down together.
    """

    base_folder: str | None = None
    reload_command: str | None = None
    drain_command: str | None = None
    local_probe: str | None = None
    probe_url: str | None = None
    group: str | None = None

    def over(self, fleet: Placement) -> Placement:
        """This placement with the fleet's settings where it has none."""
        return Placement(
            base_folder=self.base_folder or fleet.base_folder,
            reload_command=self.reload_command or fleet.reload_command,
            drain_command=self.drain_command or fleet.drain_command,
            local_probe=self.local_probe or fleet.local_probe,
            probe_url=self.probe_url or fleet.probe_url,
            group=self.group or fleet.group,
        )


class TargetSpec(Protocol):
    """A target that is not opened yet, as plain values."""

    @property
    def name(self) -> str:
        """The target's name, unique in its fleet."""

    def open(self, fleet: Placement) -> Target:
        """The target; connects when it is first asked something."""
