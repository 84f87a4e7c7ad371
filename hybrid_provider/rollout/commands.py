"""What the commands of ``python -m hybrid_provider.rollout`` do."""

from __future__ import annotations

import asyncio
import signal
import sys
from contextlib import closing
from typing import TYPE_CHECKING, Any, Final

from hybrid_provider.artifacts.channels import CHAMPION
from hybrid_provider.artifacts.console import Outcome, table
from hybrid_provider.artifacts.program import FAILED, INTERRUPTED, TRY_LATER
from hybrid_provider.artifacts.retention import in_use
from hybrid_provider.exceptions import ArtifactError, ConfigurationError
from hybrid_provider.rollout.arguments import Fleet, fleet_of, rollout_of, store_of
from hybrid_provider.rollout.audit import REPAIRABLE, Expected, RepairProbe, audit, repair_policy, report
from hybrid_provider.rollout.engine import Rollout
from hybrid_provider.rollout.pinning import pin_targets
from hybrid_provider.rollout.probe_settings import bound
from hybrid_provider.rollout.rollback import Rollback
from hybrid_provider.rollout.states import SERVING, RolloutState
from hybrid_provider.rollout.watching import watcher

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from hybrid_provider.rollout.audit import Audited
    from hybrid_provider.rollout.operation import Operation
    from hybrid_provider.rollout.result import RolloutResult
    from hybrid_provider.rollout.watching import Watcher

# A terminal that goes away says SIGHUP.
_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# Ends after which nothing goes on.
_LAST: Final = frozenset({RolloutState.SUCCEEDED, RolloutState.SUPERSEDED, RolloutState.ROLLED_BACK})


def deploy(asked: argparse.Namespace) -> Outcome:
    """Put a release live, and let the store's channel ``champion`` follow."""
    store, fleet = store_of(asked), fleet_of(asked)
    release = store.release(fleet.model, asked.release)
    rollout, age = rollout_of(asked)
    with (
        in_use(store, release),
        closing(_watched(asked, fleet, f"deploy {release.release_id}", rollout)) as told,
    ):
        result = _moved(
            Rollout(
                release,
                fleet.opened(),
                bound(fleet.proof, release),
                fleet.policy,
                rollout_id=rollout,
                journal=told.entered,
                skip=asked.skip,
                stop_after_canary=asked.stop_after == "canary",
                age=age,
            )
        )
    if result.state is RolloutState.SUCCEEDED and not asked.skip:
        store.point(fleet.model, CHAMPION, release.release_id)
    return _ended(result)


def rollback(asked: argparse.Namespace) -> Outcome:
    """Take a fleet back; no version is typed."""
    fleet = fleet_of(asked)
    rollout, _ = rollout_of(asked)
    with closing(_watched(asked, fleet, "rollback", rollout)) as told:
        result = _moved(
            Rollback(
                fleet.model,
                fleet.opened(),
                fleet.proof,
                fleet.policy,
                rollout_id=rollout,
                only_from=asked.only_from,
                skip=asked.skip,
                journal=told.entered,
            )
        )
    if result.well and asked.store is not None:
        _name_champion(asked, result)
    return _ended(result)


def status(asked: argparse.Namespace) -> Outcome:
    """What each target has and serves, held against nothing."""
    fleet = fleet_of(asked)
    audited = _looked(fleet, Expected())
    rows = [_row(one) for one in audited]
    head = ["target", "release", "since", "previous", "pinned", "answers", ""]
    lines = [[str(cell) for cell in _cells(row)] for row in rows]
    answered = all(one.inspection is not None for one in audited)
    return Outcome(facts={"model": fleet.model, "targets": rows}, text=table(head, lines), good=answered)


def audit_(asked: argparse.Namespace) -> Outcome:
    """What each target has and serves, held against the store, and put right where that is asked for."""
    fleet = fleet_of(asked)
    fleet = fleet.only([spec.name for spec in fleet.specs if spec.name not in asked.skip])
    expected = _expected(asked, fleet.model)
    audited = _looked(fleet, expected, rehash=asked.rehash)
    drifted = [one.name for one in audited if any(found.kind in REPAIRABLE for found in one.findings)]
    repaired = None
    if asked.repair and drifted:
        repaired = _repaired(asked, fleet.only(drifted), expected)
        if not repaired.well:
            return _ended(repaired)
        audited = _looked(fleet, expected, rehash=asked.rehash)
    drift = [finding.to_dict() for one in audited for finding in one.findings]
    facts = {
        "model": fleet.model,
        "release_id": expected.release_id,
        "targets": [_row(one) for one in audited],
        "drift": drift,
        "repaired": repaired.to_dict() if repaired else None,
    }
    return Outcome(facts=facts, text=report(audited), good=not drift)


