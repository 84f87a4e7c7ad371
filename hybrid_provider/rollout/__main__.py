"""``python -m hybrid_provider.rollout``: fleets without Airflow.

Exit codes: see :mod:`hybrid_provider.artifacts.program`.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from hybrid_provider.artifacts.program import run
from hybrid_provider.rollout.command_line import parser

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; its exit code."""
    return run(parser().parse_args(arguments), interrupted="every target is on one whole release")


if __name__ == "__main__":
    sys.exit(main())
