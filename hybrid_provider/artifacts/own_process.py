"""How a process that ends with its command keeps its memory: what it gave back, it would only need again."""

from __future__ import annotations

import ctypes
import gc
from contextlib import suppress

# Of glibc's mallopt(3).
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8
_NEVER = (1 << 31) - 1
# Longer than any part of an object; older glibc refuses more.
_LARGEST_KEPT_BYTES = 32 << 20
# More than a command makes before its first byte comes: one look through that takes 11 ms.
_OBJECTS_BETWEEN_LOOKS = 500_000


def tune() -> None:
    """Before anything else is imported.

    What is imported lives to the end: looking for cycles in it took a quarter of a command's start and end.
    And memory of a part of an object went back to the kernel when it was free, to be found and zeroed anew
    for the next part: that was a fifth of the kernel's time in a sync, and of its memory at the peak.
    """
    gc.set_threshold(_OBJECTS_BETWEEN_LOOKS)
    with suppress(OSError, AttributeError):  # another libc
        mallopt = ctypes.CDLL(None).mallopt
        for parameter, value in (
            (_ARENA_MAX, 1),
            (_MMAP_THRESHOLD, _LARGEST_KEPT_BYTES),
            (_TRIM_THRESHOLD, _NEVER),
        ):
            mallopt(parameter, value)


def end() -> None:
    """Last of all: Python looks through everything once more when it ends."""
    gc.freeze()
