"""Looks at what a fleet really has and serves, and puts right what drifted."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypedDict

from hybrid_provider._explained import explained
from hybrid_provider.artifacts.retention import in_use
from hybrid_provider.exceptions import ConfigurationError, DriftFound
from hybrid_provider.fleet.audited import AuditState
from hybrid_provider.operators._arguments import flag, release_id_of
from hybrid_provider.operators._evidence import check_direction, head_of, run_of
from hybrid_provider.operators._rollout_state import RolloutMemory
from hybrid_provider.operators.deploy import CHAMPION
from hybrid_provider.operators.fleet import FleetOperator
from hybrid_provider.rollout.activations import Activations
from hybrid_provider.rollout.audit import (
    REPAIRABLE,
    Expected,
    RepairProbe,
    audit,
    repair_policy,
    report,
)
from hybrid_provider.rollout.engine import Rollout
from hybrid_provider.rollout.probe_settings import bound

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow.sdk import Context

    from hybrid_provider.artifacts.store import ReleaseStore
    from hybrid_provider.operators.fleet import Fleet
    from hybrid_provider.rollout.audit import Audited, DriftDict
    from hybrid_provider.rollout.result import RolloutDict


class AuditedDict(TypedDict):
    """One target of an audit."""

    name: str
    release: str | None
    digest: str | None
    previous: str | None
    since: str | None
    pinned: str | None
    healthy: bool | None
    error: str | None


class AuditDict(TypedDict):
    """An audit as an XCom."""

    model: str
    release_id: str | None
    targets: list[AuditedDict]
    drift: list[DriftDict]
    closed: str | None
    repaired: RolloutDict | None


class FleetAuditOperator(FleetOperator):
    """Ask each target what it really has and serves, and hold it against the store and the expected release.

    It changes nothing and takes no lease, unless it repairs. What the fleet's state in the model's asset says
    is written anew from what the targets answer; a rollout that it shows as running, and that no task runs
    any more, is closed as ``ABORTED``.

    The kinds of drift: ``unreachable``, ``nothing_live``, ``other_release``, ``other_digest`` (its manifest
    is not the store's), ``changed_files`` (with ``rehash``), ``unproved``, ``unhealthy`` (its probe),
    ``pinned`` to another release, ``locked`` by a rollout.

    Args:
        release: What every target should serve: a release id, ``latest``, a channel, or what the sync or
            deploy operator returned. None: the store's ``champion``, or where there is none what was proved
            last on each target. Templated.
        rehash: Read every file of the live release on each target again. Templated.
        repair: Deploy the expected release to the targets that drifted, with every file hashed. It needs the
            release in this worker's store. Templated.
        fail_on_drift: Fail the task where a target is not as it should be, after a repair still not.
        kwargs: Of :class:`~hybrid_provider.operators.fleet.FleetOperator`: the model, the fleet, and how it
            moves where it is repaired.

    Returns:
        An :class:`AuditDict`: ``drift`` is a list of ``{host, kind, detail}``.

    Raises:
        ConfigurationError: Arguments, connections or inventories that cannot be right, or nothing says what
            to repair with.
        DriftFound: A target is not as it should be, with ``fail_on_drift``; the message lists each.
        RolloutError: The repair ended otherwise than well.
    """

    reads_events = True
    template_fields: Sequence[str] = (
        *FleetOperator.template_fields,
        "release",
        "rehash",
        "repair",
    )

    def __init__(
        self,
        *,
        release: object = None,
        rehash: object = False,
        repair: object = False,
        fail_on_drift: bool = True,
        **kwargs: Any,  # noqa: ANN401 - a fleet operator's own arguments
    ) -> None:
        super().__init__(**kwargs)
        self.release = release
        self.rehash = rehash
        self.repair = repair
        self.fail_on_drift = fail_on_drift

    @explained
    def execute(self, context: Context) -> AuditDict:
        """Look, with a line in the log for each target that drifted; then repair, and look again."""
        fleet = self._looked_at()
        store = self._store()
        expected = self._expected(store)
        state = AuditState(context, self.model_name)
        audited = self._look(fleet, expected)
        closed = state.close_dead(audited)
        repaired = None
        if flag("repair", self.repair) and (drifted := _drifted(audited)):
            repaired = self._repair(context, fleet, store, expected, drifted)
            audited = self._look(self._looked_at(), expected)
        state.write(audited, expected.release_id)
        if repaired is None:
            digest = expected.digests.get(expected.release_id or "")
            state.announce(audited, expected.release_id, digest, head=head_of(store))
        result = _result(self.model_name, expected, audited, closed, repaired)
        if result["drift"] and self.fail_on_drift:
            raise DriftFound(
                f"{len(result['drift'])} findings on the fleet of {self.model_name}\n{report(audited)}"
            )
        return result

    def _looked_at(self) -> Fleet:
        """The fleet, opened anew, without what is left alone."""
        fleet, skip = self._fleet(), self._skipped()
        return replace(fleet, targets=tuple(each for each in fleet.targets if each.name not in skip))

    def _look(self, fleet: Fleet, expected: Expected) -> tuple[Audited, ...]:
        rehash = flag("rehash", self.rehash)
        look = audit(fleet.targets, fleet.model, fleet.probe, fleet.policy, expected, rehash=rehash)
        audited = asyncio.run(look)
        self.log.info("Audit of %d targets of model %s\n%s", len(audited), fleet.model, report(audited))
        return audited

    def _expected(self, store: ReleaseStore) -> Expected:
        wanted = release_id_of("release", self.release)
        digests = {release.release_id: release.digest for release in store.releases(self.model_name)}
        if wanted is None:
            wanted = store.channel(self.model_name, CHAMPION).current
        elif wanted not in digests:
            wanted = store.release(self.model_name, wanted).release_id
        return Expected(release_id=wanted, digests=digests)

    def _repair(
        self,
        context: Context,
        fleet: Fleet,
        store: ReleaseStore,
        expected: Expected,
        drifted: Sequence[str],
    ) -> RolloutDict:
        if expected.release_id is None:
            raise ConfigurationError(
                f"model {fleet.model}: nothing says which release to repair {', '.join(drifted)} with; give "
                "release, or deploy one, which sets the channel champion"
            )
        release = store.release(fleet.model, expected.release_id)
        targets = tuple(target for target in self._fleet().targets if target.name in drifted)
        check_direction(store, release, targets)
        memory = RolloutMemory.begin(context)
        fleet = replace(fleet, targets=targets, policy=repair_policy(fleet.policy))
        state = fleet.state(
            context, kind="audit", memory=memory, release=release.release_id, digests=expected.digests
        )
        probe = RepairProbe(bound(fleet.probe, release), drifted)
        facts = {"model": release.model, "digest": release.digest, "rollout": memory.rollout}
        evidence = Activations(store.evidence, {**facts, "run": run_of(context)})

        repair = Rollout(
            release,
            targets,
            probe,
            fleet.policy,
            rollout_id=memory.rollout,
            journal=probe.told(self._journal(evidence, state)),
            age=memory.age,
        )
        with in_use(store, release):
            result = self._moved(repair, state)
        result.raise_unless_succeeded()
        memory.end()
        state.announce(result, training=None, head=head_of(store))
        return result.to_dict()


def _drifted(audited: Sequence[Audited]) -> list[str]:
    return [one.name for one in audited if any(finding.kind in REPAIRABLE for finding in one.findings)]


def _result(
    model: str,
    expected: Expected,
    audited: Sequence[Audited],
    closed: str | None,
    repaired: RolloutDict | None,
) -> AuditDict:
    return {
        "model": model,
        "release_id": expected.release_id,
        "targets": [_target(one) for one in audited],
        "drift": [finding.to_dict() for one in audited for finding in one.findings],
        "closed": closed,
        "repaired": repaired,
    }


def _target(one: Audited) -> AuditedDict:
    found = one.inspection
    return {
        "name": one.name,
        "release": found.release if found else None,
        "digest": found.digest if found else None,
        "previous": found.previous if found else None,
        "since": found.since.isoformat() if found and found.since else None,
        "pinned": found.pinned if found else None,
        "healthy": one.answer.healthy if one.answer else None,
        "error": one.error,
    }
