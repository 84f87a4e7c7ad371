"""What each target of a fleet really has and serves, held against what it should; and its repair."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Final, TypedDict

from hybrid_provider.exceptions import TargetError
from hybrid_provider.rollout.probe import Answer, asked
from hybrid_provider.rollout.states import TargetState

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from hybrid_provider.rollout.policy import RolloutPolicy
    from hybrid_provider.rollout.probe import Probe
    from hybrid_provider.rollout.result import JournalEntry
    from hybrid_provider.targets.target import Inspection, Target


class Drift(StrEnum):
    """In which way a target is not as it should be."""

    UNREACHABLE = "unreachable"
    NOTHING_LIVE = "nothing_live"
    OTHER_RELEASE = "other_release"
    OTHER_DIGEST = "other_digest"
    CHANGED_FILES = "changed_files"
    UNPROVED = "unproved"
    UNHEALTHY = "unhealthy"
    PINNED = "pinned"
    LOCKED = "locked"


# What a redeploy of the expected release puts right.
REPAIRABLE: Final = frozenset(
    {
        Drift.NOTHING_LIVE,
        Drift.OTHER_RELEASE,
        Drift.OTHER_DIGEST,
        Drift.CHANGED_FILES,
        Drift.UNPROVED,
        Drift.UNHEALTHY,
    }
)
_SHOWN_FILES: Final = 5


class DriftDict(TypedDict):
    """A :class:`Finding` as an XCom."""

    host: str
    kind: str
    detail: str


@dataclass(frozen=True, slots=True)
class Finding:
    """One way in which one target is not as it should be."""

    host: str
    kind: Drift
    detail: str

    def to_dict(self) -> DriftDict:
        """The finding as plain values."""
        return {"host": self.host, "kind": self.kind.value, "detail": self.detail}


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What every target should serve.

    Attributes:
        release_id: The release; None: whatever was proved last on each.
        digests: Of the releases that the store knows, by id.
    """

    release_id: str | None = None
    digests: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Audited:
    """What was found on one target.

    Attributes:
        inspection: What it says itself; None where it said nothing.
        answer: Of the probe; None where nothing was asked.
        error: Why it said nothing.
    """

    name: str
    group: str | None
    inspection: Inspection | None
    answer: Answer | None
    error: str | None
    findings: tuple[Finding, ...]


async def audit(
    targets: Sequence[Target],
    model: str,
    probe: Probe | None,
    policy: RolloutPolicy,
    expected: Expected,
    *,
    rehash: bool = False,
) -> tuple[Audited, ...]:
    """Look at every target; takes no lease, changes nothing, and reports what cannot be reached."""
    gate = asyncio.Semaphore(policy.connects)

    async def one(target: Target) -> Audited:
        async with gate:
            return await _audited(target, model, probe, policy, expected, rehash=rehash)

    return tuple(await asyncio.gather(*map(one, targets)))


async def _audited(
    target: Target,
    model: str,
    probe: Probe | None,
    policy: RolloutPolicy,
    expected: Expected,
    *,
    rehash: bool,
) -> Audited:
    inspection, answer, error = None, None, None
    try:
        async with asyncio.timeout(policy.progress_deadline.total_seconds()):
            inspection = await target.inspect(model, rehash=rehash)
    except TargetError as failure:
        error = failure.reason
    except TimeoutError:
        error = f"it did not answer within {policy.progress_deadline.total_seconds():g} s (progress_deadline)"
    if inspection is not None and inspection.release is not None and probe is not None:
        answer = await asked(probe, target, inspection.release, policy.probe_timeout)
    try:
        await target.close()
    except TargetError as failure:
        error = error or failure.reason
    return Audited(
        name=target.name,
        group=target.group,
        inspection=inspection,
        answer=answer,
        error=error,
        findings=findings_of(target.name, inspection, answer, error, expected),
    )


