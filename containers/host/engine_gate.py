"""Makes a container with a Docker Engine's socket a host of that engine: its two ports, and an end.

The engine's port speaks mutual TLS, as dockerd's own does on 2376: nobody gets a byte through without a
certificate that the site's authority signed. Connections to the model's port go on to the container that
serves the model, over the network that both are in; while none does, the answer is 503. On SIGTERM all that
the engine holds of the model goes, as a host's disk would with the host: ``down`` knows nothing of it.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import http.client
import json
import signal
import socket
import ssl
import sys
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

NOTHING_SERVED = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
CHUNK_BYTES = 1 << 16


class Engine(http.client.HTTPConnection):
    """One connection to the engine's socket, and what the engine has of one model."""

    def __init__(self, path: str, model: str) -> None:
        super().__init__("engine", timeout=30)
        self._path = path
        self._label = f"hybrid.model={model}"

    def connect(self) -> None:
        """To the socket, where the base class would go to a port."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self._path)

    def ask(self, method: str, path: str, **query: str) -> Any:  # noqa: ANN401 - whatever JSON it answers
        """One request; None where the answer is empty or an error."""
        self.request(method, f"{path}?{urlencode(query)}")
        with self.getresponse() as answer:
            text = answer.read()
        return json.loads(text) if text and answer.status < http.client.BAD_REQUEST else None

    def containers(self, **filters: list[str]) -> list[dict[str, Any]]:
        """The containers of the model, ended ones included."""
        wanted = json.dumps({**filters, "label": [self._label, *filters.get("label", [])]})
        return list(self.ask("GET", "/containers/json", all="true", filters=wanted) or [])

    def volumes(self) -> list[str]:
        """The names of the model's volumes."""
        told = self.ask("GET", "/volumes", filters=json.dumps({"label": [self._label]})) or {}
        return [volume["Name"] for volume in told.get("Volumes") or []]

    def forget(self) -> None:
        """Remove all of the model."""
        for container in self.containers():
            self.ask("DELETE", f"/containers/{container['Id']}", force="true", v="true")
        for name in self.volumes():
            self.ask("DELETE", f"/volumes/{quote(name, safe='')}", force="true")


class Gate:
    """Takes connections to where the model is served."""

    def __init__(self, path: str, model: str, network: str) -> None:
        self._path, self._model, self._network = path, model, network

    def engine(self) -> contextlib.closing[Engine]:
        """A connection to the engine, for a moment."""
        return contextlib.closing(Engine(self._path, self._model))

    def served_at(self) -> str | None:
        """The address of the container that serves; None while there is none."""
        with self.engine() as engine:
            for one in engine.containers(label=["hybrid.role=serving"], status=["running"]):
                network = one["NetworkSettings"]["Networks"].get(self._network, {})
                if address := network.get("IPAddress"):
                    return str(address)
        return None

    async def to_the_model(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection to the model's port, to its end."""
        with contextlib.suppress(OSError), contextlib.closing(writer):
            address = await asyncio.to_thread(self.served_at)
            if address is None:
                writer.write(NOTHING_SERVED)
                await writer.drain()
                return
            await join(reader, writer, *await asyncio.open_connection(address, 8080))

    async def to_the_engine(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection to the engine's port, to its end."""
        with contextlib.suppress(OSError), contextlib.closing(writer):
            await join(reader, writer, *await asyncio.open_unix_connection(self._path))


async def join(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    there: asyncio.StreamReader,
    back: asyncio.StreamWriter,
) -> None:
    """All bytes of both directions; both connections are closed once one side has closed its own."""
    with contextlib.closing(back):
        ways = [asyncio.create_task(pass_on(reader, back)), asyncio.create_task(pass_on(there, writer))]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()


async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """All bytes of one direction."""
    with contextlib.suppress(OSError):
        while chunk := await reader.read(CHUNK_BYTES):
            writer.write(chunk)
            await writer.drain()


def mutual_tls(folder: Path) -> ssl.SSLContext:
    """What the engine's port asks of whoever connects: a certificate of the authority in ``folder``."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    context.load_verify_locations(folder / "ca.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    return context


async def main(settings: argparse.Namespace) -> None:
    """Run until SIGTERM, and leave nothing on the engine."""
    gate = Gate(settings.socket, settings.model, settings.network)
    claim(gate, settings)
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    everywhere = "0.0.0.0"  # noqa: S104 - of a container in a network without a way out
    tls = mutual_tls(settings.certificates)
    model = await asyncio.start_server(gate.to_the_model, everywhere, settings.port)
    engine = await asyncio.start_server(gate.to_the_engine, everywhere, settings.engine_port, ssl=tls)
    async with model, engine:
        await stopped.wait()
        for server in (model, engine):
            server.close()
        with gate.engine() as asked:
            asked.forget()
    settings.owns.unlink(missing_ok=True)


def claim(gate: Gate, settings: argparse.Namespace) -> None:
    """Note that what the engine has of this model is ours to remove; what was there before is not."""
    with gate.engine() as engine:
        if not settings.owns.exists() and (volumes := engine.volumes()):
            sys.exit(
                f"this Docker Engine holds the model {settings.model} already ({len(volumes)} volumes), and "
                "this host would remove it at its end. If an earlier demo left it: docker ps -aq --filter "
                f"label=hybrid.model={settings.model} | xargs -r docker rm -f; the same with docker volume"
            )
    settings.owns.touch()


if __name__ == "__main__":
    # As a container's first process it is the parent of whatever lost its own.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    parser = argparse.ArgumentParser()
    for name in ("socket", "model", "network"):
        parser.add_argument(f"--{name}", required=True)
    for name in ("port", "engine-port"):
        parser.add_argument(f"--{name}", type=int, required=True)
    for name in ("certificates", "owns"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    asyncio.run(main(parser.parse_args()))
