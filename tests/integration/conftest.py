"""What the tests against real servers share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import botocore.loaders
import botocore.session
import pytest

from hybrid_provider.emulator import Emulator
from tests.integration.engines import Dockerd, dockerd
from tests.integration.s3bucket import Bucket

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session", autouse=True)
def models_are_read_once() -> Iterator[None]:
    """All boto3 sessions share botocore's service models: reading them is nearly all that a client costs."""
    loader = botocore.loaders.create_loader()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            botocore.session.Session,
            "_register_data_loader",
            lambda session: session._components.register_component("data_loader", loader),
        )
        yield


@pytest.fixture(scope="session")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    """One embedded cloud with two hosts for all tests: use bucket and job names of your own."""
    with Emulator(tmp_path_factory.mktemp("emulator"), hosts=2, model="digits") as running:
        yield running


@pytest.fixture(scope="session")
def bucket(emulator: Emulator) -> Bucket:
    """A bucket of the emulated S3 for the tests of artifacts: use keys of your own."""
    environment = emulator.environment
    bucket = Bucket(
        name="artifacts",
        endpoint=environment["AWS_ENDPOINT_URL_S3"],
        access_key=environment["AWS_ACCESS_KEY_ID"],
        secret_key=environment["AWS_SECRET_ACCESS_KEY"],
    )
    bucket.access.client("s3").create_bucket(Bucket=bucket.name)
    return bucket


@pytest.fixture(scope="session")
def docker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dockerd]:
    """One Docker Engine for all tests: use model names and ports of your own."""
    with dockerd(tmp_path_factory.mktemp("docker")) as running:
        yield running
