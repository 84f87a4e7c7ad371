"""``python -m hybrid_provider.evidence``: read and prove the record of a store.

Exit codes: 0 proved; 1 broken, or not readable; 2 asked for what cannot be right.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING

from hybrid_provider.evidence.chain import EvidenceChain, Head
from hybrid_provider.exceptions import ConfigurationError, HybridError

if TYPE_CHECKING:
    from collections.abc import Sequence

STORE_VARIABLE = "AIRFLOW__HYBRID__STORE_ROOT"
_DEFAULT_STORE = "/var/lib/hybrid/store"
FAILED = 1
MISUSED = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; its exit code."""
    asked = _parser().parse_args(arguments)
    chain = EvidenceChain(asked.store)
    try:
        if not asked.store.is_dir():
            # A misspelt path must not pass for a sound record.
            raise ConfigurationError(f"there is no folder {asked.store}; name the store's root by --store")
        for line in asked.command(chain, asked):
            print(line)  # noqa: T201 - a program's output
    except HybridError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201 - likewise
        return MISUSED if isinstance(error, ConfigurationError) else FAILED
    return 0


def _parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="python -m hybrid_provider.evidence",
        description="The record of what was brought to this site and what went live.",
    )
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    verify = commands.add_parser(
        "verify", help="read the whole record and prove that nothing of it was changed, removed or moved"
    )
    verify.add_argument(
        "--head",
        action="append",
        default=[],
        help="LENGTH:SHA256 as it was kept elsewhere (each asset event has one); shows that no end was cut",
    )
    verify.set_defaults(command=_verify)
    show = commands.add_parser("show", help="print the newest entries, each proved, one JSON a line")
    show.add_argument("--last", type=int, default=20, metavar="N", help="how many (20)")
    show.set_defaults(command=_show)
    head = commands.add_parser("head", help="print LENGTH:SHA256 as it is now, to be kept elsewhere")
    head.set_defaults(command=lambda chain, _asked: [str(chain.head())])
    for command in (verify, show, head):
        command.add_argument(
            "--store",
            type=Path,
            default=Path(os.environ.get(STORE_VARIABLE) or _DEFAULT_STORE),
            help=f"the folder of releases (${STORE_VARIABLE}, or {_DEFAULT_STORE})",
        )
    return top


def _verify(chain: EvidenceChain, asked: argparse.Namespace) -> list[str]:
    heads = [Head.parse(text) for text in asked.head]
    found = chain.verify(*heads)
    if not heads:
        return [
            f"{chain.path}: {found.length} entries, each follows the one before it; head {found}",
            "No --head was given, so nothing shows that its end is still there",
        ]
    return [f"{chain.path}: {found.length} entries, whole, and {len(heads)} heads are in it; head {found}"]


def _show(chain: EvidenceChain, asked: argparse.Namespace) -> list[str]:
    entries = deque(chain.entries(), maxlen=max(0, asked.last))
    return [
        json.dumps({"n": entry.number, "at": entry.at.isoformat(), "kind": entry.kind, **entry.facts})
        for entry in entries
    ]


if __name__ == "__main__":
    sys.exit(main())
