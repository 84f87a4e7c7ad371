"""What the tests of Docker targets share."""

from __future__ import annotations

import itertools
import os

import pytest

from hybrid_provider.targets.docker import DockerTarget, Serving
from tests.images import SERVER
from tests.releases import make_release
from tests.servers import free_port

numbers = itertools.count(1)


@pytest.fixture
def model(docker):
    """A model of this test's own; nothing of it is left on the engine."""
    name = f"model-{next(numbers)}"
    yield name
    docker.clear(name)


@pytest.fixture
def target(docker):
    """A target that serves at a port of its own, one container after the other."""
    serving = Serving(image=SERVER, address="127.0.0.1", port=free_port())
    return DockerTarget(name="edge", address=docker.address, serving=serving)


@pytest.fixture
def releases(tmp_path, model):
    """Five releases, each newer than the one before."""
    return [
        make_release(tmp_path / "store", {"answer": b"%d" % minute, "w": os.urandom(9)}, minute, model)
        for minute in range(5)
    ]
