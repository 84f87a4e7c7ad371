"""The training service over HTTP: JSON 1.1, as every AWS client speaks it."""

from __future__ import annotations

import json
import threading
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Final

import botocore.session

from hybrid_provider.emulator.sagemaker.errors import (
    SerializationException,
    ServiceError,
    UnknownOperationException,
)
from hybrid_provider.emulator.sagemaker.shapes import read_request, write_reply

if TYPE_CHECKING:
    from collections.abc import Callable

    from hybrid_provider.emulator.sagemaker.service import TrainingService

_TARGET_PREFIX: Final = "SageMaker."


class SageMakerServer:
    """Serves one :class:`TrainingService`."""

    def __init__(self, service: TrainingService, address: str, port: int) -> None:
        model = botocore.session.get_session().get_service_model("sagemaker")
        operations: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
            "CreateTrainingJob": service.create_training_job,
            "DescribeTrainingJob": service.describe_training_job,
            "StopTrainingJob": service.stop_training_job,
            "ListTrainingJobs": service.list_training_jobs,
        }

        def answer(target: str, body: bytes) -> dict[str, Any]:
            name = target.removeprefix(_TARGET_PREFIX)
            if name not in operations:
                raise UnknownOperationException(f"the emulator does not emulate {target}")
            operation = model.operation_model(name)
            try:
                document = json.loads(body or b"{}")
            except ValueError as error:
                raise SerializationException(str(error)) from error
            reply = operations[name](read_request(operation.input_shape, document))
            return dict(write_reply(operation.output_shape, reply)) if operation.output_shape else {}

        class Handler(_Handler):
            answers = staticmethod(answer)

        self._server = ThreadingHTTPServer((address, port), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.05,), name="sagemaker", daemon=True
        )

    def start(self) -> None:
        """Serve, in a thread of its own."""
        self._thread.start()

    def stop(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Small replies on a kept connection would otherwise wait for the client's delayed ACK.
    disable_nagle_algorithm = True
    wbufsize = -1
    answers: Callable[[str, bytes], dict[str, Any]]

    def do_POST(self) -> None:
        """Answer one request."""
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        try:
            self._reply(200, self.answers(self.headers.get("X-Amz-Target", ""), body))
        except ServiceError as error:
            # The service's own exceptions have Message in the model, the common ones message; both are read.
            self._reply(
                error.http_status, {"__type": error.code, "message": str(error), "Message": str(error)}
            )

    def _reply(self, status: int, document: dict[str, Any]) -> None:
        payload = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/x-amz-json-1.1")
        self.send_header("Content-Length", str(len(payload)))
        self.send_header("x-amzn-RequestId", str(uuid.uuid4()))
        self.end_headers()
        self.wfile.write(payload)
        self.wfile.flush()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name for it
        """Say nothing: standard error belongs to the program that the emulator runs in."""
