"""The embedded cloud and hosts: for trying, developing and testing without an account.

What is exported is imported on first use, so that the programs of this package that run alone start fast.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hybrid_provider.emulator.emulator import Emulator
    from hybrid_provider.emulator.hosts import EmulatedHost

__all__ = ["EmulatedHost", "Emulator"]


def __getattr__(name: str) -> type[Emulator | EmulatedHost]:
    if name == "Emulator":
        from hybrid_provider.emulator.emulator import Emulator

        return Emulator
    if name == "EmulatedHost":
        from hybrid_provider.emulator.hosts import EmulatedHost

        return EmulatedHost
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
