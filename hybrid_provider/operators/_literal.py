"""What Jinja made of a list or a dict."""

from __future__ import annotations

import ast
import json

from hybrid_provider.exceptions import ConfigurationError


def literal(what: str, value: object) -> object:
    """The list or dict whose text a template rendered, parsed and never run; any other value as it is.

    A template gives text unless the DAG sets ``render_template_as_native_obj``.

    Raises:
        ConfigurationError: The text begins as a list or dict and is none.
    """
    if not isinstance(value, str) or not value.strip().startswith(("[", "{", "(")):
        return value.strip() if isinstance(value, str) else value
    for parse in (json.loads, ast.literal_eval):
        try:
            parsed: object = parse(value.strip())
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            continue
        return parsed
    raise ConfigurationError(
        f"{what} is the text {value[:60]!r}, which is no plain list or dict; give the value itself "
        "instead of a template, or set render_template_as_native_obj=True on the DAG"
    )
