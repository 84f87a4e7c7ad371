"""What AWS would say of a request under an identity's policies, as far as the files of docs/iam go.

AWS documents it as "policy evaluation logic" and "IAM JSON policy elements": an explicit deny wins, then an allow, and what
nothing allows is denied. A key that a request does not have meets no condition, but for the negated ones and ``IfExists``.
Elements that the files do not use are no guess: they raise.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

ELEMENTS = {"Sid", "Effect", "Action", "Resource", "Principal", "Condition"}


@dataclass(frozen=True)
class Request:
    """One call of AWS's API.

    Attributes:
        action: As in ``s3:GetObject``.
        resource: The ARN that it is about.
        context: What is known of it, such as ``aws:SourceVpce``.
        service: Who asks, where it is a service of AWS, for policies with a principal.
    """

    action: str
    resource: str
    context: dict[str, str] = field(default_factory=dict)
    service: str | None = None


def allowed(statements: Iterable[dict[str, Any]], request: Request) -> bool:
    """Whether the request is granted."""
    effects = {each["Effect"] for each in statements if applies(each, request)}
    assert effects <= {"Allow", "Deny"}
    return effects == {"Allow"}


def applies(statement: dict[str, Any], request: Request) -> bool:
    """Whether a statement speaks of the request, and its conditions are met."""
    if unknown := statement.keys() - ELEMENTS:
        raise NotImplementedError(f"{unknown} of a statement")
    actions = many(statement["Action"])
    of_principal = "Principal" not in statement or statement["Principal"] == {"Service": request.service}
    return (
        of_principal
        and any(like(each.lower(), request.action.lower()) for each in actions)
        # A role's trust has no resource but the role.
        and any(like(each, request.resource) for each in many(statement.get("Resource", "*")))
        and all(
            met(operator, key, many(values), request.context)
            for operator, keys in statement.get("Condition", {}).items()
            for key, values in keys.items()
        )
    )


def met(operator: str, key: str, values: list[str], context: dict[str, str]) -> bool:
    """Whether one condition holds; keys know no case, and of several values one is enough, or none may be."""
    given = {name.lower(): value for name, value in context.items()}.get(key.lower())
    if operator == "Null":
        return any((given is None) == (each == "true") for each in values)
    name = operator.removesuffix("IfExists")
    negated = name in {"StringNotEquals", "StringNotLike"}
    if given is None:
        return negated or name != operator
    compare = {"StringEquals": str.__eq__, "StringLike": like, "Bool": same_truth}.get(
        name.replace("Not", "")
    )
    if compare is None:
        raise NotImplementedError(f"{operator} of a condition")
    return any(compare(each, given) for each in values) != negated


def like(pattern: str, text: str) -> bool:
    """With AWS's ``*`` and ``?``; a bracket is only a bracket."""
    expression = re.escape(pattern).replace(r"\*", ".*").replace(r"\?", ".")
    return re.fullmatch(expression, text, flags=re.DOTALL) is not None


def same_truth(asked: str, given: str) -> bool:
    return asked.lower() == given.lower()


def many(value: str | list[str]) -> list[str]:
    """A policy may have one where it may have several."""
    return value if isinstance(value, list) else [value]
