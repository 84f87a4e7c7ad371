"""A model server as an on-premises host would run one: it serves the current release with onnxruntime.

::

    python -m hybrid_provider.emulator.model_server --folder ~/models/digits --port 8080 --pid-file ~/ms.pid

``<folder>/current`` is a symbolic link to ``releases/<release id>``. The server loads it at its start and on
SIGHUP: the new release is loaded beside the old one, tried, and takes its place in one step.

- ``GET /ping``: 200 when a release is served, else 503 and a JSON ``reason``; header ``X-Release-Id``.
- ``POST /invocations``: ``{"instances": [[…], …]}`` to ``{"predictions": […]}``; 400 for other input.

A release that does not load is not served, and neither is its predecessor in its name: the server
answers 503 until a release loads.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import signal
import sys
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

_log = logging.getLogger("model-server")
_LARGEST_BODY_BYTES: Final = 64 * 1024 * 1024
# What onnxruntime calls the types of a model's input, and numpy's names for them.
_TYPES: Final = {"tensor(float)": "float32", "tensor(double)": "float64", "tensor(int64)": "int64"}


class Unservable(Exception):
    """A release that cannot be served; the message says why."""


class BadInput(Exception):
    """A request that the model cannot be asked; the message says why."""


@dataclass(frozen=True)
class Release:
    """One loaded release."""

    release_id: str
    session: Any

    def predict(self, instances: object) -> list[Any]:
        """The model's first output, one entry for each instance.

        Raises:
            BadInput: The instances are no rows of equally many numbers, or not as many as the model takes.
        """
        import numpy as np

        entry = self.session.get_inputs()[0]
        try:
            rows = np.asarray(instances, dtype=_TYPES[entry.type])
        except (TypeError, ValueError) as error:
            raise BadInput(f"instances: {error}") from error
        width = entry.shape[-1]
        if (
            rows.ndim != len(entry.shape)
            or rows.shape[0] == 0
            or (isinstance(width, int) and rows.shape[-1] != width)
        ):
            raise BadInput(f"instances have the shape {list(rows.shape)}, the model takes {entry.shape}")
        predictions: list[Any] = self.session.run(None, {entry.name: rows})[0].tolist()
        return predictions


@dataclass(frozen=True)
class State:
    """What the server answers from: a release, or the reason why there is none."""

    release_id: str | None
    release: Release | None
    reason: str | None


def load(folder: Path) -> State:
    """Load what ``<folder>/current`` points to now."""
    current = folder / "current"
    resolved = current.resolve()
    if not resolved.is_dir():
        return State(resolved.name if current.is_symlink() else None, None, f"{current} points to no release")
    try:
        return State(resolved.name, _load_release(resolved), None)
    except Unservable as error:
        _log.warning("not serving %s: %s", resolved.name, error)
        return State(resolved.name, None, str(error))


def _load_release(folder: Path) -> Release:
    import numpy as np
    import onnxruntime

    models = sorted(folder.rglob("*.onnx"))
    if len(models) != 1:
        raise Unservable(f"{folder} holds {len(models)} .onnx files; exactly one is served")
    options = onnxruntime.SessionOptions()
    # Several servers share this machine; each would else start a thread for every core.
    options.intra_op_num_threads = 1
    try:
        session = onnxruntime.InferenceSession(models[0], options, providers=["CPUExecutionProvider"])
        entry = session.get_inputs()[0]
        # The load check: a model that cannot take one row of zeros would fail its first request.
        zeros = np.zeros([_size(part) for part in entry.shape], dtype=_TYPES[entry.type])
        session.run(None, {entry.name: zeros})
    except Exception as error:  # onnxruntime raises many kinds; each means the same here
        raise Unservable(f"{models[0].name} does not load: {error!r}") from error
    return Release(folder.name, session)


def _size(part: object) -> int:
    """A dimension's size; one that is open, as the number of rows is, becomes 1."""
    return part if isinstance(part, int) else 1


class Server:
    """Holds the state that requests are answered from, and replaces it as a whole."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._loading = threading.Lock()
        self.state = State(None, None, "no release was loaded yet")

    def reload(self) -> None:
        """Load the current release and serve it; one load at a time."""
        with self._loading:
            self.state = load(self._folder)
        if self.state.release is not None:
            _log.info("serving %s", self.state.release_id)


class Handler(BaseHTTPRequestHandler):
    """Answers one connection's requests from the state of ``owner``."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    owner: ClassVar[Server]

    def do_GET(self) -> None:
        """``/ping``."""
        state = self.owner.state
        if self.path != "/ping":
            self._reply(404, state, {"reason": f"no such path: {self.path}"})
        elif state.release is None:
            self._reply(503, state, {"reason": state.reason})
        else:
            self._reply(200, state, {"release": state.release_id})

    def do_POST(self) -> None:
        """``/invocations``."""
        state = self.owner.state
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or int(length) > _LARGEST_BODY_BYTES:
            self.close_connection = True
            self._reply(413, state, {"reason": f"a body has a length of at most {_LARGEST_BODY_BYTES} bytes"})
            return
        body = self.rfile.read(int(length))
        if self.path != "/invocations":
            self._reply(404, state, {"reason": f"no such path: {self.path}"})
        elif state.release is None:
            self._reply(503, state, {"reason": state.reason})
        else:
            try:
                self._reply(200, state, {"predictions": state.release.predict(_instances(body))})
            except BadInput as error:
                self._reply(400, state, {"reason": str(error)})

    def _reply(self, status: int, state: State, document: dict[str, Any]) -> None:
        payload = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(payload)))
        if state.release_id is not None:
            self.send_header("X-Release-Id", state.release_id)
        self.end_headers()
        self.wfile.write(payload)
        self.wfile.flush()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name for it
        """Requests are not logged."""


def _instances(body: bytes) -> object:
    try:
        document = json.loads(body)
    except ValueError as error:
        raise BadInput(f"the body is no JSON: {error}") from error
    if not isinstance(document, dict) or "instances" not in document:
        raise BadInput('the body is not {"instances": [[…], …]}')
    return document["instances"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(description="Serves the current release of a model with onnxruntime.")
    parser.add_argument("--folder", type=Path, required=True, help="holds `current` and `releases/`")
    parser.add_argument("--address", default="127.0.0.1", help="where to listen (%(default)s)")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--pid-file", type=Path, help="is written when the server listens")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")

    signals = {signal.SIGHUP, signal.SIGTERM, signal.SIGINT}
    # Blocked in every thread and taken by sigwait below: no code is interrupted at any point.
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    server = Server(options.folder)
    try:
        http = ThreadingHTTPServer(
            (options.address, options.port), type("Handler", (Handler,), {"owner": server})
        )
    except OSError as error:
        sys.stderr.write(
            f"model server: cannot listen on {options.address}:{options.port}: {error.strerror}\n"
        )
        return 1
    http.daemon_threads = True
    threading.Thread(target=http.serve_forever, daemon=True).start()
    if options.pid_file is not None:
        options.pid_file.write_text(f"{os.getpid()}\n")
    server.reload()
    while (received := signal.sigwait(signals)) == signal.SIGHUP:
        server.reload()
    _log.info("ended by %s", received)
    http.shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
