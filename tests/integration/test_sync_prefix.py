"""A prefix of objects: what is on the disk already is linked, and a sync that was cut short goes on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from hybrid_provider.artifacts import folder as folders
from hybrid_provider.artifacts.reading import describe
from hybrid_provider.artifacts.store import ReleaseStore
from hybrid_provider.artifacts.sync import sync
from hybrid_provider.artifacts.transfer_policy import TransferPolicy
from hybrid_provider.exceptions import ArtifactChanged, ArtifactRefused, ArtifactUnavailable
from tests.integration.fault_proxy import faulty

if TYPE_CHECKING:
    from tests.integration.s3bucket import Bucket

PART_BYTES = 64 << 10
QUICK = TransferPolicy(
    part_bytes=PART_BYTES, parts_in_flight=2, attempts=2, first_pause=timedelta(milliseconds=1)
)
SIZE = 100_000
CHILD = Path(__file__).with_name("sync_child.py")


@pytest.fixture
def store(tmp_path):
    return ReleaseStore(tmp_path / "store")


@pytest.fixture
def prefix(bucket: Bucket, request: pytest.FixtureRequest) -> str:
    """Five objects of two parts each."""
    key = f"prefix/{request.node.name.translate(str.maketrans('[]', '--'))}/"
    for number in range(5):
        bucket.put(f"{key}weights-{number}.bin", os.urandom(SIZE))
    return key


def left_over(store: ReleaseStore):
    return [path for path in (store.root / "digits").iterdir() if path.name in {".staging", ".partial"}]


def inodes(release):
    return {path.name: path.stat().st_ino for path in release.path.rglob("*") if path.is_file()}


def test_the_next_release_fetches_only_what_changed(bucket: Bucket, store, prefix):
    first = sync(bucket.access, bucket.uri(prefix), "digits", store, transfer=QUICK).release
    bucket.put(f"{prefix}weights-3.bin", os.urandom(SIZE))
    result = sync(bucket.access, bucket.uri(prefix), "digits", store, transfer=QUICK)
    assert (result.read_bytes, result.reused_bytes) == (SIZE, 4 * SIZE)
    assert store.verify(result.release) == ()
    old, new = inodes(first), inodes(result.release)
    assert {name for name in old if old[name] == new[name]} == {f"weights-{n}.bin" for n in (0, 1, 2, 4)}


def test_a_prefix_given_by_its_uri_is_listed_once_and_so_is_an_artifact(bucket: Bucket, store, prefix):
    """That of an artifact is the comparison with what it was when it was looked at."""
    with faulty(bucket.endpoint) as proxy:
        access = bucket.elsewhere(proxy.url)
        release = sync(access, bucket.uri(prefix), "digits", store, transfer=QUICK).release
        assert proxy.listings == 1
        assert store.verify(release) == ()
        sync(access, describe(bucket.access, bucket.uri(prefix), QUICK), "other", store, transfer=QUICK)
        assert proxy.listings == 2


def synced_while_another_is_put(bucket: Bucket, store, prefix, name):
    """The release of a prefix, under which an object is put when its first bytes come."""
    put = []

    def put_another(progress):
        if not put:
            put.append(bucket.put(f"{prefix}{name}", os.urandom(SIZE)))

    release = sync(
        bucket.access, bucket.uri(prefix), "digits", store, transfer=QUICK, progress=put_another
    ).release
    assert put
    return release


def test_an_object_of_a_prefix_that_was_replaced_since_it_was_listed_is_refused(bucket, store, prefix):
    with pytest.raises(ArtifactChanged, match=r"weights-4\.bin was replaced while it was being read"):
        synced_while_another_is_put(bucket, store, prefix, "weights-4.bin")
    assert store.release_ids("digits") == ()
    assert left_over(store) == []


def test_an_object_that_came_after_the_listing_is_in_the_next_release(bucket, store, prefix):
    before = synced_while_another_is_put(bucket, store, prefix, "weights-5.bin")
    assert [file.path for file in before.manifest.files] == [f"weights-{n}.bin" for n in range(5)]
    after = sync(bucket.access, bucket.uri(prefix), "digits", store, transfer=QUICK)
    assert (len(after.release.manifest.files), after.read_bytes) == (6, SIZE)


def test_a_file_that_rotted_on_the_disk_is_fetched_again(bucket: Bucket, store, prefix):
    first = sync(bucket.access, bucket.uri(prefix), "digits", store, transfer=QUICK).release
    (first.path / "weights-0.bin").write_bytes(bytes(SIZE))
    bucket.put(f"{prefix}more.bin", b"more")
    result = sync(bucket.access, bucket.uri(prefix), "digits", store, transfer=QUICK)
    assert result.read_bytes == SIZE + len(b"more")
    assert store.verify(result.release) == ()


def test_where_no_hard_link_can_be_made_the_file_is_copied(bucket: Bucket, store, prefix, monkeypatch):
    def refuse(*_, **__):
        raise OSError(95, "not supported")

    first = sync(bucket.access, bucket.uri(prefix), "digits", store, transfer=QUICK).release
    bucket.put(f"{prefix}more.bin", b"more")
    monkeypatch.setattr(folders.os, "link", refuse)
    result = sync(bucket.access, bucket.uri(prefix), "digits", store, transfer=QUICK)
    assert result.read_bytes == len(b"more")
    assert store.verify(result.release) == ()
    assert not set(inodes(first).values()) & set(inodes(result.release).values())


@pytest.mark.parametrize("at_part", [3, 6, 9])
def test_a_killed_sync_is_continued(bucket: Bucket, store, prefix, at_part):
    artifact = describe(bucket.access, bucket.uri(prefix), QUICK)
    kill_after(bucket, artifact, store, at_part)
    assert store.releases("digits") == ()
    result = sync(bucket.access, artifact, "digits", store, transfer=QUICK)
    assert result.reused_bytes >= SIZE
    assert result.reused_bytes % SIZE == 0
    assert store.verify(result.release) == ()
    assert left_over(store) == []


def kill_after(bucket: Bucket, artifact, store: ReleaseStore, at_part: int) -> None:
    job = {
        "endpoint": bucket.endpoint,
        "keys": [bucket.access_key, bucket.secret_key],
        "artifact": artifact.to_dict(),
        "root": str(store.root),
        "part_bytes": PART_BYTES,
        "at_part": at_part,
        "act": "kill",
    }
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    killed = subprocess.run([sys.executable, CHILD, json.dumps(job)], env=environment, check=False)
    assert killed.returncode == -signal.SIGKILL


@pytest.mark.parametrize("bound", ["MAX_LISTED", "MAX_KEYS_BYTES"])
@pytest.mark.parametrize("marker", [False, True], ids=["obstore", "boto3"])
def test_a_listing_that_does_not_fit_into_memory_is_refused(
    bucket: Bucket, store, monkeypatch, bound, marker
):
    """A folder's marker is what obstore does not tell from a file: boto3 lists then."""
    prefix = f"long/{bound}/{marker}/"
    if marker:
        bucket.put(prefix + "sub/", b"")
    for number in range(3):
        bucket.put(f"{prefix}sub/{number}", b"x")
    monkeypatch.setattr(f"hybrid_provider.artifacts.objects.{bound}", 2)
    with pytest.raises(ArtifactRefused, match=f"{prefix} holds more than .*give a prefix with fewer"):
        sync(bucket.access, bucket.uri(prefix), "digits", store)
    assert store.release_ids("digits") == ()


