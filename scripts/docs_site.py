"""What `make docs` adds to mkdocs: pages that are made of the code, and docstrings as Markdown."""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING
from unittest.mock import patch

import griffe

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parent.parent
ROLE = re.compile(r":(?:class|func|mod|meth|exc):`~?([\w.]+)`")
MADE = re.compile(r"^<!-- made: (\w+)(?: (.*?))? -->$", re.MULTILINE)


class MarkdownDocstrings(griffe.Extension):
    """Our docstrings name classes and begin literal blocks as Sphinx does; mkdocstrings reads Markdown."""

    def on_instance(self, *, obj: griffe.Object, **_: object) -> None:
        """Translate one docstring."""
        if obj.docstring is not None:
            text = ROLE.sub(_reference, obj.docstring.value)
            obj.docstring.value = re.sub(
                r"^::\n", "", re.sub(r"(\w)::\n", r"\1:\n", text), flags=re.MULTILINE
            )


def _reference(role: re.Match[str]) -> str:
    """A link where the site has the object, its bare name where not."""
    path = role[1]
    return f'<autoref identifier="{path}" optional><code>{path.rpartition(".")[2]}</code></autoref>'


def on_page_markdown(markdown: str, **_: object) -> str:
    """Put what the code says where a page asks for it."""
    return MADE.sub(lambda asked: MAKERS[asked[1]](*(asked[2] or "").split()), markdown)


def command_help(module: str, *commands: str) -> str:
    """What ``python -m MODULE COMMAND --help`` prints, of each command, and first of the module."""
    main = importlib.import_module(f"{module}.__main__").main
    parts = []
    for command in ([], *([each] for each in commands)):
        title = " ".join(["python -m", module, *command])
        parts.append(f"### `{title}`\n\n```text\n{_printed(main, module, [*command, '--help'])}```\n")
    return "\n".join(parts)


def _printed(main: Callable[[list[str]], object], module: str, arguments: list[str]) -> str:
    printed = io.StringIO()
    with (
        patch.dict(os.environ, {"COLUMNS": "100"}),
        patch.object(sys, "argv", [f"python -m {module}", *arguments]),
        contextlib.redirect_stdout(printed),
        contextlib.suppress(SystemExit),
    ):
        main(arguments)
    return printed.getvalue()


def source(file: str) -> str:
    """A file of the project."""
    return f"```python\n{(ROOT / file).read_text()}```"


def settings() -> str:
    """The options of Airflow's section ``[hybrid]``."""
    from hybrid_provider.get_provider_info import get_provider_info

    options = get_provider_info()["config"]["hybrid"]["options"]
    rows = [
        f"| `{name}` | {option['description']} | `{option['default'] or '(empty)'}` | `{option['example']}` |"
        for name, option in options.items()
    ]
    return "\n".join(["| option | means | default | example |", "|---|---|---|---|", *rows])


def error_tree() -> str:
    """The tree that is drawn at the top of ``exceptions.py``."""
    from hybrid_provider import exceptions

    return "```text\n" + re.search(r"::\n\n(.*?)\n\n``", exceptions.__doc__ or "", re.DOTALL)[1] + "\n```"


def changelog() -> str:
    """CHANGELOG.md without its title, its links as seen from docs/."""
    text = (ROOT / "CHANGELOG.md").read_text().partition("\n")[2]
    return re.sub(r"\]\((?:docs/)?([\w/-]+\.md)", r"](\1", text)


MAKERS = {
    "help": command_help,
    "source": source,
    "settings": settings,
    "error_tree": error_tree,
    "changelog": changelog,
}
