"""What the tests against real servers share."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest

from hybrid_provider.emulator import Emulator
from hybrid_provider.targets.ssh import SshTarget
from hybrid_provider.targets.target import Placement
from tests.botocore_models import read_once
from tests.integration.cloud_servers import azure, google  # noqa: F401 - fixtures
from tests.integration.engines import Dockerd, dockerd
from tests.integration.s3bucket import Bucket
from tests.integration.sshhosts import sshd
from tests.training_stage import BUCKET, HastyTime, Puppets

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from hybrid_provider.emulator.sagemaker.ledger import LedgerEntry
    from tests.integration.sshhosts import Host


@pytest.fixture(scope="session", autouse=True)
def models_are_read_once() -> Iterator[None]:
    """By all tests of a session together."""
    with read_once():
        yield


@pytest.fixture(autouse=True)
def log_level_is_as_before() -> Iterator[None]:
    """A command line that ran in this process set it, and a later test would miss what is logged below it."""
    logger = logging.getLogger("hybrid_provider")
    level = logger.level
    yield
    logger.setLevel(level)


@pytest.fixture
def any_file_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """Manifests hold names that the grammar refuses: what is behind it does not rest on it."""
    monkeypatch.setattr("hybrid_provider.artifacts.manifest.checked_path", str)


@pytest.fixture(scope="session")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    """One embedded cloud with two hosts for all tests: use bucket and job names of your own."""
    with Emulator(tmp_path_factory.mktemp("emulator"), hosts=2, model="digits") as running:
        yield running


@pytest.fixture(scope="session")
def puppets() -> Puppets:
    """The containers of :func:`puppet_cloud`."""
    return Puppets()


@pytest.fixture(scope="session")
def puppet_cloud(tmp_path_factory: pytest.TempPathFactory, puppets: Puppets) -> Iterator[Emulator]:
    """One embedded cloud whose containers do what a test says: tell jobs apart by their tags."""
    with Emulator(tmp_path_factory.mktemp("puppets"), hosts=0, runner_for=puppets.runner_for) as running:
        running.client("s3").create_bucket(Bucket=BUCKET)
        yield running


@pytest.fixture(scope="module")
def amazon_in_haste() -> Iterator[None]:
    """The amazon provider's operator sleeps a hundredth of its time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("airflow.providers.amazon.aws.hooks.sagemaker.time", HastyTime)
        yield


@pytest.fixture
def new_jobs(puppet_cloud: Emulator, puppets: Puppets) -> Iterator[Callable[[], list[LedgerEntry]]]:
    """The ledger's entries of this test; a job that it leaves running ends with it."""
    before = set(puppet_cloud.ledger.started)
    yield lambda: [entry for entry in puppet_cloud.ledger.entries if entry.name not in before]
    for job in puppet_cloud.ledger.entries:
        if job.name not in before and job.running:
            puppets.of(job.name).finish()


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
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """One OpenSSH server for all tests that need no more of it than a login: use a folder of your own."""
    with sshd(tmp_path_factory.mktemp("host") / "edge", "edge") as host:
        yield host


@pytest.fixture
def target(host: Host, tmp_path: Path) -> SshTarget:
    """A target on that host with a base folder of this test's own, and no service."""
    return SshTarget(name="edge", address=host.address, placement=Placement(base_folder=f"{tmp_path}/models"))


@pytest.fixture(scope="session")
def docker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dockerd]:
    """One Docker Engine for all tests: use model names and ports of your own."""
    with dockerd(tmp_path_factory.mktemp("docker")) as running:
        yield running
