"""The code blocks of README.md and of every page of the documentation."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = sorted(path.relative_to(ROOT) for path in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
BLOCK = re.compile(
    r"(?:<!-- no-run: (.*?) -->\n)?^```(\S*)[^\n]*\n(.*?)^```$", flags=re.DOTALL | re.MULTILINE
)
# Each is run or read; `text` alone is neither, for pictures and trees.
LANGUAGES = {"sh", "python", "yaml", "json", "ini", "authorized_keys", "sshd_config", "text"}


@dataclass(frozen=True)
class Block:
    """One fenced block.

    Attributes:
        line: Of its first line of code.
        language: What stands behind its fence.
        code: Its text.
        no_run: Why it is not run; None if it is.
    """

    line: int
    language: str
    code: str
    no_run: str | None


def blocks_of(page: Path) -> list[Block]:
    """The blocks of a page."""
    text = (ROOT / page).read_text()
    return [
        Block(text.count("\n", 0, found.start(3)) + 1, found[2], found[3], found[1])
        for found in BLOCK.finditer(text)
    ]
