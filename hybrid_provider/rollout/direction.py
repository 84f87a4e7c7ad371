"""Which artifacts may go to which targets: an allow-list of directions, outside of any DAG."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from hybrid_provider.artifacts.policy import ArtifactPolicy
from hybrid_provider.exceptions import ArtifactRefused, ConfigurationError

if TYPE_CHECKING:
    from pathlib import Path

EVERY_TARGET: Final = "*"
_KEYS: Final = {"from", "to"}


@dataclass(frozen=True, slots=True)
class Direction:
    """One way that is open.

    Attributes:
        sources: URIs of folders or objects, as ``allowed_sources`` of an
            :class:`~hybrid_provider.artifacts.policy.ArtifactPolicy`.
        groups: Target groups; ``*`` is every target, also one without a group.
    """

    sources: tuple[str, ...]
    groups: frozenset[str]

    def leads_from(self, source: str) -> bool:
        """Whether an artifact at this URI may take it."""
        try:
            ArtifactPolicy(allowed_sources=self.sources).check_source(source)
        except ArtifactRefused:
            return False
        return True

    def leads_to(self, group: str | None) -> bool:
        """Whether it ends at targets of this group."""
        return EVERY_TARGET in self.groups or group in self.groups


@dataclass(frozen=True, slots=True)
class DirectionPolicy:
    """All ways that are open; what no rule names is refused.

    As YAML, a list::

        - from: s3://factory-models/
          to: [hall-1, hall-2]
        - from: [s3://factory-models/pilot/, file:///srv/imports/]
          to: [laboratory]
    """

    directions: tuple[Direction, ...]

    @classmethod
    def of(cls, rules: object) -> DirectionPolicy:
        """A policy from a list of mappings of ``from`` and ``to``, each a text or a list of texts.

        Raises:
            ConfigurationError: It is anything else; an empty list is right, and refuses everything.
        """
        if not isinstance(rules, list):
            raise ConfigurationError(f"direction policy: {rules!r} is no list of rules with 'from' and 'to'")
        return cls(tuple(_direction(number, rule) for number, rule in enumerate(rules, 1)))

    @classmethod
    def read(cls, path: Path) -> DirectionPolicy:
        """The policy in a YAML file.

        Raises:
            ConfigurationError: It cannot be read, or is no policy.
        """
        import yaml

        try:
            rules = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise ConfigurationError(
                f"direction policy {path} cannot be read, so nothing may go anywhere: {error}"
            ) from None
        return cls.of(rules)

    def check(self, source: str | None, groups: Mapping[str, str | None]) -> None:
        """Whether an artifact may go to all of these targets.

        Args:
            source: Its URI; ``file://`` and the path for what was imported. None is from nowhere known.
            groups: Each target's name, and its group.

        Raises:
            ConfigurationError: No rule leads to one of them; the message names all such targets.
        """
        ways = [way for way in self.directions if source is not None and way.leads_from(source)]
        closed = [name for name, group in groups.items() if not any(way.leads_to(group) for way in ways)]
        if closed:
            named = ", ".join(f"{name} (group {groups[name] or 'none'})" for name in closed)
            raise ConfigurationError(
                f"no rule of the direction policy leads from {source or 'an unknown source'} to {named}; "
                "nothing was sent. Whoever keeps the policy may add one"
            )


def _direction(number: int, rule: object) -> Direction:
    if not isinstance(rule, Mapping) or rule.keys() != _KEYS:
        raise ConfigurationError(
            f"direction policy: rule {number} is {rule!r}; give 'from' and 'to', no more"
        )
    sources, groups = (_texts(number, key, rule[key]) for key in ("from", "to"))
    try:
        # A source that is no URI would else be found only when the first artifact is held against it.
        for source in sources:
            ArtifactPolicy(allowed_sources=(source,))
    except ConfigurationError as error:
        raise ConfigurationError(f"direction policy: rule {number}: {error}") from None
    return Direction(sources, frozenset(groups))


def _texts(number: int, key: str, value: object) -> tuple[str, ...]:
    texts = (value,) if isinstance(value, str) else value
    if (
        not isinstance(texts, list | tuple)
        or not texts
        or not all(isinstance(text, str) and text for text in texts)
    ):
        raise ConfigurationError(
            f"direction policy: rule {number}: {key!r} is {value!r}; give a text or a list of texts"
        )
    return tuple(texts)
