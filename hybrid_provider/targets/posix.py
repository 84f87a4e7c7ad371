"""A target with a POSIX shell: over SSH or on this machine.

::

    <base>/<model>/current            → releases/<release id>
                   releases/          one folder for each release, whole and verified
                   manifests/         one file for each release; its SHA-256 is the release's digest
                   verified/          one file for each release: by what its files are known to be untouched
                   state.json         what was committed last, and before
                   pin                the release that it stays on, where somebody said so
                   .staging/ .activation/ .lease
"""

from __future__ import annotations

import asyncio
import math
import secrets
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar

from hybrid_provider.exceptions import (
    InvalidName,
    TargetFailed,
    TargetLocked,
    TargetNotReady,
    TargetUnreachable,
)
from hybrid_provider.names import checked_name
from hybrid_provider.targets.answers import (
    disk_faults,
    locked_reason,
    read_inspection,
    read_phase,
    read_preflight,
    told,
)
from hybrid_provider.targets.shell import checked_folder, script
from hybrid_provider.targets.staging import Staging
from hybrid_provider.targets.target import Staged
from hybrid_provider.targets.tarstream import parts_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from hybrid_provider.targets.answers import Preflight
    from hybrid_provider.targets.shell import Finished, Shell
    from hybrid_provider.targets.target import Inspection, Order, Placement, Readiness

_Answer = TypeVar("_Answer")

DEFAULT_BASE_FOLDER: Final = "models"
# How long one look at an activation may hold its connection.
_PATIENCE: Final = timedelta(seconds=20)
# The target's deadline is after the worker's, which so decides as long as it lives.
_GRACE: Final = timedelta(seconds=5)
# For reading a release as large as they come from a disk as slow as they come.
_REHASH_LIMIT: Final = timedelta(hours=2)
_AGAIN: Final = timedelta(seconds=1)
_NAPS_PER_SECOND: Final = 10
# For the answer of a preflight that nobody wants any more.
_LAST_WORD: Final = timedelta(seconds=5)
# The phases of an activation that no other follows; in the second set the target is where it was before.
_ENDS: Final = frozenset({"committed", "reverted", "refused", "stuck", "died", "none"})
_UNCHANGED: Final = frozenset({"reverted", "refused", "none"})


