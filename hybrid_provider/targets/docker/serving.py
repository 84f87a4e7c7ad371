"""How a model is served on an engine: the image, its container, and how one release gives way to the next."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import timedelta
from enum import StrEnum
from typing import Final

from hybrid_provider.exceptions import ConfigurationError

_IMAGE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@-]{0,510}")
_FOLDER: Final = re.compile(r"(/[A-Za-z0-9._@+-]+)+")
_PATH: Final = re.compile(r"/[A-Za-z0-9._~=&:@%/?+,-]*")
_ADDRESS: Final = re.compile(r"[0-9A-Fa-f.:]*")
_MAX_PORT: Final = 65535
# Set by us on each container; a setting of the user's would undo what a rollout relies on.
_OURS: Final = frozenset({"Mounts", "PortBindings", "NetworkMode", "RestartPolicy", "AutoRemove", "Binds"})


class Layout(StrEnum):
    """Where an image looks for its model, and how it is asked whether it is ready.

    ``sagemaker``: ``/opt/ml/model``, ``GET /ping``, port 8080. ``tensorflow_serving``:
    ``/models/<model>/<integer version>``, ``GET /v1/models/<model>``, port 8501. ``plain``: ``/model``, a
    connection to port 8080.
    """

    SAGEMAKER = "sagemaker"
    TENSORFLOW_SERVING = "tensorflow_serving"
    PLAIN = "plain"


class Strategy(StrEnum):
    """How one release gives way to the next.

    ``recreate``: the old container stops, the new one starts on the same port; a short gap. ``blue_green``:
    both run behind a small router, which takes requests from one to the other; no gap, and twice the memory
    for as long as a release is being proved.
    """

    RECREATE = "recreate"
    BLUE_GREEN = "blue_green"


_FOLDERS: Final = {Layout.SAGEMAKER: "/opt/ml/model", Layout.PLAIN: "/model"}
_PORTS: Final = {Layout.SAGEMAKER: 8080, Layout.TENSORFLOW_SERVING: 8501, Layout.PLAIN: 8080}


@dataclass(frozen=True, slots=True, kw_only=True)
class Healthcheck:
    """Docker's own check of a container, in place of the image's.

    Attributes:
        command: A program and its arguments in the container; ends with 0 when it is healthy.
        interval: Between two checks.
        timeout: Of one.
        retries: As many failures in a row make it unhealthy.
        start_period: How long failures do not count after the start.
    """

    command: tuple[str, ...]
    interval: timedelta = timedelta(seconds=1)
    timeout: timedelta = timedelta(seconds=5)
    retries: int = 3
    start_period: timedelta = timedelta(seconds=60)


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistryLogin:
    """Credentials for pulling images, as an Airflow connection of type ``docker`` holds them."""

    server: str
    username: str
    password: str = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class Serving:
    """A model's serving container.

    Attributes:
        image: What serves the model; by digest (``registry/name@sha256:…``) all engines run the same bytes.
            Pulled only where it is not there.
        layout: Where it looks for the model.
        strategy: How one release gives way to the next.
        port: On the engine's host.
        address: Of the host that the port is opened on; empty is all of them.
        container_port: Where the image listens; None is the layout's.
        folder: Where the release is mounted, read-only; None is the layout's.
        bind_from: A folder of the engine's host, such as ``/srv/models``, into which a target over SSH or on
            the machine itself brings the same releases; they are verified and mounted from there, and no
            byte travels. None brings each into a volume of its own.
        ready_path: What the router asks a new container before it gives it requests; None is the layout's,
            and empty asks for a connection only.
        router_image: For ``blue_green``: an image with HAProxy 2.4 or newer on its PATH.
        command: In place of the image's.
        entrypoint: In place of the image's.
        env: Further variables; ``HYBRID_MODEL``, ``HYBRID_RELEASE_ID`` and ``HYBRID_DIGEST`` are set by us.
        user: In place of the image's.
        labels: Further labels of the container.
        networks: Networks of the engine that the container joins.
        memory_bytes: At most.
        cpus: At most.
        gpus: How many, or all of them for -1.
        shm_bytes: Of ``/dev/shm``, which PyTorch's loaders fill.
        healthcheck: In place of the image's.
        host_config: Further settings of the Engine API's ``HostConfig``, such as ``{"CapDrop": ["ALL"]}``.
    """

    image: str
    layout: Layout = Layout.SAGEMAKER
    strategy: Strategy = Strategy.RECREATE
    port: int = 8080
    address: str = ""
    container_port: int | None = None
    folder: str | None = None
    bind_from: str | None = None
    ready_path: str | None = None
    router_image: str | None = None
    command: tuple[str, ...] | None = None
    entrypoint: tuple[str, ...] | None = None
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    user: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    networks: tuple[str, ...] = ()
    memory_bytes: int | None = None
    cpus: float | None = None
    gpus: int = 0
    shm_bytes: int | None = None
    healthcheck: Healthcheck | None = None
    host_config: Mapping[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if faults := [*_name_faults(self), *_number_faults(self)]:
            raise ConfigurationError(f"serving image {self.image!r}: {'; '.join(faults)}")

    @classmethod
    def of(cls, settings: Serving | Mapping[str, object]) -> Serving:
        """From itself, or from a mapping as JSON and YAML have it, durations in seconds.

        Raises:
            ConfigurationError: What is wrong with it.
        """
        if isinstance(settings, cls):
            return settings
        if not isinstance(settings, Mapping) or not isinstance(settings.get("image"), str):
            raise ConfigurationError(f"serving is {settings!r}; give a Serving, or a mapping with an image")
        return cls(**_settings(cls, "serving", settings))  # type: ignore[arg-type]

    @property
    def served_port(self) -> int:
        """Where the container listens."""
        return self.container_port or _PORTS[self.layout]

    def mounted_at(self, model: str, release_id: str) -> str:
        """The folder in the container that holds the release's files."""
        if self.layout is Layout.TENSORFLOW_SERVING:
            return f"{self.folder or '/models'}/{model}/{version_of(release_id)}"
        return self.folder or _FOLDERS[self.layout]

    def brought_to(self, model: str, release_id: str) -> str | None:
        """The folder of the engine's host that another target brings a release into; None brings it here."""
        return f"{self.bind_from}/{model}/releases/{release_id}" if self.bind_from else None

    def asked_for_readiness(self, model: str) -> str:
        """The path of the router's check; empty where a connection is enough."""
        if self.ready_path is not None:
            return self.ready_path
        paths = {Layout.SAGEMAKER: "/ping", Layout.TENSORFLOW_SERVING: f"/v1/models/{model}"}
        return paths.get(self.layout, "")


def merged(fleet: object, own: object) -> Serving | Mapping[str, object] | None:
    """One engine's settings over those of its fleet; None where neither says anything.

    Raises:
        ConfigurationError: One of them is no serving.
    """
    for given in (fleet, own):
        if given is not None and not isinstance(given, Serving | Mapping):
            raise ConfigurationError(f"serving is {given!r}; give a Serving, or a mapping with an image")
    if own is None or isinstance(own, Serving) or fleet is None:
        return own if own is not None else fleet  # type: ignore[return-value]
    if isinstance(fleet, Serving):
        return replace(fleet, **_settings(Serving, "serving", own))  # type: ignore[arg-type]
    return {**fleet, **own}  # type: ignore[dict-item]


def version_of(release_id: str) -> int:
    """TensorFlow Serving's integer version: a release's date, 20261123184600."""
    digits = re.sub(r"[^0-9]", "", release_id.partition("-")[0])
    return int(digits[:18] or 1)


def _settings(kind: type, what: str, given: Mapping[str, object]) -> dict[str, object]:
    known = {each.name for each in fields(kind)}
    if unknown := sorted(map(str, given.keys() - known)):
        names = ", ".join(sorted(known))
        raise ConfigurationError(f"{what}: no setting is called {', '.join(unknown)}; there are {names}")
    return {name: _plain(name, value) for name, value in given.items()}


def _plain(name: str, value: object) -> object:
    """A value of JSON as the dataclass has it; what does not fit is left for the check to name."""
    if isinstance(value, list):
        return tuple(value)
    if name == "layout" and value in set(Layout):
        return Layout(str(value))
    if name == "strategy" and value in set(Strategy):
        return Strategy(str(value))
    if name == "healthcheck" and isinstance(value, Mapping):
        return Healthcheck(**_settings(Healthcheck, name, value))  # type: ignore[arg-type]
    if name in {"interval", "timeout", "start_period"} and isinstance(value, int | float):
        return timedelta(seconds=value)
    return value


def _name_faults(serving: Serving) -> list[str]:
    faults = []
    if not _IMAGE.fullmatch(serving.image):
        faults.append("an image is called like registry.example/models/server@sha256:…")
    if serving.layout not in set(Layout):
        faults.append(f"layout {serving.layout!r}: give one of {', '.join(Layout)}")
    if serving.strategy not in set(Strategy):
        faults.append(f"strategy {serving.strategy!r}: give one of {', '.join(Strategy)}")
    for name, example in (("folder", "/opt/ml/model"), ("bind_from", "/srv/models")):
        folder = getattr(serving, name)
        if folder is not None and (not _FOLDER.fullmatch(folder) or ".." in folder):
            faults.append(f"{name} {folder!r}: give an absolute path such as {example}")
    if serving.ready_path and not _PATH.fullmatch(serving.ready_path):
        faults.append(f"ready_path {serving.ready_path!r}: it begins with '/', without spaces and quotes")
    if not _ADDRESS.fullmatch(serving.address):
        faults.append(f"address {serving.address!r}: give an IP address of the host, or nothing for all")
    if serving.strategy == Strategy.BLUE_GREEN and not _IMAGE.fullmatch(serving.router_image or ""):
        faults.append("blue_green needs a router_image, an image with HAProxy 2.4 or newer")
    if ours := sorted(_OURS & serving.host_config.keys()):
        faults.append(f"host_config: {', '.join(ours)} is set by the rollout")
    return faults


def _number_faults(serving: Serving) -> list[str]:
    faults = []
    for name, port in (("port", serving.port), ("container_port", serving.container_port)):
        if port is not None and not (isinstance(port, int) and 0 < port <= _MAX_PORT):
            faults.append(f"{name} {port!r}: give a number from 1 to {_MAX_PORT}")
    for name in ("memory_bytes", "cpus", "shm_bytes"):
        amount = getattr(serving, name)
        if amount is not None and not (isinstance(amount, int | float) and amount > 0):
            faults.append(f"{name} {amount!r}: give a number above 0")
    return faults
