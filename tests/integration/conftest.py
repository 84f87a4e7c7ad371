"""What the tests against real servers share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from hybrid_provider.emulator import Emulator

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    """One embedded cloud with two hosts for all tests: use bucket and job names of your own."""
    with Emulator(tmp_path_factory.mktemp("emulator"), hosts=2, model="digits") as running:
        yield running
