"""What botocore logs at DEBUG, without session tokens and secret keys."""

from __future__ import annotations

import logging

import pytest

from hybrid_provider.aws_logging import mask_secrets

TOKEN = "IQoJb3JpZ2luX2VjEJr//wEaCXVzLWVhc3QtMSJHMEUC+/=="


@pytest.mark.parametrize(
    ("logger", "text"),
    [
        ("auth", "StringToSign:\nGET\nx-amz-security-token:{}\n/b/k"),
        ("auth", "CanonicalRequest:\nGET\nhost:s3\nx-amz-security-token:{}\n\nhost"),
        ("endpoint", "headers={{'X-Amz-Security-Token': b'{}', 'X-Amz-Date': b'20261124'}}"),
        ("endpoint", "url=https://s3/k?X-Amz-Security-Token={}&X-Amz-Date=20261124"),
        ("parsers", "b'<Credentials><SecretAccessKey>{}</SecretAccessKey></Credentials>'"),
        ("parsers", "b'<SessionToken>{}</SessionToken>'"),
        ("parsers", '{{"roleCredentials": {{"secretAccessKey": "{}", "expiration": 1}}}}'),
        ("parsers", '{{"sessionToken":"{}"}}'),
    ],
)
def test_a_secret_is_masked_and_the_rest_is_as_it_was(caplog, logger, text):
    caplog.set_level(logging.DEBUG)
    mask_secrets()
    mask_secrets()
    logging.getLogger(f"botocore.{logger}").debug("%s", text.format(TOKEN))
    assert caplog.messages == [text.format("***")]


def test_what_holds_no_secret_is_as_it_was(caplog):
    caplog.set_level(logging.DEBUG)
    mask_secrets()
    logging.getLogger("botocore.auth").debug("SignedHeaders=%s, %d", "host;x-amz-security-token", 1)
    assert caplog.messages == ["SignedHeaders=host;x-amz-security-token, 1"]
    assert caplog.records[0].args == ("host;x-amz-security-token", 1)
