"""What is said about a rollout, and how Slack, an e-mail and a webhook take it; plain values in and out."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from html import escape
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

# A message is to be read on a phone; the page has the rest.
_NAMED: Final = 10
_REASON: Final = 1500
_SERVING: Final = frozenset({"SUCCEEDED", "ALREADY_CURRENT"})
_FAILED: Final = frozenset({"UNREACHABLE", "LOCKED", "FAILED_NO_CHANGE", "REVERTED", "REVERT_FAILED"})
_GOOD: Final = "SUCCEEDED"
_NOUNS: Final = {"deploy": "deploy", "rollback": "rollback", "audit": "audit"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One piece of news.

    Attributes:
        title: In one line, what happened to what.
        good: Whether it is as it should be.
        reason: Why it is not, empty otherwise.
        facts: By name, for the eye and for programs.
        links: By name, URLs.
    """

    title: str
    good: bool
    reason: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)
    links: Mapping[str, str] = field(default_factory=dict)

    def text(self) -> str:
        """In plain text, a line for each thing."""
        lines = [self.title, *self._lines()]
        return "\n".join([*lines, *(f"{name}: {url}" for name, url in self.links.items())])

    def slack_blocks(self) -> list[dict[str, Any]]:
        """In Slack's Block Kit."""
        mark = ":white_check_mark:" if self.good else ":rotating_light:"
        blocks = [_section(f"{mark} *{_slack(self.title)}*")]
        if lines := self._lines():
            blocks.append(_section("\n".join(map(_slack, lines))))
        if self.links:
            links = "  ·  ".join(f"<{url}|{_slack(name)}>" for name, url in self.links.items())
            blocks.append({"type": "context", "elements": [{"type": "mrkdwn", "text": links}]})
        return blocks

    def html(self) -> str:
        """As the body of an e-mail."""
        lines = "".join(f"<p style='white-space: pre-wrap'>{escape(line)}</p>" for line in self._lines())
        links = " · ".join(
            f"<a href='{escape(url, quote=True)}'>{escape(name)}</a>" for name, url in self.links.items()
        )
        return f"<h3>{escape(self.title)}</h3>{lines}<p>{links}</p>"

    def payload(self) -> dict[str, Any]:
        """As JSON for a program."""
        return {
            "title": self.title,
            "good": self.good,
            "reason": self.reason,
            "links": dict(self.links),
            **self.facts,
        }

    def _lines(self) -> list[str]:
        failed = self.facts.get("failed") or {}
        lines = [f"{name}: {state}" for name, state in list(failed.items())[:_NAMED]]
        if len(failed) > _NAMED:
            lines.append(f"and {len(failed) - _NAMED} more")
        return [*lines, self.reason] if self.reason else lines


def of_rollout(row: Mapping[str, Any], reason: str, links: Mapping[str, str]) -> Message:
    """The news of a rollout from its row in the fleet's state."""
    states: Mapping[str, str] = row.get("targets") or {}
    serving = sum(state in _SERVING for state in states.values())
    kind, state = str(row.get("kind")), str(row.get("state"))
    release = f" of {row['release']}" if row.get("release") else ""
    hosts = f"{serving} of {len(states)} hosts done"
    return Message(
        title=f"{row.get('model')}: {_NOUNS.get(kind, kind)}{release} {_worded(state)}, {hosts}",
        good=state == _GOOD,
        reason=reason[:_REASON],
        facts={
            **{
                key: row.get(key)
                for key in ("model", "kind", "rollout", "release", "digest", "state", "seconds")
            },
            "targets": dict(Counter(states.values())),
            "failed": {name: state for name, state in states.items() if state in _FAILED},
            **{key: row.get(key) for key in ("dag_id", "run_id", "task_id")},
        },
        links=links,
    )


def of_task(facts: Mapping[str, Any], state: str, reason: str, links: Mapping[str, str]) -> Message:
    """The news of a task that moved nothing, such as one that failed before its rollout began."""
    return Message(
        title=f"{facts.get('model') or facts.get('dag_id')}: {facts.get('task_id') or 'the run'} {state}",
        good=state == "succeeded",
        reason=reason[:_REASON],
        facts={**facts, "state": state},
        links=links,
    )


def _worded(state: str) -> str:
    return f"ended as {state}" if state != _GOOD else "succeeded"


def _section(text: str) -> dict[str, Any]:
    return {"type": "section", "text": {"type": "mrkdwn", "text": text}}


def _slack(text: str) -> str:
    """Slack's three characters of its own, escaped as its documentation asks."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
