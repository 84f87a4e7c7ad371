"""botocore's service models, read once a process: reading them is nearly all that a client costs."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import botocore.loaders
import botocore.session
import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def read_once() -> Iterator[None]:
    """All sessions that are made meanwhile share one loader."""
    loader = botocore.loaders.create_loader()

    def register(session: botocore.session.Session) -> None:
        def found() -> botocore.loaders.Loader:
            # As the one that is replaced does: a profile that is not there is noticed here.
            session.get_config_variable("data_path")
            return loader

        session._components.lazy_register_component("data_loader", found)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(botocore.session.Session, "_register_data_loader", register)
        yield