def pin(asked: argparse.Namespace) -> Outcome:
    """Keep targets on a release, or let them go."""
    if (asked.release is None) != asked.off:
        raise ConfigurationError("give the release to pin to, or --off")
    fleet = fleet_of(asked)
    fleet = fleet.only(asked.only) if asked.only else fleet
    pinned = asyncio.run(pin_targets(fleet.opened(), fleet.model, asked.release, fleet.policy))
    did = f"pinned to {asked.release}" if asked.release else "not pinned"
    return Outcome(
        facts={"model": fleet.model, "targets": [one.to_dict() for one in pinned]},
        text="\n".join(f"{one.name}: {one.error or did}" for one in pinned),
        good=not any(one.error for one in pinned),
    )


def _watched(asked: argparse.Namespace, fleet: Fleet, what: str, rollout: str) -> Watcher:
    names = [spec.name for spec in fleet.specs]
    return watcher(f"{what} of {fleet.model} on {len(names)} targets ({rollout})", names, silent=asked.json)


def _moved(operation: Operation) -> RolloutResult:
    """The operation, run; a signal aborts it, and its end is waited for."""

    async def moved() -> RolloutResult:
        loop = asyncio.get_running_loop()
        for number in _SIGNALS:
            loop.add_signal_handler(number, _abort, operation)
        return await operation.run()

    return asyncio.run(moved())


def _abort(operation: Operation) -> None:
    sys.stderr.write("aborting: what is being switched goes back, and every lock is given back\n")
    operation.abort()


def _ended(result: RolloutResult) -> Outcome:
    went = sum(target.state in SERVING for target in result.targets)
    text = (
        f"{result.table()}\n{result.kind} {result.state}{': ' if result.detail else ''}{result.detail}; "
        f"{went} of {len(result.targets)} targets went there\n{result.reasons()}"
    ).rstrip()
    if result.state not in _LAST:
        canary = ", and without --stop-after" if result.planned else ""
        text += f"\nto go on: the same command with --rollout {result.rollout}{canary}"
    facts: dict[str, Any] = {**result.to_dict(), "rollout": result.rollout}
    return Outcome(facts=facts, text=text, good=result.well, code=_code(result))


def _code(result: RolloutResult) -> int:
    if result.well:
        return 0
    if result.state is RolloutState.ABORTED:
        return INTERRUPTED
    return TRY_LATER if result.retryable else FAILED


def _name_champion(asked: argparse.Namespace, result: RolloutResult) -> None:
    """The store's channel follows the fleet, where all of it is on one release that the store has."""
    live = {target.live for target in result.targets}
    if len(live) != 1 or (release_id := live.pop()) is None:
        return
    store = store_of(asked)
    try:
        store.point(result.model, CHAMPION, store.release(result.model, release_id).release_id)
    except ArtifactError as error:
        sys.stderr.write(f"the channel {CHAMPION} of model {result.model} stays: {error}\n")


def _expected(asked: argparse.Namespace, model: str) -> Expected:
    if asked.store is None and asked.release is None:
        return Expected()
    store = store_of(asked)
    digests = {release.release_id: release.digest for release in store.releases(model)}
    wanted = store.release(model, asked.release).release_id if asked.release else None
    return Expected(release_id=wanted or store.channel(model, CHAMPION).current, digests=digests)


def _looked(fleet: Fleet, expected: Expected, *, rehash: bool = False) -> tuple[Audited, ...]:
    look = audit(fleet.opened(), fleet.model, fleet.probe, fleet.policy, expected, rehash=rehash)
    return asyncio.run(look)


def _repaired(asked: argparse.Namespace, fleet: Fleet, expected: Expected) -> RolloutResult:
    names = [spec.name for spec in fleet.specs]
    if expected.release_id is None:
        raise ConfigurationError(
            f"nothing says which release to repair {', '.join(names)} with; give --release"
        )
    store = store_of(asked)
    release = store.release(fleet.model, expected.release_id)
    rollout, age = rollout_of(asked)
    probe = RepairProbe(bound(fleet.proof, release), names)
    with (
        in_use(store, release),
        closing(_watched(asked, fleet, f"repair {release.release_id}", rollout)) as told,
    ):
        return _moved(
            Rollout(
                release,
                fleet.opened(),
                probe,
                repair_policy(fleet.policy),
                rollout_id=rollout,
                journal=probe.told(told.entered),
                age=age,
            )
        )


def _row(one: Audited) -> dict[str, Any]:
    found = one.inspection
    return {
        "name": one.name,
        "group": one.group,
        "release": found.release if found else None,
        "digest": found.digest if found else None,
        "since": found.since.isoformat() if found and found.since else None,
        "previous": found.previous if found else None,
        "pinned": found.pinned if found else None,
        "rollout": found.holder if found else None,
        "healthy": one.answer.healthy if one.answer else None,
        "error": one.error or (one.answer.fault if one.answer else None) or None,
    }


def _cells(row: dict[str, Any]) -> Sequence[object]:
    healthy = {True: "yes", False: "no", None: "-"}[row["healthy"]]
    since = row["since"][:16].replace("T", " ") if row["since"] else "-"
    note = row["error"] or (f"reserved by {row['rollout']}" if row["rollout"] else "")
    return (
        row["name"],
        row["release"] or "-",
        since,
        row["previous"] or "-",
        row["pinned"] or "-",
        healthy,
        note,
    )
