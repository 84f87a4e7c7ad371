"""Golden inference: fixed inputs go in, and the outputs must be what they were when the model was made.

A release may carry its own cases as ``golden.json``, which training writes beside the model::

    {
      "format": "hybrid-golden/1",
      "path": "/invocations",
      "content_type": "application/json",
      "relative_tolerance": 1e-4,
      "absolute_tolerance": 1e-6,
      "cases": [
        {"name": "a seven", "input": {"instances": [[0, 1]]}, "expected": {"predictions": [7]}},
        {"name": "as CSV", "input_text": "0,1", "content_type": "text/csv", "expected": [7]}
      ]
    }

Only ``format`` and ``cases`` must be there. What ``expected`` does not name is not compared; numbers may
differ by the tolerances, as in ``math.isclose``; lists have the same length.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from hybrid_provider.exceptions import ConfigurationError
from hybrid_provider.rollout.http import MAX_BODY_BYTES, NoAnswer, Request
from hybrid_provider.rollout.probe import Answer, HttpProbe

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hybrid_provider.artifacts.release import Release
    from hybrid_provider.targets.target import Target

GOLDEN_FILE: Final = "golden.json"
FORMAT: Final = "hybrid-golden/1"
_PATH: Final = "/invocations"
_CONTENT_TYPE: Final = "application/json"
_RELATIVE, _ABSOLUTE = 1e-4, 1e-6
_OK: Final = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class GoldenCase:
    """One input and what must come out."""

    name: str
    path: str
    body: str
    content_type: str
    expected: object
    relative_tolerance: float
    absolute_tolerance: float


def read_cases(text: str, source: str) -> tuple[GoldenCase, ...]:
    """The cases of a golden file.

    Raises:
        ConfigurationError: It is none; says what is wrong, and where.
    """
    try:
        given = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"{source}: no JSON: {error}") from None
    if not isinstance(given, Mapping) or given.get("format") != FORMAT:
        raise ConfigurationError(f'{source}: it begins with {{"format": "{FORMAT}", "cases": […]}}')
    cases = given.get("cases")
    if not isinstance(cases, list) or not cases:
        raise ConfigurationError(f"{source}: cases is {cases!r}; give a list of at least one")
    return tuple(_case(number, case, given, source) for number, case in enumerate(cases, 1))


def _case(number: int, case: object, common: Mapping[str, Any], source: str) -> GoldenCase:
    where = f"{source}: case {number}"
    if not isinstance(case, Mapping) or "expected" not in case:
        raise ConfigurationError(f"{where}: it has no expected")
    if ("input" in case) == ("input_text" in case):
        raise ConfigurationError(f"{where}: give input, which is sent as JSON, or input_text, sent as it is")
    settings = {**common, **case}
    body = str(case["input_text"]) if "input_text" in case else json.dumps(case["input"])
    tolerances = [
        settings.get(name, default)
        for name, default in (("relative_tolerance", _RELATIVE), ("absolute_tolerance", _ABSOLUTE))
    ]
    if not all(_is_number(value) and 0 <= value < math.inf for value in tolerances):
        raise ConfigurationError(f"{where}: a tolerance is a number from 0")
    path = str(settings.get("path", _PATH))
    if not path.startswith("/"):
        raise ConfigurationError(f"{where}: path {path!r} begins with '/'")
    return GoldenCase(
        name=str(case.get("name", number)),
        path=path,
        body=body,
        content_type=str(settings.get("content_type", _CONTENT_TYPE)),
        expected=case["expected"],
        relative_tolerance=float(tolerances[0]),
        absolute_tolerance=float(tolerances[1]),
    )


@dataclass(frozen=True, kw_only=True)
class GoldenProbe:
    """The release answers, and to the golden inputs as it did when it was made.

    First ``ping`` must be healthy, which proves the release; then each case is sent. A release without cases,
    such as the one before that a target goes back to, is proved by ``ping`` alone.

    Attributes:
        file: A golden file on the worker, for the release that is deployed; None: the one that the release
            carries, ``golden.json``.
        ping: What is asked first, and where: its host, port and ``on_host`` are those of the cases too.
        cases: By release id; :meth:`bound` fills them in.
    """

    file: str | None = None
    ping: HttpProbe = field(default_factory=HttpProbe)
    cases: Mapping[str, tuple[GoldenCase, ...]] = field(default_factory=dict)

    def bound(self, release: Release) -> GoldenProbe:
        """This probe with the cases of the release that is deployed.

        Raises:
            ConfigurationError: There are none, or they cannot be read.
        """
        source = Path(self.file) if self.file else release.path / GOLDEN_FILE
        try:
            text = source.read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise ConfigurationError(
                f"golden probe: {source}: {reason}; let training write {GOLDEN_FILE} into the model, or give "
                "file"
            ) from None
        cases = read_cases(text, str(source))
        long = [case.name for case in cases if len(case.body.encode()) > MAX_BODY_BYTES]
        if long and self.ping.on_host:
            raise ConfigurationError(
                f"golden probe: {source}: case {long[0]} has more than {MAX_BODY_BYTES} bytes, "
                "too many to be sent on the host; make it smaller, or leave on_host out"
            )
        return GoldenProbe(file=self.file, ping=self.ping, cases={**self.cases, release.release_id: cases})

    @property
    def programs(self) -> tuple[str, ...]:
        """See :func:`hybrid_provider.rollout.probe.programs_of`."""
        return self.ping.programs

    async def check(self, target: Target, release_id: str) -> Answer:
        """See :meth:`hybrid_provider.rollout.probe.Probe.check`."""
        answer = await self.ping.check(target, release_id)
        for case in self.cases.get(release_id, ()):
            if not answer.healthy:
                return answer
            answer = Answer(await self._fault(target, release_id, case))
        return answer

    async def _fault(self, target: Target, release_id: str, case: GoldenCase) -> str:
        headers = {"Content-Type": case.content_type, "Accept": _CONTENT_TYPE}
        url = self.ping.url_of(target, case.path)
        try:
            response = await self.ping.ask(
                target, Request(url=url, method="POST", body=case.body, headers=headers)
            )
        except NoAnswer as error:
            return f"golden case {case.name}: {error}"
        if response.status != _OK:
            return f"golden case {case.name}: {url}: HTTP {response.status}"
        served = response.headers.get((self.ping.release_header or "").lower(), release_id)
        if served != release_id:
            return f"golden case {case.name}: release {served[:80]!r} answers, not {release_id}"
        try:
            answered = json.loads(response.body)
        except (ValueError, RecursionError):
            return f"golden case {case.name}: the answer is no JSON: {response.body[:80]!r}"
        difference = next(differences(case.expected, answered, case), "")
        return f"golden case {case.name}: {difference}" if difference else ""


def differences(expected: object, found: object, case: GoldenCase, at: str = "$") -> Iterator[str]:
    """Where the answer is not what it must be."""
    if isinstance(expected, Mapping):
        if not isinstance(found, Mapping):
            yield f"{at} is {_short(found)}, no object"
            return
        for name, value in expected.items():
            if name not in found:
                yield f"{at} has no {name}"
            else:
                yield from differences(value, found[name], case, f"{at}.{name}")
    elif isinstance(expected, Sequence) and not isinstance(expected, str):
        if not isinstance(found, Sequence) or isinstance(found, str) or len(found) != len(expected):
            yield f"{at} is {_short(found)}, expected a list of {len(expected)}"
            return
        for index, value in enumerate(expected):
            yield from differences(value, found[index], case, f"{at}[{index}]")
    elif not _same(expected, found, case):
        yield f"{at} is {_short(found)}, expected {_short(expected)}"


def _same(expected: object, found: object, case: GoldenCase) -> bool:
    if _is_number(expected) and _is_number(found):
        try:
            one, other = float(expected), float(found)  # type: ignore[arg-type]
        except OverflowError:
            # JSON's numbers have no end.
            return expected == found
        return (math.isnan(one) and math.isnan(other)) or math.isclose(
            one, other, rel_tol=case.relative_tolerance, abs_tol=case.absolute_tolerance
        )
    return type(expected) is type(found) and expected == found


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _short(found: object) -> str:
    text = json.dumps(found)
    return text if len(text) <= 80 else f"{text[:80]}…"  # noqa: PLR2004 - a line of a log
