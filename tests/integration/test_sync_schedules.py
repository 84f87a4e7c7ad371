"""Seeded schedules of faults: whatever goes wrong at whichever step, the store holds no release or the whole one.

Each fault comes at each step as often as HYBRID_FAULT_ROUNDS says: a few times here, 50 times by
``make test-faults``, which prints the counts.
"""

from __future__ import annotations

import gzip
import io
import os
import random
import resource
import tarfile
import threading
from collections import Counter, deque
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from hybrid_provider.artifacts.reading import describe
from hybrid_provider.artifacts.store import ReleaseStore
from hybrid_provider.artifacts.sync import sync
from hybrid_provider.artifacts.transfer_policy import TransferPolicy
from hybrid_provider.exceptions import ArtifactError, ConfigurationError
from tests.integration.fault_proxy import faulty

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hybrid_provider.artifacts.artifact import Artifact
    from tests.integration.fault_proxy import FaultProxy
    from tests.integration.s3bucket import Bucket

ROUNDS = int(os.environ.get("HYBRID_FAULT_ROUNDS", "3"))
PART_BYTES = 4096
STEPS = ("first", "middle", "last")
# Of the network; the archive's own CRC finds the flipped bit.
SPOILED = ("503", "403", "cut", "short", "long", "flip", "stall", "crawl")
SLOW = ("stall", "crawl")
HERE = ("interrupt", "replaced", "disk full")
FORMS = ("model.tar.gz", "model/")
POLICY = TransferPolicy(
    part_bytes=PART_BYTES,
    parts_in_flight=1,
    attempts=3,
    first_pause=timedelta(milliseconds=1),
    part_timeout=timedelta(milliseconds=200),
    stall_timeout=timedelta(milliseconds=50),
)


class Scene:
    """The same files in both forms, and what a sync of them must give."""

    def __init__(self, bucket: Bucket) -> None:
        self.bucket = bucket
        content = random.Random(7)
        self.files = {f"weights-{number}.bin": content.randbytes(9000) for number in range(3)}
        self.restore()
        self.artifacts: dict[str, Artifact] = {
            form: describe(bucket.access, bucket.uri(f"schedules/{form}"), POLICY) for form in FORMS
        }

    def restore(self) -> None:
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w") as tar:
            for name, body in self.files.items():
                member = tarfile.TarInfo(name)
                member.size = len(body)
                tar.addfile(member, io.BytesIO(body))
        self.bucket.put("schedules/model.tar.gz", gzip.compress(archive.getvalue(), mtime=0))
        for name, body in self.files.items():
            self.bucket.put(f"schedules/model/{name}", body)

    def replace(self, form: str) -> None:
        key = f"schedules/{form}" if not form.endswith("/") else f"schedules/{form}weights-2.bin"
        self.bucket.put(key, b"something else")

    def requests(self, form: str) -> int:
        """How many GETs a sync makes: a listing, and each object's parts."""
        if form.endswith("/"):
            return 1 + sum(-(-len(body) // PART_BYTES) for body in self.files.values())
        return -(-self.artifacts[form].size_bytes // PART_BYTES)


@pytest.fixture(scope="module")
def scene(bucket: Bucket) -> Scene:
    return Scene(bucket)


@pytest.fixture(scope="module")
def proxy(bucket: Bucket) -> Iterator[FaultProxy]:
    with faulty(bucket.endpoint) as running:
        yield running


@contextmanager
def files_at_most(size_bytes: int):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def request_at(step: str, requests: int, seeded: random.Random) -> int:
    return {"first": 0, "middle": seeded.randrange(1, requests - 1), "last": requests - 1}[step]


def attempt(scene: Scene, proxy: FaultProxy, store: ReleaseStore, *, form: str, fault: str, at: int, seeded):
    """One sync with one fault at one request; how it ended."""
    artifact = scene.artifacts[form]
    fraction = at / scene.requests(form)

    def progress(now):
        if now.done_bytes >= fraction * now.total_bytes and not acted:
            acted.append(1)
            if fault == "replaced":
                scene.replace(form)
            elif fault == "interrupt":
                raise KeyboardInterrupt

    acted: list[int] = []
    if fault in SPOILED:
        proxy.faults = deque(["none"] * at + [fault] * seeded.randrange(1, 5))
    limit = seeded.randrange(1, 9000) if fault == "disk full" else resource.RLIM_INFINITY
    try:
        with files_at_most(limit):
            sync(
                scene.bucket.elsewhere(proxy.url),
                artifact,
                "digits",
                store,
                transfer=POLICY,
                progress=progress,
            )
    except (ArtifactError, ConfigurationError, KeyboardInterrupt) as error:
        return type(error).__name__
    finally:
        proxy.faults = deque()
        proxy.ending.set()
        proxy.ending = threading.Event()
    return "synced"


def assert_no_release_or_the_whole_one(scene: Scene, store: ReleaseStore) -> None:
    for release in store.releases("digits"):
        assert store.verify(release) == ()
        assert {file.path: file.size_bytes for file in release.manifest.files} == {
            name: len(body) for name, body in scene.files.items()
        }
        for name, body in scene.files.items():
            assert (release.path / name).read_bytes() == body


@pytest.mark.timeout(900)
@pytest.mark.parametrize("fault", [*SPOILED, *HERE])
def test_no_fault_at_any_step_leaves_a_broken_release(scene: Scene, proxy: FaultProxy, tmp_path, fault):
    seeded = random.Random(f"schedule {fault}")
    counts: Counter[tuple[str, str]] = Counter()
    for step in STEPS:
        for turn in range(ROUNDS):
            # A flipped bit in a plain object is found by a checksum of it alone.
            form = FORMS[0] if fault == "flip" else FORMS[turn % 2]
            store = ReleaseStore(tmp_path / f"{step}-{turn}")
            at = request_at(step, scene.requests(form), seeded)
            if fault in SLOW and form.endswith("/"):
                at = max(at, 1)  # boto3 lists, with timeouts of its own
            counts[step, attempt(scene, proxy, store, form=form, fault=fault, at=at, seeded=seeded)] += 1
            assert_no_release_or_the_whole_one(scene, store)
            if fault == "replaced":
                scene.restore()
            elif turn % 10 == 0:  # nothing stands in the way of the next one
                release = sync(
                    scene.bucket.access, scene.artifacts[form], "digits", store, transfer=POLICY
                ).release
                assert store.verify(release) == ()
    assert all(sum(n for (at, _), n in counts.items() if at == step) == ROUNDS for step in STEPS)
    print(f"\n{fault}: " + ", ".join(f"{step} {end} {n}" for (step, end), n in sorted(counts.items())))