def findings_of(
    name: str, found: Inspection | None, answer: Answer | None, error: str | None, expected: Expected
) -> tuple[Finding, ...]:
    """How what was found on a target differs from what is expected."""
    if found is None:
        return (Finding(name, Drift.UNREACHABLE, error or "it said nothing"),)
    findings = [*_release_findings(name, found, expected), *_content_findings(name, found, expected)]
    if answer is not None and not answer.healthy:
        findings.append(Finding(name, Drift.UNHEALTHY, answer.fault))
    if found.holder is not None:
        findings.append(Finding(name, Drift.LOCKED, f"rollout {found.holder} has it reserved"))
    return tuple(findings)


def _release_findings(name: str, found: Inspection, expected: Expected) -> list[Finding]:
    wanted = expected.release_id or found.committed
    if found.release is None:
        return [Finding(name, Drift.NOTHING_LIVE, f"nothing is live, expected {wanted or 'a release'}")]
    if found.pinned is not None and found.pinned != wanted:
        return [Finding(name, Drift.PINNED, f"pinned to {found.pinned}, expected {wanted}")]
    if wanted is not None and found.release != wanted:
        return [Finding(name, Drift.OTHER_RELEASE, f"{found.release} is live, expected {wanted}")]
    if found.release != found.committed:
        return [Finding(name, Drift.UNPROVED, f"{found.release} is live and was never proved")]
    return []


def _content_findings(name: str, found: Inspection, expected: Expected) -> list[Finding]:
    findings = []
    digest = expected.digests.get(found.release or "")
    if digest and found.digest and digest != found.digest:
        detail = f"its manifest of {found.release} has digest {found.digest[:12]}, the store's {digest[:12]}"
        findings.append(Finding(name, Drift.OTHER_DIGEST, detail))
    if found.changed:
        shown = ", ".join(found.changed[:_SHOWN_FILES])
        more = len(found.changed) - _SHOWN_FILES
        detail = f"not as verified: {shown}{f' and {more} more' if more > 0 else ''}"
        findings.append(Finding(name, Drift.CHANGED_FILES, detail))
    return findings


def state_of(audited: Audited) -> TargetState:
    """The state that a target is in, in the words of a rollout."""
    if audited.inspection is None:
        return TargetState.UNREACHABLE
    kinds = {finding.kind for finding in audited.findings}
    if Drift.PINNED in kinds:
        return TargetState.PINNED
    return TargetState.FAILED_NO_CHANGE if kinds & REPAIRABLE else TargetState.ALREADY_CURRENT


def report(audited: Sequence[Audited]) -> str:
    """One line for each target, and below it how it drifted."""
    lines = []
    for one in audited:
        found = one.inspection
        release = found.release or "nothing" if found else "?"
        since = f" since {found.since:%Y-%m-%d %H:%M}" if found and found.since else ""
        pinned = f", pinned to {found.pinned}" if found and found.pinned else ""
        lines.append(f"  {one.name}: {release}{since}{pinned}{'' if one.findings else ', as it should be'}")
        lines += [f"    {finding.kind}: {finding.detail}" for finding in one.findings]
    return "\n".join(lines)


def repair_policy(policy: RolloutPolicy) -> RolloutPolicy:
    """How targets are repaired: every file is hashed, whatever the target's own record says of it."""
    from hybrid_provider.rollout.policy import Verify

    return replace(policy, verify=Verify.ALL)


class RepairProbe:
    """A probe to which a drifted target is not well before it was switched again.

    A rollout leaves a target alone that has the release, proved, and answers; but files may have been changed
    under a server that has read them long ago.
    """

    def __init__(self, probe: Probe, drifted: Sequence[str]) -> None:
        self._probe = probe
        self._waiting = set(drifted)

    def entered(self, entry: JournalEntry) -> None:
        """A transition of the repair."""
        if entry.target is not None and entry.state is TargetState.ACTIVATING:
            self._waiting.discard(entry.target)

    def told(self, journal: Callable[[JournalEntry], None]) -> Callable[[JournalEntry], None]:
        """The journal, and this probe."""

        def both(entry: JournalEntry) -> None:
            self.entered(entry)
            journal(entry)

        return both

    async def check(self, target: Target, release_id: str) -> Answer:
        """See :meth:`hybrid_provider.rollout.probe.Probe.check`."""
        if target.name in self._waiting:
            return Answer("the audit found it drifted")
        return await self._probe.check(target, release_id)
