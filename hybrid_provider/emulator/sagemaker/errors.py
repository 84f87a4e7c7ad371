"""The errors that SageMaker answers with, by their codes on the wire."""

from __future__ import annotations


class ServiceError(Exception):
    """An error reply; ``code`` is what boto3 has as ``error.response["Error"]["Code"]``."""

    code = "InternalFailure"
    http_status = 500


class ValidationException(ServiceError):
    """The request breaks a constraint, or names something that is not there."""

    code = "ValidationException"
    http_status = 400


class ResourceInUse(ServiceError):
    """The name is taken."""

    code = "ResourceInUse"
    http_status = 400


class ResourceLimitExceeded(ServiceError):
    """The account has no quota left for this."""

    code = "ResourceLimitExceeded"
    http_status = 400


class ThrottlingException(ServiceError):
    """Too many calls; :class:`~hybrid_provider.emulator.sagemaker.trouble.Trouble` says when."""

    code = "ThrottlingException"
    http_status = 400


class SerializationException(ServiceError):
    """The body is no JSON, or holds a value of the wrong type."""

    code = "SerializationException"
    http_status = 400


class UnknownOperationException(ServiceError):
    """The service has no such operation, or the emulator does not emulate it."""

    code = "UnknownOperationException"
    http_status = 400


class AccessDeniedException(ServiceError):
    """The caller may not do this."""

    code = "AccessDeniedException"
    http_status = 400


class UnrecognizedClientException(ServiceError):
    """The access key is none of the account's."""

    code = "UnrecognizedClientException"
    http_status = 400


class MissingAuthenticationTokenException(ServiceError):
    """The request is not signed."""

    code = "MissingAuthenticationTokenException"
    http_status = 400


class InvalidSignatureException(ServiceError):
    """The request is signed for another region or service."""

    code = "InvalidSignatureException"
    http_status = 400
