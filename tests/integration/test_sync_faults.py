"""What goes wrong during a sync, and that the store holds no release or the whole one after it."""

from __future__ import annotations

import gzip
import io
import json
import os
import resource
import signal
import subprocess
import sys
import tarfile
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from hybrid_provider.artifacts.s3 import describe
from hybrid_provider.artifacts.store import ReleaseStore
from hybrid_provider.artifacts.sync import sync
from hybrid_provider.artifacts.transfer_policy import TransferPolicy
from hybrid_provider.exceptions import ArtifactRefused, ArtifactUnavailable, ConfigurationError, StoreError
from tests.integration.fault_proxy import faulty
from tests.servers import REQUIRE_ALL

if TYPE_CHECKING:
    from tests.integration.s3bucket import Bucket

PART_BYTES = 64 << 10
SMALL_PARTS = TransferPolicy(part_bytes=PART_BYTES, parts_in_flight=2)
FILES = {f"weights-{number}.bin": os.urandom(200_000) for number in range(4)}
CHILD = Path(__file__).with_name("sync_child.py")


@pytest.fixture(scope="module")
def artifact(bucket: Bucket):
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz") as tar:
        for name, content in FILES.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    bucket.put("faults/model.tar.gz", archive.getvalue())
    return describe(bucket.access, bucket.uri("faults/model.tar.gz"))


@pytest.fixture
def store(tmp_path):
    return ReleaseStore(tmp_path / "store")


def assert_no_release_or_the_whole_one(store: ReleaseStore) -> None:
    for release in store.releases("digits"):
        assert store.verify(release) == ()
        assert {file.path for file in release.manifest.files} == FILES.keys()


