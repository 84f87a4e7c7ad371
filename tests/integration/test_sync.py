"""From an object in a real S3 to a release on disk."""

from __future__ import annotations

import hashlib
import io
import logging
import os
import tarfile
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from hybrid_provider.artifacts.archive import Limits
from hybrid_provider.artifacts.s3 import describe
from hybrid_provider.artifacts.store import ReleaseStore
from hybrid_provider.artifacts.sync import sync
from hybrid_provider.artifacts.transfer_policy import TransferPolicy
from hybrid_provider.exceptions import ArtifactChanged, ArtifactNotFound, ArtifactRefused, ConfigurationError

if TYPE_CHECKING:
    from tests.integration.s3bucket import Bucket

SMALL_PARTS = TransferPolicy(part_bytes=64 << 10, parts_in_flight=3)
WEIGHTS = os.urandom(1 << 20)
FILES = {"model.onnx": WEIGHTS, "code/inference.py": b"print('hello')\n", "empty": b""}


@pytest.fixture
def store(tmp_path):
    return ReleaseStore(tmp_path / "store")


def packed(files: dict[str, bytes], mode: str = "w:gz") -> bytes:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode=mode) as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return archive.getvalue()


def files_of(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def left_over(store: ReleaseStore):
    """Everything below the store but the lock: a failed sync leaves nothing."""
    return [path for path in store.root.rglob("*") if path.is_file() and path.name != ".lock"]


@pytest.mark.parametrize(("suffix", "mode"), [("tar.gz", "w:gz"), ("tgz", "w:gz"), ("tar", "w")])
def test_an_archive_becomes_a_release_of_its_files(bucket: Bucket, store, suffix, mode):
    bucket.put(f"archive/model.{suffix}", packed(FILES, mode))
    result = sync(bucket.access, bucket.uri(f"archive/model.{suffix}"), "digits", store, transfer=SMALL_PARTS)
    assert files_of(result.release.path) == FILES
    assert store.verify(result.release) == ()
    assert store.release("digits", "latest") == store.release("digits", "candidate") == result.release


def test_the_same_files_have_the_same_release_however_they_were_packed(bucket: Bucket, store):
    bucket.put("same/model.tar.gz", packed(FILES))
    bucket.put("same/model.tar", packed(dict(reversed(FILES.items())), "w"))
    for name, content in FILES.items():
        bucket.put(f"same/files/{name}", content)
    releases = {
        sync(bucket.access, bucket.uri(f"same/{form}"), "digits", store).release.release_id
        for form in ("model.tar.gz", "model.tar", "files/")
    }
    assert len(releases) == 1
    assert [release.release_id for release in store.releases("digits")] == list(releases)


def test_one_file_is_a_release_of_one_file(bucket: Bucket, store):
    bucket.put("single/model.onnx", WEIGHTS)
    release = sync(
        bucket.access, bucket.uri("single/model.onnx"), "digits", store, transfer=SMALL_PARTS
    ).release
    assert files_of(release.path) == {"model.onnx": WEIGHTS}


def test_a_second_sync_reads_nothing(bucket: Bucket, store):
    bucket.put("twice/model.tar.gz", packed(FILES))
    artifact = describe(bucket.access, bucket.uri("twice/model.tar.gz"))
    first = sync(bucket.access, artifact, "digits", store)
    second = sync(bucket.elsewhere("http://127.0.0.1:1"), artifact, "digits", store)
    assert second.release == first.release
    assert (first.reused_bytes, second.reused_bytes) == (0, artifact.size_bytes)


def test_an_object_replaced_while_it_is_read_is_not_a_release(bucket: Bucket, store):
    bucket.put("replaced/model.tar.gz", packed(FILES))
    replaced = []

    def put_another(progress):
        if not replaced:
            replaced.append(bucket.put("replaced/model.tar.gz", packed(FILES | {"other": b"x"})))

    with pytest.raises(ArtifactChanged, match="replaced"):
        sync(
            bucket.access,
            bucket.uri("replaced/model.tar.gz"),
            "digits",
            store,
            transfer=SMALL_PARTS,
            progress=put_another,
        )
    assert replaced
    assert left_over(store) == []


def test_an_object_removed_while_it_is_read_is_not_found(bucket: Bucket, store):
    bucket.put("removed/model.tar.gz", packed(FILES))

    def remove(progress):
        bucket.delete("removed/model.tar.gz")

    with pytest.raises(ArtifactNotFound, match="removed"):
        sync(
            bucket.access,
            bucket.uri("removed/model.tar.gz"),
            "digits",
            store,
            transfer=SMALL_PARTS,
            progress=remove,
        )
    assert left_over(store) == []


def test_a_version_is_read_although_it_was_replaced(bucket: Bucket, store):
    client = bucket.access.client("s3")
    client.create_bucket(Bucket="versioned")
    client.put_bucket_versioning(Bucket="versioned", VersioningConfiguration={"Status": "Enabled"})
    versioned = replace(bucket, name="versioned")
    versioned.put("model.onnx", b"first")
    artifact = describe(bucket.access, versioned.uri("model.onnx"))
    versioned.put("model.onnx", b"second")
    assert artifact.version_id is not None
    assert describe(bucket.access, artifact.uri, version_id=artifact.version_id) == artifact
    release = sync(bucket.access, artifact, "digits", store).release
    assert files_of(release.path) == {"model.onnx": b"first"}


def test_a_prefix_of_more_objects_than_allowed_is_refused(bucket: Bucket, store):
    for number in range(3):
        bucket.put(f"crowded/{number}", b"x")
    with pytest.raises(ArtifactRefused, match="3 objects, more than 2"):
        sync(bucket.access, bucket.uri("crowded/"), "digits", store, limits=Limits(files=2))


@pytest.mark.parametrize(
    ("names", "why"),
    [(["right\u202eleft"], "holds"), (["A/x", "a/y"], "differ only by case"), (["x", "X"], "only by case")],
)
def test_objects_under_a_prefix_with_names_that_not_every_host_can_hold_are_refused(
    bucket: Bucket, store, names, why
):
    folder = f"odd-{len(why)}{names[0][0]}/"
    for name in names:
        bucket.put(f"{folder}{name}", b"x")
    with pytest.raises(ArtifactRefused, match=why):
        sync(bucket.access, bucket.uri(folder), "digits", store)
    assert left_over(store) == []


def test_a_prefix_that_changed_since_it_was_looked_at_is_refused(bucket: Bucket, store):
    bucket.put("growing/a", b"1")
    artifact = describe(bucket.access, bucket.uri("growing/"))
    bucket.put("growing/b", b"2")
    with pytest.raises(ArtifactChanged, match="growing/"):
        sync(bucket.access, artifact, "digits", store)


def test_an_archive_with_another_checksum_than_expected_is_refused(bucket: Bucket, store):
    archive = packed(FILES)
    bucket.put("sum/model.tar.gz", archive)
    uri = bucket.uri("sum/model.tar.gz")
    with pytest.raises(ArtifactRefused, match="SHA-256"):
        sync(bucket.access, uri, "digits", store, expected_sha256="0" * 64)
    assert left_over(store) == []
    proven = hashlib.sha256(archive).hexdigest()
    reused = [
        sync(bucket.access, uri, "digits", store, expected_sha256=proven).reused_bytes for _ in range(2)
    ]
    assert reused == [0, len(archive)]
    with pytest.raises(ArtifactRefused, match="SHA-256"):
        sync(bucket.access, uri, "digits", store, expected_sha256="0" * 64)


def test_wrong_credentials_are_explained_and_leave_nothing(bucket: Bucket, store):
    bucket.put("secret/model.onnx", WEIGHTS)
    artifact = describe(bucket.access, bucket.uri("secret/model.onnx"))
    stranger = bucket.as_stranger()
    with pytest.raises(ConfigurationError, match="the credentials are refused"):
        sync(stranger, artifact, "digits", store)
    assert left_over(store) == []


@pytest.mark.parametrize(
    "key", ["with space.bin", "100%.bin", "a%20b.bin", "a+b&c=d.bin", "ä/é.bin", "#hash?q/w.bin"]
)
def test_keys_are_taken_as_they_are(bucket: Bucket, store, key):
    bucket.put(f"keys/{key}", b"content")
    release = sync(bucket.access, bucket.uri(f"keys/{key}"), "digits", store).release
    assert files_of(release.path) == {key.rpartition("/")[2]: b"content"}


def test_a_key_that_is_no_plain_path_is_a_mistake_with_a_remedy(bucket: Bucket, store):
    bucket.put("plain.bin", b"content")
    artifact = replace(describe(bucket.access, bucket.uri("plain.bin")), uri=bucket.uri("a//plain.bin"))
    with pytest.raises(ConfigurationError, match="rename the object"):
        sync(bucket.access, artifact, "digits", store)


def test_what_is_synced_again_is_the_candidate_again(bucket: Bucket, store):
    for name in ("older", "newer"):
        bucket.put(f"candidate/{name}.onnx", name.encode())
    older, newer, again = (
        sync(bucket.access, bucket.uri(f"candidate/{name}.onnx"), "digits", store).release
        for name in ("older", "newer", "older")
    )
    channel = store.channel("digits", "candidate")
    assert (channel.current, channel.previous) == (again.release_id, newer.release_id)
    assert again == older


def test_a_limit_on_the_rate_is_kept(bucket: Bucket, store):
    bucket.put("slow/model.onnx", WEIGHTS)
    slow = replace(SMALL_PARTS, max_bytes_per_second=len(WEIGHTS) * 5)
    result = sync(bucket.access, bucket.uri("slow/model.onnx"), "digits", store, transfer=slow)
    assert result.seconds >= 0.15
    assert store.verify(result.release) == ()


def test_no_secret_is_logged_even_at_debug_level(bucket: Bucket, store, caplog):
    caplog.set_level(logging.DEBUG)
    bucket.put("quiet/model.bin", b"weights")
    for number, key in enumerate(["quiet/model.bin", "quiet/"]):
        sync(bucket.access, bucket.uri(key), f"digits-{number}", store)
    assert "HEAD" in caplog.text  # boto3 told all that it tells
    assert bucket.secret_key not in caplog.text
