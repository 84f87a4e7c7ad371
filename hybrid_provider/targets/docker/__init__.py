"""Docker Engines as targets: each serves a model from a container of the user's image."""

from hybrid_provider.targets.docker.address import EngineAddress, EngineTls
from hybrid_provider.targets.docker.serving import (
    Healthcheck,
    Layout,
    RegistryLogin,
    Serving,
    Strategy,
)
from hybrid_provider.targets.docker.target import DockerTarget

__all__ = [
    "DockerTarget",
    "EngineAddress",
    "EngineTls",
    "Healthcheck",
    "Layout",
    "RegistryLogin",
    "Serving",
    "Strategy",
]