def child(
    bucket: Bucket, artifact, store: ReleaseStore, at_part: int, act: str, *, endpoint: str | None = None
) -> subprocess.Popen[str]:
    """A process that syncs and, after a part, does something: ``kill``, ``interrupt`` or ``tell`` and wait."""
    job = {
        "endpoint": endpoint or bucket.endpoint,
        "keys": [bucket.access_key, bucket.secret_key],
        "artifact": artifact.to_dict(),
        "root": str(store.root),
        "part_bytes": PART_BYTES,
        "at_part": at_part,
        "act": act,
    }
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    return subprocess.Popen(
        [sys.executable, CHILD, json.dumps(job)],
        env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


@pytest.mark.parametrize("at_part", [1, 6, 13])
def test_a_killed_sync_leaves_nothing_in_the_way_of_the_next(bucket: Bucket, artifact, store, at_part):
    killed = child(bucket, artifact, store, at_part, "kill")
    _, errors = killed.communicate(timeout=60)
    assert killed.returncode == -signal.SIGKILL, errors
    assert_no_release_or_the_whole_one(store)
    assert store.find("digits", artifact) is None
    release = sync(bucket.access, artifact, "digits", store).release
    assert store.verify(release) == ()
    assert not (store.root / "digits/.staging").exists()


def test_an_interrupted_sync_takes_its_staging_with_it(bucket: Bucket, artifact, store):
    interrupted = child(bucket, artifact, store, 3, "interrupt")
    _, errors = interrupted.communicate(timeout=60)
    assert "KeyboardInterrupt" in errors
    assert [path for path in store.root.rglob("*") if path.is_file()] == [store.root / "digits/.lock"]


def test_a_silent_s3_is_reported_and_an_interrupt_ends_the_wait_for_it(bucket: Bucket, artifact, store):
    with faulty(bucket.endpoint, "none", "stall", "stall", "stall") as proxy:
        stalled = child(bucket, artifact, store, 0, "interrupt when silent", endpoint=proxy.url)
        _, errors = stalled.communicate(timeout=25)  # the next byte would be awaited for 30 s
    assert "KeyboardInterrupt" in errors
    assert [path for path in store.root.rglob("*") if path.is_file()] == [store.root / "digits/.lock"]


def test_a_second_sync_of_a_model_waits_for_the_first_and_takes_its_release(bucket: Bucket, artifact, store):
    first, second = (child(bucket, artifact, store, 3, "tell") for _ in range(2))
    try:
        holder = first_to_tell(first, second)
        waiter = second if holder is first else first
        assert waiter.poll() is None
        holder.stdin.write("go on\n")
        holder.stdin.flush()
        results = [
            json.loads(process.communicate(timeout=60)[0].splitlines()[-1]) for process in (holder, waiter)
        ]
    finally:
        for process in (first, second):
            process.kill()
            process.wait()
    assert results[0]["release_id"] == results[1]["release_id"]
    assert [result["reused_bytes"] for result in results] == [0, artifact.size_bytes]


def test_two_syncs_of_different_artifacts_at_once_both_become_releases(bucket: Bucket, artifact, store):
    s3 = bucket.access.client("s3")
    body = s3.get_object(Bucket=bucket.name, Key="faults/model.tar.gz")["Body"].read()
    bucket.put("faults/another/model.bin", body)
    another = describe(bucket.access, bucket.uri("faults/another/model.bin"))
    processes = [child(bucket, wanted, store, 3, "tell") for wanted in (artifact, another)]
    try:
        holder = first_to_tell(*processes)
        waiter = next(process for process in processes if process is not holder)
        assert waiter.poll() is None
        holder.stdin.write("go on\n")
        holder.stdin.flush()
        assert first_to_tell(waiter)
        waiter.stdin.write("go on\n")
        waiter.stdin.flush()
        for process in processes:
            process.communicate(timeout=60)
    finally:
        for process in processes:
            process.kill()
            process.wait()
    assert len(store.releases("digits")) == 2
    assert [store.verify(release) for release in store.releases("digits")] == [(), ()]


def first_to_tell(*processes):
    import select

    readable, _, _ = select.select([process.stdout for process in processes], [], [], 60)
    return next(process for process in processes if process.stdout in readable)


@contextmanager
def small_disk(folder: Path, size: str):
    """A file system of its own, which only root may mount."""
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode != 0:
        reason = f"a small disk cannot be mounted: {mounted.stderr.strip()}"
        if REQUIRE_ALL:
            pytest.fail(reason)
        pytest.skip(reason)
    try:
        yield
    finally:
        subprocess.run(["umount", folder], check=True)


def test_a_disk_that_fills_up_half_way_is_explained_and_left_empty(bucket: Bucket, tmp_path):
    zeros = io.BytesIO()
    with tarfile.open(fileobj=zeros, mode="w") as tar:
        member = tarfile.TarInfo("zeros.bin")
        member.size = 8 << 20
        tar.addfile(member, io.BytesIO(bytes(member.size)))
    bucket.put("faults/zeros.tar.gz", gzip.compress(zeros.getvalue()))
    with small_disk(tmp_path / "disk", "2m"):
        store = ReleaseStore(tmp_path / "disk/store")
        with pytest.raises(StoreError, match=r"No space left on device \(\d+ bytes free.*free space"):
            sync(bucket.access, bucket.uri("faults/zeros.tar.gz"), "digits", store)
        assert [path for path in store.root.rglob("*") if path.is_file()] == [store.root / "digits/.lock"]


def test_a_disk_that_is_too_small_is_told_before_the_first_byte(bucket: Bucket, artifact, tmp_path):
    with (
        small_disk(tmp_path / "disk", "512k"),
        pytest.raises(StoreError, match=rf"bytes free, more than {artifact.size_bytes} needed"),
    ):
        sync(bucket.access, artifact, "digits", ReleaseStore(tmp_path / "disk/store"))


def test_a_store_on_a_read_only_disk_is_explained(bucket: Bucket, artifact, tmp_path):
    with small_disk(tmp_path / "disk", "2m"):
        subprocess.run(["mount", "-o", "remount,ro", tmp_path / "disk"], check=True)
        with pytest.raises(StoreError, match=r"Read-only file system.*writable"):
            sync(bucket.access, artifact, "digits", ReleaseStore(tmp_path / "disk/store"))


def test_a_limit_on_the_size_of_files_is_explained(bucket: Bucket, artifact, store):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(StoreError, match=r"File too large.*ulimit"):
            sync(bucket.access, artifact, "digits", store)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [path for path in store.root.rglob("*") if path.is_file()] == [store.root / "digits/.lock"]


def test_an_s3_that_goes_away_is_worth_a_retry(bucket: Bucket, artifact, store):
    impatient = TransferPolicy(attempts=2)
    with pytest.raises(ArtifactUnavailable, match="same call may work later") as failure:
        sync(bucket.elsewhere("http://127.0.0.1:1"), artifact, "digits", store, transfer=impatient)
    assert bucket.secret_key not in str(failure.value)
    assert_no_release_or_the_whole_one(store)


QUICK = TransferPolicy(
    part_bytes=PART_BYTES, parts_in_flight=1, attempts=3, first_pause=timedelta(milliseconds=1)
)


@pytest.mark.parametrize("fault", ["stall", "crawl"])
def test_a_part_that_does_not_come_in_time_is_read_again(bucket: Bucket, artifact, store, fault):
    impatient = replace(QUICK, part_timeout=timedelta(seconds=1), stall_timeout=timedelta(seconds=0.5))
    with faulty(bucket.endpoint, "none", fault) as proxy:
        release = sync(bucket.elsewhere(proxy.url), artifact, "digits", store, transfer=impatient).release
        assert proxy.requests > -(-artifact.size_bytes // PART_BYTES)
    assert store.verify(release) == ()


def test_a_flipped_bit_is_refused(bucket: Bucket, artifact, store):
    with faulty(bucket.endpoint, "none", "flip") as proxy, pytest.raises(ArtifactRefused, match="damaged"):
        sync(bucket.elsewhere(proxy.url), artifact, "digits", store, transfer=QUICK)
    assert store.releases("digits") == ()


@pytest.mark.parametrize("fault", ["503", "cut", "short", "long", "expired"])
def test_a_part_that_fails_is_read_again_and_no_other(bucket: Bucket, artifact, store, fault):
    parts = -(-artifact.size_bytes // PART_BYTES)
    with faulty(bucket.endpoint, "none", fault) as proxy:
        release = sync(bucket.elsewhere(proxy.url), artifact, "digits", store, transfer=QUICK).release
    assert store.verify(release) == ()
    assert proxy.requests == parts + 1


@pytest.mark.parametrize("fault", ["503", "cut", "short", "long", "expired"])
def test_a_part_that_fails_in_every_attempt_ends_the_sync(bucket: Bucket, artifact, store, fault):
    with (
        faulty(bucket.endpoint, *[fault] * 30) as proxy,
        pytest.raises(ArtifactUnavailable, match=r"faults/model\.tar\.gz") as failure,
    ):
        sync(bucket.elsewhere(proxy.url), artifact, "digits", store, transfer=QUICK)
    assert bucket.access_key not in str(failure.value)
    assert_no_release_or_the_whole_one(store)
    assert store.releases("digits") == ()


def test_a_part_that_is_denied_is_not_asked_for_again(bucket: Bucket, artifact, store):
    with (
        faulty(bucket.endpoint, "none", "403") as proxy,
        pytest.raises(ConfigurationError, match="access denied"),
    ):
        sync(bucket.elsewhere(proxy.url), artifact, "digits", store, transfer=QUICK)
    assert proxy.requests <= 3
