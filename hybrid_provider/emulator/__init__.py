"""The embedded cloud and hosts: for trying, developing and testing without an account.

``Emulator`` is imported on first use, so that the programs of this package that run alone start fast.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hybrid_provider.emulator.emulator import Emulator

__all__ = ["Emulator"]


def __getattr__(name: str) -> type[Emulator]:
    if name == "Emulator":
        from hybrid_provider.emulator.emulator import Emulator

        return Emulator
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
