"""What a person sees of a fleet while it moves: a live table on a terminal, else one line a transition."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any, Final, Protocol

from hybrid_provider.rollout.states import FAILURES, SERVING, RolloutState, TargetState

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hybrid_provider.rollout.result import JournalEntry

_WAITING: Final = frozenset({TargetState.PENDING, TargetState.READY, TargetState.VERIFIED})
# Lines of a terminal that are not for targets.
_FRAME: Final = 8


class Watcher(Protocol):
    """Is told of each transition."""

    def entered(self, entry: JournalEntry) -> None:
        """A transition."""

    def close(self) -> None:
        """There are no more."""


def watcher(title: str, names: Sequence[str], *, silent: bool) -> Watcher:
    """A live table on a terminal where ``rich`` is installed, else lines; on standard error."""
    if silent:
        return _Silent()
    # A dumb terminal cannot draw a table anew, and would show nothing until the end.
    if sys.stderr.isatty() and os.environ.get("TERM", "dumb") not in {"dumb", "unknown"}:
        try:
            return _Table(title, names)
        except ImportError:
            pass
    sys.stderr.write(f"{title}\n")
    return _Lines()


def shown_first(names: Sequence[str], states: dict[str, TargetState], room: int) -> list[str]:
    """The names that there is room for: what failed and what moves before what waits and what is well."""

    def rank(name: str) -> int:
        state = states[name]
        return 0 if state in FAILURES else 3 if state in SERVING else 2 if state in _WAITING else 1

    chosen = set(sorted(names, key=rank)[: max(room, 1)])
    return [name for name in names if name in chosen]


class _Silent:
    def entered(self, entry: JournalEntry) -> None:
        """Show nothing."""

    def close(self) -> None:
        """Nothing is open."""


class _Lines:
    def entered(self, entry: JournalEntry) -> None:
        """Write a line."""
        sys.stderr.write(f"{entry}\n")

    def close(self) -> None:
        """Nothing is open."""


class _Table:
    def __init__(self, title: str, names: Sequence[str]) -> None:
        from rich.console import Console
        from rich.live import Live

        self._title = title
        self._names = names
        self._states = dict.fromkeys(names, TargetState.PENDING)
        self._told = dict.fromkeys(names, ("", ""))
        self._whole = f"{RolloutState.PENDING}"
        self._console = Console(stderr=True)
        self._live = Live(self._drawn(), console=self._console, refresh_per_second=8)
        self._live.start()

    def entered(self, entry: JournalEntry) -> None:
        """Draw anew."""
        if entry.target is None:
            self._whole = f"{entry.state}{' - ' if entry.detail else ''}{entry.detail}"
        elif isinstance(entry.state, TargetState):
            self._states[entry.target] = entry.state
            self._told[entry.target] = (f"{entry.seconds:.1f} s", entry.detail)
        self._live.update(self._drawn())

    def close(self) -> None:
        """Leave the table as it is, and give the cursor back."""
        self._live.stop()

    def _drawn(self) -> Any:  # noqa: ANN401 - rich is imported where it is used
        from rich.markup import escape
        from rich.table import Table

        table = Table(title=escape(self._title), caption=escape(self._whole), title_justify="left")
        for head in ("target", "state", "at", ""):
            table.add_column(head, overflow="ellipsis", no_wrap=True)
        shown = shown_first(self._names, self._states, self._console.height - _FRAME)
        for name in shown:
            state, (at, detail) = self._states[name], self._told[name]
            table.add_row(name, f"[{_colour(state)}]{state}[/]", at, escape(detail))
        if left := len(self._names) - len(shown):
            table.add_row(f"and {left} more", "", "", "")
        return table


def _colour(state: TargetState) -> str:
    if state in FAILURES:
        return "red"
    return "green" if state in SERVING else "default" if state in _WAITING else "yellow"
