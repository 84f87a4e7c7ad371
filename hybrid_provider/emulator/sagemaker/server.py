"""The training service over HTTP: JSON 1.1, as every AWS client speaks it."""

from __future__ import annotations

import json
import logging
import re
import sys
import threading
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, ClassVar, Final

import botocore.session

from hybrid_provider.emulator.sagemaker.errors import (
    InvalidSignatureException,
    MissingAuthenticationTokenException,
    SerializationException,
    ServiceError,
    UnknownOperationException,
    UnrecognizedClientException,
)
from hybrid_provider.emulator.sagemaker.shapes import read_request, write_reply

if TYPE_CHECKING:
    from collections.abc import Callable

    from hybrid_provider.emulator.sagemaker.service import TrainingService

_log = logging.getLogger(__name__)
_TARGET_PREFIX: Final = "SageMaker."
_CREDENTIAL: Final = re.compile(r"AWS4-HMAC-SHA256 Credential=([^/]+)/\d{8}/([^/]+)/sagemaker/aws4_request,")
# The beginning of the keys that the emulated STS gives for an assumed role.
_TEMPORARY_KEY: Final = "ASIA"


class Api:
    """Reads a request, has the service answer it, writes the reply.

    Args:
        service: Whose operations these are.
        access_key: The account's key. Signatures are not verified: only which key and region they are of.
        region: The region that requests must be signed for.
    """

    def __init__(self, service: TrainingService, *, access_key: str, region: str) -> None:
        self._model = botocore.session.get_session().get_service_model("sagemaker")
        self._service = service
        self._access_key = access_key
        self._region = region
        self._operations: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
            "CreateTrainingJob": service.create_training_job,
            "DescribeTrainingJob": service.describe_training_job,
            "StopTrainingJob": service.stop_training_job,
            "ListTrainingJobs": service.list_training_jobs,
            "ListTags": service.list_tags,
            "AddTags": service.add_tags,
            "DeleteTags": service.delete_tags,
        }

    def answer(self, target: str, authorization: str, body: bytes) -> dict[str, Any]:
        """The reply to one request.

        Raises:
            ServiceError: The request is refused.
        """
        self._authenticate(authorization)
        name = target.removeprefix(_TARGET_PREFIX)
        if name not in self._operations:
            raise UnknownOperationException(
                f"the emulator does not emulate {target or 'a request without a target'}"
            )
        self._service.count_call(name)
        self._service.trouble.before(name)
        operation = self._model.operation_model(name)
        try:
            document = json.loads(body or b"{}")
        except ValueError as error:
            raise SerializationException(str(error)) from error
        reply = self._operations[name](read_request(operation.input_shape, document))
        return dict(write_reply(operation.output_shape, reply)) if operation.output_shape else {}

    def _authenticate(self, authorization: str) -> None:
        if not authorization:
            raise MissingAuthenticationTokenException("Missing Authentication Token")
        match = _CREDENTIAL.match(authorization)
        key, region = match.groups() if match else ("", "")
        if key != self._access_key and not key.startswith(_TEMPORARY_KEY):
            raise UnrecognizedClientException("The security token included in the request is invalid.")
        if region != self._region:
            raise InvalidSignatureException(f"Credential should be scoped to a valid region, not '{region}'.")


class SageMakerServer:
    """Serves one :class:`Api`, each connection in a thread of its own."""

    def __init__(self, api: Api, address: str, port: int) -> None:
        self._server = _Server((address, port), type("Handler", (_Handler,), {"api": api}))
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.05,), name="sagemaker", daemon=True
        )

    def start(self) -> None:
        """Serve until :meth:`stop`."""
        self._thread.start()

    def stop(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    # A thousand waiting clients may connect at once; the default of 5 makes them try again a second later.
    request_queue_size = 1024

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ANN401, ARG002 - the base class's
        """One line for a client that is gone, as one that was killed is; anything else is told in full."""
        error = sys.exception()
        if isinstance(error, ConnectionError | TimeoutError):
            _log.info("a client hung up before its reply: %s", error)
        else:
            _log.error("a connection failed", exc_info=error)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # A reply in several writes on a kept connection would wait for the client's delayed acknowledgement.
    disable_nagle_algorithm = True
    wbufsize = -1
    api: ClassVar[Api]

    def do_POST(self) -> None:
        """Answer one request."""
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        headers = self.headers.get("X-Amz-Target", ""), self.headers.get("Authorization", "")
        try:
            self._reply(200, self.api.answer(*headers, body))
        except ServiceError as error:
            self._refuse(error)
        except Exception as error:  # noqa: BLE001 - a client must get an answer, whatever is wrong here
            _log.exception("%s", headers[0])
            self._refuse(ServiceError(f"the emulator failed: {error!r}"))

    def _refuse(self, error: ServiceError) -> None:
        # The service's own exceptions have Message in the model, the common ones message; clients read both.
        self._reply(error.http_status, {"__type": error.code, "message": str(error), "Message": str(error)})

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
