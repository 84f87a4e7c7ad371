"""``python -m hybrid_provider.artifacts``: the store of releases without Airflow.

Exit codes: see :mod:`hybrid_provider.artifacts.program`.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from hybrid_provider.artifacts import own_process

if __name__ == "__main__":
    own_process.tune()  # before the imports below, which are most of what a command loads

from hybrid_provider.artifacts.command_line import parser
from hybrid_provider.artifacts.program import run

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; its exit code."""
    return run(parser().parse_args(arguments), interrupted="the store is as it was")


if __name__ == "__main__":
    code = main()
    own_process.end()
    sys.exit(code)
