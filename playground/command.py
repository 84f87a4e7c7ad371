"""How every command of the playground ends: by itself, by a person, or with one line that says why."""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING, NoReturn

from hybrid_provider.emulator.processes import EmulatorError
from playground.airflow_services import AirflowDown

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

# The shells' convention for a command that Ctrl-C ended: 128 + SIGINT.
INTERRUPTED = 130


def run(main: Callable[[], int]) -> NoReturn:
    """Run a command; what it started is stopped before this process ends, whatever ends it."""
    # SIGINT as well: a shell starts background jobs with it ignored.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    try:
        code = main()
    except KeyboardInterrupt:
        sys.stderr.write("Stopped; nothing is left running.\n")
        code = INTERRUPTED
    except (AirflowDown, EmulatorError) as error:
        sys.stderr.write(f"{error}\n")
        code = 1
    sys.exit(code)


def _interrupt(_signal: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt
