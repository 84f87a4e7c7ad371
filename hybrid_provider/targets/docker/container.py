"""The containers of a model as the Engine API's JSON; nothing here asks an engine."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Final

from hybrid_provider.targets.docker.holdings import Role, labels_of, name_of
from hybrid_provider.targets.docker.serving import Strategy

if TYPE_CHECKING:
    from datetime import timedelta

    from hybrid_provider.targets.docker.serving import Healthcheck, Serving

# Serving containers and their router find each other here by name; the engine's default network has no names.
NETWORK: Final = "hybrid"
# Where the proof of a release, with its manifest, is mounted in its serving container.
PROOF_FOLDER: Final = "/hybrid"
# Files come into a release's volume under the first of these, where the tar stream of a release has its own.
STAGE_FOLDER: Final = "/stage"
FILES_FOLDER: Final = "/stage/files"
ROUTER_FOLDER: Final = "/hybrid"
ROUTER_PORT: Final = 8080
_DEFAULT_NETWORK: Final = "bridge"
_NANO: Final = 10**9
# A router's log is only read around a switch; any log driver of the engine's may be one that cannot be read.
_ROUTER_LOG: Final = {"Type": "json-file", "Config": {"max-size": "1m", "max-file": "2"}}

Body = dict[str, object]


def alias_of(container: str) -> str:
    """The name of a serving container in its network: a container's own may be no host name."""
    return f"serving-{hashlib.sha256(container.encode()).hexdigest()[:12]}"


def home_network(serving: Serving) -> str:
    """The network that a serving container is made in."""
    if serving.strategy is Strategy.BLUE_GREEN:
        return NETWORK
    return serving.networks[0] if serving.networks else _DEFAULT_NETWORK


def serving_body(
    serving: Serving, model: str, release_id: str, digest: str, *, name: str, rollout: str, spec: str
) -> Body:
    """A container that serves one release; it does not start by itself before it is committed."""
    own = labels_of(model, Role.SERVING, release=release_id, digest=digest, rollout=rollout, spec=spec)
    port = f"{serving.served_port}/tcp"
    body: Body = {
        "Image": serving.image,
        "Env": _environment(serving, model, release_id, digest),
        "Labels": {**serving.labels, **own},
        "ExposedPorts": {port: {}},
        "HostConfig": _host_config(serving, model, release_id),
    }
    optional = {"Cmd": serving.command, "Entrypoint": serving.entrypoint, "User": serving.user}
    body |= {
        key: list(value) if isinstance(value, tuple) else value for key, value in optional.items() if value
    }
    if serving.healthcheck is not None:
        body["Healthcheck"] = _healthcheck(serving.healthcheck)
    network = home_network(serving)
    if network != _DEFAULT_NETWORK:
        body["NetworkingConfig"] = {"EndpointsConfig": {network: {"Aliases": [alias_of(name)]}}}
    return body


def spec_of(serving: Serving, image_id: str) -> str:
    """What tells two ways of serving apart, whatever the release."""
    body = serving_body(serving, "model", "release", "", name="", rollout="", spec=image_id)
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()[:16]


def loader_body(model: str, image: str, mounts: dict[str, str], *, read_only: bool) -> Body:
    """A container that is never started: files are put into its volumes, and read from them.

    Args:
        model: The model.
        image: Any; nothing of it runs.
        mounts: Folder to volume.
        read_only: Whether files are read only.
    """
    return {
        "Image": image,
        "Cmd": ["none"],
        "Labels": labels_of(model, Role.LOADER),
        "HostConfig": {
            "NetworkMode": "none",
            "Mounts": [_mount(volume, folder, read_only=read_only) for folder, volume in mounts.items()],
        },
    }


def looked_into_body(serving: Serving, model: str) -> Body:
    """A container that is never started: what of its programs a serving container will have is seen in it."""
    return {
        "Image": serving.image,
        "Cmd": ["none"],
        "Env": [f"{key}={value}" for key, value in sorted(serving.env.items())],
        "Labels": labels_of(model, Role.LOADER),
        "HostConfig": {"NetworkMode": "none", "VolumesFrom": serving.host_config.get("VolumesFrom")},
    }


def router_body(serving: Serving, model: str) -> Body:
    """The router of a model."""
    body: Body = {
        "Image": serving.router_image,
        "Entrypoint": ["haproxy"],
        "Cmd": ["-W", "-db", "-f", f"{ROUTER_FOLDER}/haproxy.cfg"],
        "ExposedPorts": {f"{ROUTER_PORT}/tcp": {}},
        "HostConfig": {
            "NetworkMode": NETWORK,
            "PortBindings": _bindings(serving, ROUTER_PORT),
            "RestartPolicy": {"Name": "unless-stopped"},
            "LogConfig": _ROUTER_LOG,
        },
    }
    spec = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()[:16]
    return {**body, "Labels": labels_of(model, Role.ROUTER, spec=spec)}


def _environment(serving: Serving, model: str, release_id: str, digest: str) -> list[str]:
    ours = {"HYBRID_MODEL": model, "HYBRID_RELEASE_ID": release_id, "HYBRID_DIGEST": digest}
    # What TensorFlow Serving's own image calls the folder under /models.
    named = {"MODEL_NAME": model, **serving.env, **ours}
    return [f"{key}={value}" for key, value in sorted(named.items())]


def _host_config(serving: Serving, model: str, release_id: str) -> Body:
    mounted = serving.mounted_at(model, release_id)
    config: Body = {
        **serving.host_config,
        "Mounts": [
            _mount(name_of(model, Role.RELEASE, release_id), mounted, read_only=True),
            _mount(name_of(model, Role.PROOF, release_id), PROOF_FOLDER, read_only=True),
        ],
        "NetworkMode": home_network(serving),
        "RestartPolicy": {"Name": "no"},
    }
    if serving.strategy is Strategy.RECREATE:
        config["PortBindings"] = _bindings(serving, serving.served_port)
    limits: dict[str, object | None] = {
        "Memory": serving.memory_bytes,
        "NanoCpus": round(serving.cpus * _NANO) if serving.cpus else None,
        "ShmSize": serving.shm_bytes,
        "DeviceRequests": [{"Count": serving.gpus, "Capabilities": [["gpu"]]}] if serving.gpus else None,
    }
    return config | {key: value for key, value in limits.items() if value is not None}


def _bindings(serving: Serving, inner_port: int) -> Body:
    return {f"{inner_port}/tcp": [{"HostIp": serving.address, "HostPort": str(serving.port)}]}


def _mount(volume: str, folder: str, *, read_only: bool) -> Body:
    return {
        "Type": "volume",
        "Source": volume,
        "Target": folder,
        "ReadOnly": read_only,
        # An image's own files under the folder must not come into the volume.
        "VolumeOptions": {"NoCopy": True},
    }


def _healthcheck(check: Healthcheck) -> Body:
    return {
        "Test": ["CMD", *check.command],
        "Interval": _nanoseconds(check.interval),
        "Timeout": _nanoseconds(check.timeout),
        "Retries": check.retries,
        "StartPeriod": _nanoseconds(check.start_period),
    }


def _nanoseconds(duration: timedelta) -> int:
    return round(duration.total_seconds() * _NANO)
