"""One object: a sync that was cut short goes on from the parts that it kept, and what came is what S3 took in."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from hybrid_provider.artifacts import checksum as checksums
from hybrid_provider.artifacts.reading import describe
from hybrid_provider.artifacts.store import ReleaseStore
from hybrid_provider.artifacts.sync import sync
from hybrid_provider.artifacts.transfer_policy import TransferPolicy
from hybrid_provider.exceptions import ArtifactRefused, ArtifactUnavailable
from tests.integration.fault_proxy import faulty
from tests.integration.test_sync import packed

if TYPE_CHECKING:
    from hybrid_provider.artifacts.artifact import Artifact
    from tests.integration.s3bucket import Bucket

PART_BYTES = 64 << 10
# Every transfer counts as a long one.
KEEPING = TransferPolicy(
    part_bytes=PART_BYTES,
    parts_in_flight=2,
    attempts=2,
    first_pause=timedelta(milliseconds=1),
    resumable_from=timedelta(0),
)
LARGE_PARTS = replace(KEEPING, part_bytes=2 << 20)
FILES = {f"weights-{number}.bin": os.urandom(200_000) for number in range(4)}
CHILD = Path(__file__).with_name("sync_child.py")
FORMS = {"model.tar.gz": "w:gz", "model.tar": "w"}


@pytest.fixture
def store(tmp_path):
    return ReleaseStore(tmp_path / "store")


@pytest.fixture(scope="module", params=FORMS)
def artifact(bucket: Bucket, request: pytest.FixtureRequest):
    bucket.put(f"resume/{request.param}", packed(FILES, FORMS[request.param]))
    return describe(bucket.access, bucket.uri(f"resume/{request.param}"), KEEPING)


def kept_parts(store: ReleaseStore) -> list[Path]:
    folders = [store.root / "digits" / name / "parts" for name in (".partial", ".staging")]
    return sorted(path for folder in folders for path in folder.glob("[0-9]*"))


def cut_short(bucket: Bucket, artifact, store: ReleaseStore) -> list[Path]:
    """A sync whose network breaks for good after six parts; those that it kept."""
    with (
        faulty(bucket.endpoint, *["none"] * 6, *["503"] * 30) as proxy,
        pytest.raises(ArtifactUnavailable),
    ):
        sync(bucket.elsewhere(proxy.url), artifact, "digits", store, transfer=KEEPING)
    assert store.releases("digits") == ()
    return kept_parts(store)


@pytest.mark.parametrize("at_part", [3, 8])
def test_a_killed_sync_goes_on_from_its_parts(bucket: Bucket, artifact, store, at_part):
    job = {
        "endpoint": bucket.endpoint,
        "keys": [bucket.access_key, bucket.secret_key],
        "artifact": artifact.to_dict(),
        "root": str(store.root),
        "part_bytes": PART_BYTES,
        "at_part": at_part,
        "act": "kill",
        "resumable_from": 0,
    }
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    killed = subprocess.run([sys.executable, CHILD, json.dumps(job)], env=environment, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert store.releases("digits") == ()
    assert len(kept_parts(store)) >= at_part - 2
    result = sync(bucket.access, artifact, "digits", store, transfer=KEEPING)
    assert result.reused_bytes >= (at_part - 2) * PART_BYTES
    assert store.verify(result.release) == ()
    assert kept_parts(store) == []


def test_after_a_broken_network_only_what_is_missing_is_fetched(bucket: Bucket, artifact, store):
    kept = cut_short(bucket, artifact, store)
    assert kept
    with faulty(bucket.endpoint) as proxy:
        result = sync(bucket.elsewhere(proxy.url), artifact, "digits", store, transfer=KEEPING)
        assert proxy.requests == -(-artifact.size_bytes // PART_BYTES) - len(kept)
    assert result.reused_bytes == len(kept) * PART_BYTES
    assert result.read_bytes == artifact.size_bytes - result.reused_bytes
    assert store.verify(result.release) == ()


def test_a_kept_part_that_rotted_or_was_cut_off_is_fetched_again(bucket: Bucket, artifact, store):
    first, second, *rest = cut_short(bucket, artifact, store)
    first.write_bytes(first.read_bytes()[:-1] + b"?")
    second.write_bytes(second.read_bytes()[:100])
    result = sync(bucket.access, artifact, "digits", store, transfer=KEEPING)
    assert result.reused_bytes == len(rest) * PART_BYTES
    assert store.verify(result.release) == ()


def test_another_object_begins_anew_and_says_so(bucket: Bucket, store, caplog):
    bucket.put("resume/replaced.tar", packed(FILES, "w"))
    uri = bucket.uri("resume/replaced.tar")
    assert cut_short(bucket, describe(bucket.access, uri, KEEPING), store)
    bucket.put("resume/replaced.tar", packed(FILES | {"more": b"more"}, "w"))
    with caplog.at_level("INFO", logger="hybrid_provider"):
        result = sync(bucket.access, uri, "digits", store, transfer=KEEPING)
    assert result.reused_bytes == 0
    assert "begins anew" in caplog.text


def test_a_short_transfer_is_written_once(bucket: Bucket, artifact, store):
    quick = replace(KEEPING, resumable_from=TransferPolicy().resumable_from)
    with (
        faulty(bucket.endpoint, *["none"] * 6, *["503"] * 30) as proxy,
        pytest.raises(ArtifactUnavailable),
    ):
        sync(bucket.elsewhere(proxy.url), artifact, "digits", store, transfer=quick)
    assert [path for path in store.root.rglob("*") if path.is_file()] == [store.root / "digits/.lock"]


@pytest.mark.parametrize("algorithm", ["CRC64NVME", "CRC32C", "CRC32", "SHA256", "SHA1"])
@pytest.mark.parametrize("key", ["model.tar", "model.onnx", "folder/"])
def test_a_flipped_bit_is_caught_by_the_checksum_of_the_store(bucket: Bucket, store, algorithm, key):
    """Neither a plain tar archive nor a single file has a checksum of its own."""
    s3, body = bucket.access.client("s3"), packed(FILES, "w")
    name = f"checksum/{algorithm}/{key}"
    full = f"{name}weights.bin" if key.endswith("/") else name
    s3.put_object(Bucket=bucket.name, Key=full, Body=body, ChecksumAlgorithm=algorithm)
    looks = ["none"] if key.endswith("/") else []
    artifact = describe(bucket.access, bucket.uri(name), KEEPING)
    with (
        faulty(bucket.endpoint, *looks, "none", "flip") as proxy,
        pytest.raises(ArtifactRefused, match=f"have {algorithm} .* the store says"),
    ):
        sync(bucket.elsewhere(proxy.url), artifact, "digits", store, transfer=KEEPING)
    assert store.releases("digits") == ()
    assert not kept_parts(store)
    assert sync(bucket.access, artifact, "digits", store, transfer=KEEPING).reused_bytes == 0


@pytest.mark.parametrize("key", ["model.tar", "folder/"])
def test_what_the_store_says_is_asked_for_while_the_bytes_come(bucket: Bucket, store, key):
    name = f"meanwhile/{key}"
    s3, body = bucket.access.client("s3"), os.urandom(300 << 10) if key.endswith("/") else packed(FILES, "w")
    full = f"{name}weights.bin" if key.endswith("/") else name
    s3.put_object(Bucket=bucket.name, Key=full, Body=body, ChecksumAlgorithm="CRC32")
    with faulty(bucket.endpoint) as proxy:
        proxy.late_checksums = True
        result = sync(bucket.elsewhere(proxy.url), bucket.uri(name), "digits", store, transfer=KEEPING)
    assert store.verify(result.release) == ()


SMALLEST_PART = 5 << 20


def uploaded_in_parts(bucket: Bucket, key: str, algorithm: str, *bodies: bytes) -> Artifact:
    """An object whose checksum is that of the checksums of its parts."""
    s3, named = bucket.access.client("s3"), {"Bucket": bucket.name, "Key": key}
    upload = {
        **named,
        "UploadId": s3.create_multipart_upload(**named, ChecksumAlgorithm=algorithm)["UploadId"],
    }
    parts = []
    for number, body in enumerate(bodies, start=1):
        done = s3.upload_part(**upload, PartNumber=number, Body=body, ChecksumAlgorithm=algorithm)
        field = f"Checksum{algorithm}"
        parts.append({"PartNumber": number, "ETag": done["ETag"], field: done[field]})
    s3.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts})
    return describe(bucket.access, bucket.uri(key), LARGE_PARTS)


@pytest.mark.parametrize("algorithm", ["CRC32", "CRC32C", "SHA256", "SHA1"])
def test_a_flipped_bit_is_caught_by_the_checksum_over_the_parts_of_an_upload(
    bucket: Bucket, store, algorithm
):
    body = os.urandom(2 * SMALLEST_PART + 100)
    artifact = uploaded_in_parts(
        bucket,
        f"checksum/parts/{algorithm}.bin",
        algorithm,
        *(body[at : at + SMALLEST_PART] for at in range(0, len(body), SMALLEST_PART)),
    )
    with (
        faulty(bucket.endpoint, "none", "flip") as proxy,
        pytest.raises(ArtifactRefused, match=f"have {algorithm} .* the store says"),
    ):
        sync(bucket.elsewhere(proxy.url), artifact, "digits", store, transfer=LARGE_PARTS)
    release = sync(bucket.access, artifact, "digits", store, transfer=LARGE_PARTS).release
    assert (release.path / f"{algorithm}.bin").read_bytes() == body


def test_parts_of_several_lengths_are_no_reason_to_refuse_an_object(bucket: Bucket, store, caplog):
    bodies = [os.urandom(SMALLEST_PART + 500), os.urandom(SMALLEST_PART + 100), os.urandom(1000)]
    artifact = uploaded_in_parts(bucket, "checksum/uneven.bin", "CRC32", *bodies)
    release = sync(bucket.access, artifact, "digits", store, transfer=LARGE_PARTS).release
    assert (release.path / "uneven.bin").read_bytes() == b"".join(bodies)
    assert "not compared" in caplog.text


def test_a_flipped_bit_of_a_small_object_is_caught_by_its_etag(bucket: Bucket, store):
    bucket.put("etag/small.txt", b"0123456789")
    artifact = describe(bucket.access, bucket.uri("etag/"), KEEPING)
    with (
        faulty(bucket.endpoint, "none", "flip") as proxy,
        pytest.raises(ArtifactRefused, match=r"small\.txt.*the store says"),
    ):
        sync(bucket.elsewhere(proxy.url), artifact, "digits", store, transfer=KEEPING)


def test_without_aws_own_library_its_checksums_are_left_out_with_a_warning(
    bucket: Bucket, store, monkeypatch, caplog
):
    monkeypatch.setattr(checksums, "_crc", lambda _: None)
    s3 = bucket.access.client("s3")
    s3.put_object(
        Bucket=bucket.name, Key="checksum/unknown.tar", Body=packed(FILES, "w"), ChecksumAlgorithm="CRC64NVME"
    )
    assert sync(bucket.access, bucket.uri("checksum/unknown.tar"), "digits", store).release
    assert "hybrid[checksums]" in caplog.text
