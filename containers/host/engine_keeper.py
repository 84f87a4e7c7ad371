"""Cleans up after a host that is a container with an engine's socket, of whose model ``down`` knows nothing.

The host starts it as a container beside the stack, not of it: what kills the stack would kill it too. When
the host is off, the model is off. When the host is removed, all that the engine holds of the model goes, as
a host's disk would with the host; then the keeper ends, and the engine removes it.
"""

from __future__ import annotations

import argparse
import contextlib
from dataclasses import astuple, fields
from pathlib import Path
from typing import Any

from .engine import KEEPER, Engine, Host

# One that crashed is started again by the engine: it has not ended.
ON = {"created", "running", "restarting", "paused"}


def keep(host: Host) -> None:
    """Return once the host is removed and nothing is left of its model, or the engine itself ends."""
    with contextlib.closing(Engine(host, seconds=None)) as listening:
        for _ in listening.events_of_the_host():
            with contextlib.closing(Engine(host)) as engine:
                there = engine.hosts()
                if not there:
                    engine.forget()
                    engine.leave_the_network()
                    return
                if not any(one["State"] in ON for one in there):
                    engine.halt(seconds=0)


def start(host: Host) -> None:
    """Start a keeper with what this container has: its image, its user, and its way to the engine."""
    with contextlib.closing(Engine(host)) as engine:
        made = engine.ask("POST", "/containers/create", body(host, engine.running_host()))
        engine.ask("POST", f"/containers/{made['Id']}/start")


def body(host: Host, own: dict[str, Any]) -> dict[str, object]:
    """The Engine API's description of the keeper, from what it lists of the host's own container."""
    (engine,) = (mount["Source"] for mount in own["Mounts"] if mount["Destination"] == host.socket)
    return {
        "Image": own["ImageID"],
        "Labels": {KEEPER: host.service},
        "User": "edge",
        "Env": ["PYTHONPATH=/opt"],
        "Cmd": ["python3", "-m", "host.engine_keeper", *astuple(host)],
        "HostConfig": {
            "AutoRemove": True,
            "Binds": [f"{engine}:{host.socket}"],
            "GroupAdd": [str(Path(host.socket).stat().st_gid)],
            "NetworkMode": "none",
            "Init": True,
            "Memory": 128 * 2**20,
            "PidsLimit": 32,
            "CapDrop": ["ALL"],
            "SecurityOpt": ["no-new-privileges:true", "label=disable"],
        },
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    for field in fields(Host):
        parser.add_argument(field.name)
    keep(Host(**vars(parser.parse_args())))
