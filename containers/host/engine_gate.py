"""Makes a container with a Docker Engine's socket a host of that engine: its two ports, and an end.

The engine's port speaks mutual TLS, as dockerd's own does on 2376: nobody gets a byte through without a
certificate that the site's authority signed. Connections to the model's port go on to the container that
serves the model, over the network that both are in; while none does, the answer is 503. The model is served
while the host is on: SIGTERM stops its container, and the next start starts it again. What becomes of it when
the host is removed is its keeper's (``engine_keeper``).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
import ssl
import sys
from pathlib import Path

from . import engine_keeper
from .engine import Engine, Host

NOTHING_SERVED = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
CHUNK_BYTES = 1 << 16


class Gate:
    """Takes connections to where the model is served."""

    def __init__(self, host: Host) -> None:
        self._host = host

    def engine(self) -> contextlib.closing[Engine]:
        """A connection to the engine, for a moment."""
        return contextlib.closing(Engine(self._host))

    def served_at(self) -> str | None:
        """The address of the container that serves; None while there is none."""
        with self.engine() as engine:
            for one in engine.of_the_model("hybrid.role=serving", status=["running"]):
                network = one["NetworkSettings"]["Networks"].get(self._host.network, {})
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
            await join(reader, writer, *await asyncio.open_unix_connection(self._host.socket))


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
    """Run until SIGTERM, and leave the model as a host that is off does."""
    service = os.uname().nodename
    host = Host(settings.socket, settings.model, settings.project, service, settings.network)
    gate = Gate(host)
    with gate.engine() as engine:
        claim(engine, settings)
    engine_keeper.start(host)
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    everywhere = "0.0.0.0"  # noqa: S104 - of a container in a network without a way out
    tls = mutual_tls(settings.certificates)
    with gate.engine() as engine:
        engine.boot()
    to_the_model = await asyncio.start_server(gate.to_the_model, everywhere, settings.port)
    to_the_engine = await asyncio.start_server(gate.to_the_engine, everywhere, settings.engine_port, ssl=tls)
    async with to_the_model, to_the_engine:
        await stopped.wait()
        for server in (to_the_model, to_the_engine):
            server.close()
        # An engine that ends itself answers no more, and starts the model again with itself.
        with contextlib.suppress(OSError), gate.engine() as engine:
            engine.halt(seconds=10)


def claim(engine: Engine, settings: argparse.Namespace) -> None:
    """Note that what the engine has of this model is ours to remove; what was there before is not."""
    own = engine.running_host()["Id"]
    known = settings.owns.read_text() if settings.owns.exists() else None
    earlier = engine.keepers()
    if known != own and not earlier and (volumes := engine.volumes()):
        sys.exit(
            f"this Docker Engine holds the model {settings.model} already ({len(volumes)} volumes), and "
            "this host would remove it at its end. If an earlier demo left it: docker ps -aq --filter "
            f"label=hybrid.model={settings.model} | xargs -r docker rm -f; the same with docker volume"
        )
    for keeper in earlier:
        engine.remove(keeper)
    if known is None:
        # The host before this one was removed a moment ago, and its keeper had not come to the end.
        engine.forget()
    settings.owns.write_text(own)


if __name__ == "__main__":
    # As a container's first process it is the parent of whatever lost its own.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    parser = argparse.ArgumentParser()
    for name in ("socket", "model", "project", "network"):
        parser.add_argument(f"--{name}", required=True)
    for name in ("port", "engine-port"):
        parser.add_argument(f"--{name}", type=int, required=True)
    for name in ("certificates", "owns"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    asyncio.run(main(parser.parse_args()))