class PosixTarget:
    """One POSIX target during one rollout; see :class:`hybrid_provider.targets.target.Target`."""

    def __init__(self, shell: Shell, placement: Placement) -> None:
        self._shell = shell
        self._placement = placement
        self._base = checked_folder(placement.base_folder or DEFAULT_BASE_FOLDER)
        self._found: Preflight | None = None
        self._nonce = ""
        self._activations = 0
        self._token = ""
        self._drained = False
        self._keep_left = False

    @property
    def name(self) -> str:
        """The target's name."""
        return self._shell.name

    @property
    def host(self) -> str:
        """The address that a probe asks."""
        return self._shell.host

    @property
    def probe_url(self) -> str | None:
        """The URL to probe here, where it is not the same for the whole fleet."""
        return self._placement.probe_url

    @property
    def group(self) -> str | None:
        """The site or rack, of which no two targets are down together."""
        return self._placement.group

    async def preflight(self, order: Order) -> Readiness:
        """Find all faults in one go, undo an interrupted activation, and take the lease.

        Raises:
            TargetNotReady: What is missing, all of it in one message.
            TargetLocked: Another rollout works on this target.
        """
        asked = asyncio.create_task(self._reserved(order))
        try:
            return await asyncio.shield(asked)
        except asyncio.CancelledError:
            # The lease may be ours by now: only who has the answer can give it back.
            await asyncio.wait([asked], timeout=_LAST_WORD.total_seconds())
            asked.cancel()
            await asyncio.gather(asked, return_exceptions=True)
            raise

    async def _reserved(self, order: Order) -> Readiness:
        self._found, self._nonce = None, secrets.token_hex(8)
        variables = {
            **self._names(order),
            **self._reload(order),
            "wait": _NAPS_PER_SECOND * _seconds(_long(order)),
            "ttl": _seconds(order.lease),
            "probe_tools": " ".join(order.programs),
        }
        text = script("library", "reload", "heal", "preflight", variables=variables)
        finished = await self._shell.run(text, limit=2 * _long(order))
        digest = order.release.digest if order.release else ""
        found = self._understood(partial(read_preflight, digest=digest, nonce=self._nonce), finished)
        if found.locked is not None:
            raise TargetLocked(self.name, locked_reason(found.locked))
        self._found = found if not found.faults else None
        faults = [*found.faults]
        if found.false_sum:
            faults.append("its sha256sum gives a wrong sum, so nothing can be proved; install it anew")
        if order.release is not None and not found.readiness.present:
            faults += disk_faults(order, parts_of(order.release.manifest, found.manifests), found)
        if faults:
            raise TargetNotReady(self.name, "; ".join(faults))
        return found.readiness

    async def stage(self, order: Order, progress: Callable[[int], None]) -> Staged:
        """Bring the release, inert and verified.

        Raises:
            TargetFailed: It did not arrive whole; nothing of it is left on the target.
        """
        found = self._preflight
        if found.readiness.present and await self._verified(order):
            return Staged()

        async def run(*names: str, stdin: AsyncIterator[bytes] | None = None, **variables: str | int) -> str:
            text = script(
                *names, variables={**self._names(order), "verify_all": _yes(order.verify_all), **variables}
            )
            return self._checked(await self._shell.run(text, stdin=stdin))

        staging = Staging(self.name, run, order.brought, found.manifests, progress)
        # Until it is there, or the target itself refused it, what arrived is for a retry.
        self._keep_left = True
        try:
            staged = await staging.bring(resumed=found.left_bytes is not None)
        except TargetFailed:
            self._keep_left = False
            raise
        self._keep_left = False
        return staged

    async def drain(self, order: Order) -> None:
        """Give the target no new work, for as long as the switch takes.

        Whatever becomes of the worker, the target takes work again by its healthy deadline.

        Raises:
            TargetFailed: It could not be drained, and takes work as before.
        """
        if self._placement.drain_command and order.drain:
            self._drained = True
            await self._start(order, "", drain=self._placement.drain_command)
            await self._until(order, "drained")

    async def activate(self, order: Order, release_id: str) -> None:
        """Make a release that is there live until :meth:`commit`, :meth:`revert` or the healthy deadline.

        Raises:
            TargetFailed: It is not live; the one before is.
        """
        if self._drained:
            self._drained = False
            await self._until(order, "active", ask="go", release_id=release_id)
        else:
            await self._start(order, release_id)
            await self._until(order, "active")

    async def commit(self, order: Order) -> None:
        """Keep what was activated.

        Raises:
            TargetFailed: The target has gone back already.
            TargetUnreachable: It is not known whether it has.
        """
        await self._until(order, "committed", ask="commit")

    async def revert(self, order: Order) -> bool:
        """Go back to what was live before :meth:`activate`; returns when that is so.

        Returns:
            False where the activation was committed before: then the commit's answer was lost, and it stays.

        Raises:
            TargetFailed: It could not go back.
            TargetUnreachable: Nobody can ask; the target goes back by itself at its healthy deadline.
        """
        if not self._token:
            return True
        self._drained = False
        return await self._until(order, "reverted", "committed", *_UNCHANGED, ask="revert") != "committed"

    async def finish(self, order: Order) -> None:
        """Give the lease back and remove releases past ``keep_releases``."""
        if self._found is not None:
            variables = {
                **self._names(order),
                "keep": order.keep_releases,
                "keep_left": _yes(self._keep_left),
            }
            text = script("library", "proof", "finish", variables=variables)
            await self._shell.run(text, limit=_long(order))

    async def run(self, command: str, limit: timedelta) -> Finished:
        """Run shell text in HOME, for a probe."""
        return await self._shell.run(command, limit=limit)

    async def inspect(self, model: str, *, rehash: bool = False) -> Inspection:
        """Say what is there and live; takes no lease and changes nothing."""
        variables = {
            "base": self._base,
            "model": checked_name("model", model),
            "rehash": _yes(rehash),
        }
        text = script("library", "proof", "inspect", variables=variables)
        finished = await self._shell.run(text, limit=_REHASH_LIMIT if rehash else None)
        return self._understood(read_inspection, finished)

    async def pin(self, model: str, release_id: str | None) -> None:
        """Keep the target on a release that it has, whatever rollouts come, until it is None.

        Raises:
            TargetFailed: The release is not there.
        """
        variables = {
            "base": self._base,
            "model": checked_name("model", model),
            "release": checked_name("release", release_id) if release_id else "",
        }
        self._checked(await self._shell.run(script("library", "pin", variables=variables)))

    async def close(self) -> None:
        """Close the shell's connection."""
        await self._shell.close()

    @property
    def _preflight(self) -> Preflight:
        if self._found is None:
            raise TargetNotReady(
                self.name, "it was not found ready; the deploy begins again with a preflight"
            )
        return self._found

    async def _start(self, order: Order, release_id: str, drain: str = "") -> None:
        """Start the detached script that switches, and drains before where it is told how."""
        self._activations += 1
        self._token = f"{self._nonce}-{self._activations}"
        variables: dict[str, str | int] = {
            **self._names(order, release_id),
            **self._reload(order),
            "token": self._token,
            "drain": drain,
            "patience": _seconds(order.drain),
            "probe": self._placement.local_probe or "",
        }
        activation = script("library", "proof", "reload", "activate", variables=variables)
        text = script("library", "start", variables={**self._names(order), "activation": activation})
        self._checked(await self._shell.run(text, limit=_PATIENCE))

    def _names(self, order: Order, release_id: str | None = None) -> dict[str, str | int]:
        """What every script is told; going back to another release than the order's, we know no digest."""
        brought = order.release if order.release and release_id in {None, order.release.release_id} else None
        return {
            "base": self._base,
            "model": order.model,
            "release": brought.release_id if brought else release_id or "",
            "digest": brought.digest if brought else "",
            "rollout": order.rollout,
            "epoch": self._found.epoch if self._found else 0,
            "nonce": self._nonce,
        }

    def _reload(self, order: Order) -> dict[str, str | int]:
        return {
            "reload": self._placement.reload_command or "",
            "deadline": _seconds(order.healthy_deadline + _GRACE),
        }

    async def _verified(self, order: Order) -> bool:
        """Whether the release that is there is still what was staged; reads all of it."""
        text = script(
            "library",
            "proof",
            "verify",
            variables={**self._names(order), "verify_all": _yes(order.verify_all)},
        )
        return (await self._shell.run(text, limit=_REHASH_LIMIT)).exit_code == 0

    async def _until(self, order: Order, *wanted: str, ask: str = "", release_id: str | None = None) -> str:
        """Wait, over lost connections, for one of these phases of the activation; explain any other end."""
        variables = {
            **self._names(order, release_id),
            "token": self._token,
            "ask": ask,
            "wanted": " ".join(sorted({*wanted, *_ENDS})),
            "patience": _seconds(_PATIENCE),
        }
        text = script("library", "wait", variables=variables)
        deadline = asyncio.get_running_loop().time() + _long(order).total_seconds()
        while True:
            try:
                phase, reason = read_phase(self._checked(await self._shell.run(text, limit=2 * _PATIENCE)))
            except TargetUnreachable:
                if asyncio.get_running_loop().time() > deadline:
                    raise
                await asyncio.sleep(_AGAIN.total_seconds())
                continue
            if phase == "died":
                await self._recover(order)
                phase, reason = "reverted", "the activation was killed on the target, and was undone"
            if phase in wanted:
                return phase
            if phase in _ENDS:
                raise TargetFailed(self.name, reason or f"the activation ended as {phase}")
            if asyncio.get_running_loop().time() > deadline:
                raise TargetFailed(self.name, f"the activation is still {phase} after {_long(order)}")

    async def _recover(self, order: Order) -> None:
        variables = {**self._names(order), **self._reload(order)}
        text = script("library", "reload", "heal", "recover", variables=variables)
        self._checked(await self._shell.run(text, limit=_long(order)))

    def _understood(self, read: Callable[[str], _Answer], finished: Finished) -> _Answer:
        """What a script answered, as a value; a host may answer anything."""
        answer = self._checked(finished)
        try:
            return read(answer)
        except (ValueError, OverflowError, InvalidName) as error:
            raise TargetFailed(self.name, f"its answer makes no sense: {told(str(error))}") from None

    def _checked(self, finished: Finished) -> str:
        """What a script answered, or the reason it gave."""
        if finished.exit_code != 0:
            _, failed, reason = f"\n{finished.stdout}".rpartition("\nfail ")
            if failed:
                raise TargetFailed(self.name, told(reason))
            said = told("\n".join(finished.stderr.strip().splitlines()[-3:]))
            raise TargetFailed(self.name, f"a script ended with {finished.exit_code}: {said}")
        return finished.stdout


def _yes(condition: bool) -> str:  # noqa: FBT001 - the shell's idea of a truth value
    return "yes" if condition else ""


def _seconds(duration: timedelta) -> int:
    """Whole seconds, which is what a shell can compare, and never none."""
    return max(1, math.ceil(duration.total_seconds()))


def _long(order: Order) -> timedelta:
    """For what takes as long as draining and two reload commands may, or as reading a release."""
    return order.drain + 2 * order.healthy_deadline + timedelta(minutes=1)
