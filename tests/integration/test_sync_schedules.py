"""Seeded schedules of faults: whatever goes wrong at whichever step, the store holds no release or the whole one.

Each fault comes at each step 50 times, or as often as HYBRID_FAULT_ROUNDS says, in turn to an archive and to a
prefix, whose first request is its listing. ``make test-faults`` prints the counts.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import random
import resource
import signal
import subprocess
import sys
import tarfile
import tempfile
import threading
from collections import Counter, deque
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from hybrid_provider.artifacts.reading import describe
from hybrid_provider.artifacts.store import ReleaseStore
from hybrid_provider.artifacts.sync import sync
from hybrid_provider.artifacts.transfer_policy import TransferPolicy
from hybrid_provider.exceptions import ArtifactError, ConfigurationError
from tests.integration.fault_proxy import faulty

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from hybrid_provider.artifacts.artifact import Artifact
    from tests.integration.fault_proxy import FaultProxy
    from tests.integration.s3bucket import Bucket

ROUNDS = int(os.environ.get("HYBRID_FAULT_ROUNDS", "50"))
PART_BYTES = 4096
STEPS = ("first", "middle", "last")
# Of the network.
SPOILED = ("503", "403", "expired", "cut", "short", "long", "flip", "stall", "crawl")
SLOW = ("stall", "crawl")
HERE = ("interrupt", "replaced", "disk full")
FORMS = ("model.tar.gz", "model/")
PATIENT = TransferPolicy(
    part_bytes=PART_BYTES, parts_in_flight=1, attempts=3, first_pause=timedelta(milliseconds=1)
)
# Every transfer counts as a long one, whose parts are kept.
RESUMING = replace(PATIENT, resumable_from=timedelta(0))
# Only where slowness is the fault: a busy machine is slow too.
IMPATIENT = replace(
    PATIENT, part_timeout=timedelta(milliseconds=60), stall_timeout=timedelta(milliseconds=30)
)
# Slow, and not so slow that it looks silent.
CRAWL_SECONDS = 0.01
KILLED = Path(__file__).with_name("killed_syncs.py")


class Scene:
    """The same files in both forms, and what a sync of them must give."""

    def __init__(self, bucket: Bucket, proxy: FaultProxy) -> None:
        self.bucket = bucket
        self.proxy = proxy
        self.access = bucket.elsewhere(proxy.url)
        content = random.Random(7)
        self.files = {f"weights-{number}.bin": content.randbytes(9000) for number in range(2)}
        self.restore()
        self.artifacts: dict[str, Artifact] = {
            form: describe(bucket.access, bucket.uri(f"schedules/{form}"), PATIENT) for form in FORMS
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
        key = f"schedules/{form}" if not form.endswith("/") else f"schedules/{form}weights-1.bin"
        self.bucket.put(key, b"something else")

    def requests(self, form: str) -> int:
        """How many GETs a sync makes: a listing, and each object's parts."""
        if form.endswith("/"):
            return 1 + sum(-(-len(body) // PART_BYTES) for body in self.files.values())
        return -(-self.artifacts[form].size_bytes // PART_BYTES)


@pytest.fixture(scope="module")
def scene(bucket: Bucket) -> Iterator[Scene]:
    with faulty(bucket.endpoint) as proxy:
        proxy.crawl_seconds = CRAWL_SECONDS
        yield Scene(bucket, proxy)


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory, where there is one: a thousand stores wait for the disk longer than for anything else."""
    shared = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=shared if os.access(shared, os.W_OK) else tmp_path) as folder:
        yield Path(folder)


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


def attempt(scene: Scene, store: ReleaseStore, *, form: str, fault: str, at: int, seeded):
    """One sync with one fault at one request; how it ended."""
    artifact, proxy = scene.artifacts[form], scene.proxy
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
                scene.access,
                artifact,
                "digits",
                store,
                transfer=IMPATIENT if fault in SLOW else PATIENT,
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
def test_no_fault_at_any_step_leaves_a_broken_release(scene: Scene, memory, fault):
    seeded = random.Random(f"schedule {fault}")
    counts: Counter[tuple[str, str]] = Counter()
    for step in STEPS:
        for turn in range(ROUNDS):
            form = FORMS[turn % 2]
            store = ReleaseStore(memory / f"{step}-{turn}")
            at = request_at(step, scene.requests(form), seeded)
            counts[step, attempt(scene, store, form=form, fault=fault, at=at, seeded=seeded)] += 1
            assert_no_release_or_the_whole_one(scene, store)
            if fault == "replaced":
                scene.restore()
            elif turn % 10 in {0, 1}:  # nothing stands in the way of the next one
                artifact = scene.artifacts[form]
                release = sync(scene.bucket.access, artifact, "digits", store, transfer=PATIENT).release
                assert store.verify(release) == ()
    assert all(sum(n for (at, _), n in counts.items() if at == step) == ROUNDS for step in STEPS)
    print(f"\n{fault}: " + ", ".join(f"{step} {end} {n}" for (step, end), n in sorted(counts.items())))


@pytest.fixture(scope="module")
def killed(bucket: Bucket) -> Iterator[Callable[[dict[str, object]], int]]:
    """Syncs in a process that is killed on the way; its exit code."""
    command = [sys.executable, KILLED, bucket.endpoint, bucket.access_key, bucket.secret_key]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as forks:

        def run(job: dict[str, object]) -> int:
            forks.stdin.write(json.dumps(job) + "\n")
            forks.stdin.flush()
            return int(forks.stdout.readline())

        yield run
        forks.stdin.close()


@pytest.mark.timeout(900)
def test_a_sync_that_is_killed_at_any_moment_goes_on(scene: Scene, memory, killed):
    seeded = random.Random("schedule killed")
    counts: Counter[tuple[str, str]] = Counter()
    for number, step in enumerate(STEPS):
        for turn in range(ROUNDS):
            artifact = scene.artifacts[FORMS[turn % 2]]
            store = ReleaseStore(memory / f"{step}-{turn}")
            code = killed(
                {
                    "artifact": artifact.to_dict(),
                    "root": str(store.root),
                    "part_bytes": PART_BYTES,
                    "at_byte": artifact.size_bytes * (number + seeded.random()) / len(STEPS),
                    "seconds": 10 ** seeded.uniform(-6, -1.5),
                }
            )
            assert code in {0, -signal.SIGALRM}
            assert_no_release_or_the_whole_one(scene, store)
            result = sync(scene.bucket.access, artifact, "digits", store, transfer=RESUMING)
            assert store.verify(result.release) == ()
            assert_no_release_or_the_whole_one(scene, store)
            end = "killed" if code else "synced"
            counts[step, f"{end}, went on from {'some' if result.reused_bytes else 'nothing'}"] += 1
    # What has come is counted before it is on the disk, so that on a busy machine a few have none to go on from.
    assert counts["last", "killed, went on from some"] > ROUNDS / 2
    assert counts["last", "synced, went on from nothing"] == 0
    print("\nkilled: " + "; ".join(f"{step} {end} {n}" for (step, end), n in sorted(counts.items())))
