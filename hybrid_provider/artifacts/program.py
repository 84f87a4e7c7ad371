"""How a command of this package runs, and how it ends.

Exit codes: 0 done; 1 refused, failed or found damaged; 2 asked for what cannot be right; 75 the same command
may work later; 130 interrupted.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from typing import TYPE_CHECKING

from hybrid_provider.exceptions import ConfigurationError, HybridError

if TYPE_CHECKING:
    import argparse

FAILED = 1
MISUSED = 2
TRY_LATER = os.EX_TEMPFAIL
INTERRUPTED = 130
_OUTPUT_CLOSED = 141


def run(asked: argparse.Namespace, *, interrupted: str) -> int:
    """Run the command that was asked for; its exit code.

    Args:
        asked: With ``command``, a function from these arguments to an
            :class:`~hybrid_provider.artifacts.console.Outcome`, and ``json``.
        interrupted: What a Ctrl-C leaves behind.
    """
    logging.basicConfig(format="%(message)s", stream=sys.stderr)
    logging.getLogger("hybrid_provider").setLevel(logging.WARNING if asked.json else logging.INFO)
    try:
        outcome = asked.command(asked)
        print(json.dumps(outcome.facts, indent=2) if asked.json else outcome.text)  # noqa: T201 - a program's output
        sys.stdout.flush()
    except HybridError as error:
        return _explain(error, as_json=asked.json)
    except BrokenPipeError:
        # Whoever read the output has seen enough; Python would complain of it once more at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _OUTPUT_CLOSED
    except KeyboardInterrupt:
        print(f"interrupted; {interrupted}", file=sys.stderr)  # noqa: T201 - likewise
        return INTERRUPTED
    if outcome.code is not None:
        return int(outcome.code)
    return 0 if outcome.good else FAILED


def _explain(error: HybridError, *, as_json: bool) -> int:
    if as_json:
        said = {"error": type(error).__name__, "message": str(error), "retryable": error.retryable}
        print(json.dumps(said, indent=2))  # noqa: T201 - a program's output
    else:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201 - likewise
    if error.retryable:
        return TRY_LATER
    return MISUSED if isinstance(error, ConfigurationError) else FAILED
