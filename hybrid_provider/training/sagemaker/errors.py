"""SageMaker's refusals as this provider's errors, each naming the operation and the remedy."""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from hybrid_provider.exceptions import (
    CapacityUnavailable,
    CloudUnavailable,
    ConfigurationError,
    HybridError,
    TrainingRefused,
)
from hybrid_provider.training.backend import NameTaken

if TYPE_CHECKING:
    from collections.abc import Iterator

    from botocore.exceptions import ClientError

_SERVER_ERROR: Final = 500
_NOT_NOW: Final = frozenset(
    {
        "Throttling", "ThrottlingException", "ThrottledException", "TooManyRequestsException",
        "RequestLimitExceeded", "RequestTimeout", "ServiceUnavailable", "InternalFailure",
        "InternalServerError", "LimitExceededException", "ConflictException",
    }
)  # fmt: skip
_EXPIRED: Final = frozenset({"ExpiredToken", "ExpiredTokenException", "RequestExpired"})
_CREDENTIALS: Final = frozenset(
    {
        "UnrecognizedClientException", "InvalidClientTokenId", "SignatureDoesNotMatch",
        "InvalidSignatureException",
    }
)  # fmt: skip
_CREATE: Final = "CreateTrainingJob"
_LATER: Final = "the same may work later, so a retry of the task may help"
_SERVICES: Final = {"DescribeLogStreams": "logs", "GetLogEvents": "logs", "GetRole": "iam"}
_DENIED: Final = frozenset({"AccessDenied", "AccessDeniedException", "UnauthorizedOperation"})
_QUOTA: Final = re.compile(
    r"is (?P<limit>\d+) Instances.*request delta of (?P<delta>\d+) Instances", re.DOTALL
)


@contextmanager
def sagemaker_errors_explained(operation: str, what: str) -> Iterator[None]:
    """Raise botocore's errors as ours.

    Args:
        operation: The operation's name, as IAM has it: ``CreateTrainingJob``.
        what: What it was about, for the message.
    """
    from botocore.exceptions import (
        BotoCoreError,
        ClientError,
        NoCredentialsError,
        ParamValidationError,
        PartialCredentialsError,
    )

    try:
        yield
    except (NoCredentialsError, PartialCredentialsError) as error:
        raise ConfigurationError(
            f"{what}: no AWS credentials ({error}); put them into the aws connection"
        ) from error
    except ParamValidationError as error:
        raise TrainingRefused(f"{what}: {error}") from error
    except BotoCoreError as error:
        raise CloudUnavailable(f"{what}: {operation} got no answer: {error}; {_LATER}") from error
    except ClientError as error:
        raise explained(operation, what, error) from error


def code_of(error: ClientError) -> str:
    """The code that AWS gave."""
    return str(error.response["Error"].get("Code", ""))


def message_of(error: ClientError) -> str:
    """The sentence that AWS gave."""
    return str(error.response["Error"].get("Message", ""))


def explained(operation: str, what: str, error: ClientError) -> HybridError | NameTaken:
    """The error of ours that says what AWS said."""
    code, message = code_of(error), message_of(error)
    status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    said = f"{what}: {operation} answered {code}: {message.removesuffix('.')}"
    if code == "ResourceInUse":
        return NameTaken(said)
    if code == "ResourceLimitExceeded":
        return _quota(said, message)
    if code in _EXPIRED:
        return CloudUnavailable(f"{said}; the credentials of the aws connection have run out, renew them")
    if code in _NOT_NOW or status >= _SERVER_ERROR:
        return CloudUnavailable(f"{said}; {_LATER}")
    return _refused(operation, said, code)


def _refused(operation: str, said: str, code: str) -> HybridError:
    if code in _CREDENTIALS:
        return ConfigurationError(f"{said}; correct the credentials in the aws connection")
    if code in _DENIED:
        service = _SERVICES.get(operation, "sagemaker")
        also = " (with iam:PassRole on the role, and sagemaker:AddTags)" if operation == _CREATE else ""
        return TrainingRefused(f"{said}; grant {service}:{operation}{also} to the aws connection's identity")
    return TrainingRefused(f"{said}; correct what it names, in the task's arguments or the aws connection")


def _quota(said: str, message: str) -> HybridError:
    """A quota that others use up now may be free later; one below what is asked never is."""
    numbers = _QUOTA.search(message)
    if numbers is not None and int(numbers["limit"]) < int(numbers["delta"]):
        return TrainingRefused(f"{said}; ask AWS for a higher quota, or take another instance type")
    return CapacityUnavailable(f"{said}; other jobs use the quota now")
