"""The Docker Engine behind the demo's edge-03: what it holds of the model, and what becomes of that.

All of it is found by labels: what is of the model by those of a rollout, the host itself by those of compose.
"""

from __future__ import annotations

import http.client
import json
import socket
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

if TYPE_CHECKING:
    from collections.abc import Iterator

KEEPER = "hybrid.keeper"
# An engine gives it as the start of a container that never was.
NEVER = "0001"


@dataclass(frozen=True)
class Host:
    """One host of the demo, as its engine knows it.

    Attributes:
        socket: Of the engine.
        model: The one that it serves.
        project: Compose's name of the stack.
        service: Compose's name of the host.
        network: That it is in, and its model's containers.
    """

    socket: str
    model: str
    project: str
    service: str
    network: str


class Engine(http.client.HTTPConnection):
    """One connection to the engine's socket."""

    def __init__(self, host: Host, *, seconds: float | None = 30) -> None:
        super().__init__("engine", timeout=seconds)
        self._host = host

    def connect(self) -> None:
        """To the socket, where the base class would go to a port."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._host.socket)

    def ask(self, method: str, path: str, body: object = None, **query: str) -> Any:  # noqa: ANN401 - JSON
        """One request; None where the answer is empty or an error, which the log has."""
        sent, headers = (
            (None, {}) if body is None else (json.dumps(body), {"Content-Type": "application/json"})
        )
        self.request(method, f"{path}?{urlencode(query)}", sent, headers)
        with self.getresponse() as answer:
            text = answer.read().decode()
        if answer.status >= http.client.BAD_REQUEST:
            print(f"{method} {path}: {answer.status} {text.strip()}", file=sys.stderr, flush=True)
            return None
        return json.loads(text) if text else None

    def containers(self, *labels: str, **filters: list[str]) -> list[dict[str, Any]]:
        """The containers with these labels, ended ones included."""
        wanted = json.dumps({**filters, "label": list(labels)})
        return list(self.ask("GET", "/containers/json", all="true", filters=wanted) or [])

    def of_the_model(self, *labels: str, **filters: list[str]) -> list[dict[str, Any]]:
        """The model's containers."""
        return self.containers(f"hybrid.model={self._host.model}", *labels, **filters)

    def volumes(self) -> list[str]:
        """The names of the model's volumes."""
        labelled = json.dumps({"label": [f"hybrid.model={self._host.model}"]})
        told = self.ask("GET", "/volumes", filters=labelled) or {}
        return [volume["Name"] for volume in told.get("Volumes") or []]

    def hosts(self) -> list[dict[str, Any]]:
        """The host's own container: none once it is removed, two while compose replaces it."""
        return self.containers(*self._labels_of_the_host())

    def running_host(self) -> dict[str, Any]:
        """The host's own container, as whoever runs in it may ask."""
        return next(one for one in self.hosts() if one["State"] == "running")

    def keepers(self) -> list[dict[str, Any]]:
        """The containers that clean up after the host."""
        return self.containers(f"{KEEPER}={self._host.service}")

    def halt(self, *, seconds: int) -> None:
        """Stop what runs of the model, as the host's own end would, and hold its network no longer."""
        for container in self.of_the_model(status=["running"]):
            self.ask("POST", f"/containers/{container['Id']}/stop", t=str(seconds))

    def boot(self) -> None:
        """Let the model be served again by the container that did so last."""
        serving = self.of_the_model("hybrid.role=serving")
        if any(one["State"] == "running" for one in serving):
            return
        told = [self.ask("GET", f"/containers/{one['Id']}/json") for one in serving]
        started = {one["State"]["StartedAt"]: one["Id"] for one in told if one}
        if started and not (last := max(started)).startswith(NEVER):
            self.ask("POST", f"/containers/{started[last]}/start")

    def forget(self) -> None:
        """Remove all of the model."""
        for container in self.of_the_model():
            self.remove(container)
        for name in self.volumes():
            self.ask("DELETE", f"/volumes/{quote(name, safe='')}", force="true")

    def leave_the_network(self) -> None:
        """Remove the host's network, if all else of the stack went before the model had left it."""
        if not self.containers(*self._labels_of(project=self._host.project)):
            self.ask("DELETE", f"/networks/{self._host.network}")

    def remove(self, container: dict[str, Any]) -> None:
        """Remove a container, also one that runs."""
        self.ask("DELETE", f"/containers/{container['Id']}", force="true", v="true")

    def events_of_the_host(self) -> Iterator[None]:
        """First once it is listened, then whenever the host's container ends or is removed, without end."""
        wanted = {"type": ["container"], "event": ["die", "destroy"], "label": self._labels_of_the_host()}
        self.request("GET", f"/events?{urlencode({'filters': json.dumps(wanted)})}")
        with self.getresponse() as events:
            yield
            while events.readline():
                yield

    def _labels_of_the_host(self) -> list[str]:
        return self._labels_of(project=self._host.project, service=self._host.service)

    @staticmethod
    def _labels_of(**own: str) -> list[str]:
        # An image that compose built is labelled too, and so is whatever else runs it; but not with the last.
        return [f"com.docker.compose.{key}={value}" for key, value in {**own, "oneoff": "False"}.items()]
