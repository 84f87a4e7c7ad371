"""Puts what goes live into a store's evidence."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from hybrid_provider.rollout.states import TargetState

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hybrid_provider.evidence.chain import EvidenceChain
    from hybrid_provider.rollout.result import JournalEntry

_ENDS: Final = frozenset({TargetState.SUCCEEDED, TargetState.REVERTED, TargetState.REVERT_FAILED})


class Activations:
    """A rollout's journal that writes each activation into the evidence, before it begins and at its end.

    Args:
        chain: Of the store that the release is in.
        facts: What is the same in all entries: model, rollout, who asked, who approved.
    """

    def __init__(self, chain: EvidenceChain, facts: Mapping[str, object]) -> None:
        self._chain = chain
        self._facts = facts
        self._activating: dict[str, str] = {}

    def __call__(self, entry: JournalEntry) -> None:
        """Take one transition.

        Raises:
            StoreError: The evidence cannot be written; where a target was to be switched, it is not.
        """
        if entry.target is None:
            return
        if entry.state is TargetState.ACTIVATING:
            self._activating[entry.target] = entry.detail
            self._append("activation", entry.target, release=entry.detail)
        elif entry.state in _ENDS and (release := self._activating.pop(entry.target, None)):
            self._append("activated", entry.target, release=release, state=entry.state, reason=entry.detail)

    def _append(self, kind: str, target: str, **facts: str) -> None:
        told = {name: str(fact) for name, fact in facts.items() if fact}
        self._chain.append(kind, {**self._facts, "target": target, **told})