def test_what_a_killed_sync_left_is_verified_before_it_is_kept(bucket: Bucket, store, prefix):
    artifact = describe(bucket.access, bucket.uri(prefix), QUICK)
    kill_after(bucket, artifact, store, 9)
    for path in (store.root / "digits/.staging").rglob("*.bin"):
        path.write_bytes(path.read_bytes()[:-1] + b"?")
    result = sync(bucket.access, artifact, "digits", store, transfer=QUICK)
    assert result.reused_bytes == 0
    assert store.verify(result.release) == ()


def test_after_a_broken_network_a_retry_goes_on(bucket: Bucket, store, prefix):
    artifact = describe(bucket.access, bucket.uri(prefix), QUICK)
    with (
        faulty(bucket.endpoint, *["none"] * 7, *["503"] * 30) as proxy,
        pytest.raises(ArtifactUnavailable),
    ):
        sync(bucket.elsewhere(proxy.url), artifact, "digits", store, transfer=QUICK)
    result = sync(bucket.access, artifact, "digits", store, transfer=QUICK)
    assert result.reused_bytes >= SIZE
    assert store.verify(result.release) == ()
    assert left_over(store) == []


def test_what_was_refused_leaves_nothing_nor_does_what_was_killed_before(bucket: Bucket, store, prefix):
    kill_after(bucket, describe(bucket.access, bucket.uri(prefix), QUICK), store, 3)
    assert left_over(store) != []
    bucket.put(f"{prefix}wrong\u202ename", b"x")
    with pytest.raises(ArtifactRefused):
        sync(bucket.access, bucket.uri(prefix), "digits", store, transfer=QUICK)
    assert left_over(store) == []
