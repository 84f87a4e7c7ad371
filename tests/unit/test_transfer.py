"""How objects are cut into parts, and how obstore is told what boto3 knows."""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import wait
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import boto3
import pytest
from botocore.config import Config

from hybrid_provider.artifacts import bucket as buckets
from hybrid_provider.artifacts import transfer
from hybrid_provider.artifacts.bucket import open_bucket
from hybrid_provider.artifacts.objects import StoredObject
from hybrid_provider.artifacts.s3 import S3Location
from hybrid_provider.artifacts.transfer import Download, Part, _Pace, batches_of, parts_of
from hybrid_provider.artifacts.transfer_policy import TransferPolicy
from hybrid_provider.aws import AwsAccess
from hybrid_provider.exceptions import ConfigurationError

NOWHERE = "http://127.0.0.1:1"


def stored(size_bytes: int, key: str = "k") -> StoredObject:
    return StoredObject(
        location=S3Location("models", key),
        size_bytes=size_bytes,
        etag="e",
        version_id=None,
        last_modified=datetime(2026, 1, 1, tzinfo=UTC),
    )


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [([0], [(0, 0)]), ([1], [(0, 1)]), ([10], [(0, 10)]), ([11], [(0, 10), (10, 11)]), ([5, 0, 20], [(0, 5), (0, 0), (0, 10), (10, 20)])],
)  # fmt: skip
def test_parts_cover_every_byte_once_in_order(sizes, expected):
    assert [(part.start, part.end) for part in parts_of([stored(size) for size in sizes], 10)] == expected


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [([], []), ([25], [[10], [10], [5]]), ([4, 6, 1, 0, 10, 3], [[4, 6], [1, 0], [10], [3]]), ([0] * 17, [[0] * 16, [0]])],
)  # fmt: skip
def test_small_parts_come_together_and_no_batch_is_longer_than_a_part(sizes, expected):
    batches = batches_of(parts_of([stored(size) for size in sizes], 10), 10)
    assert [[part.size_bytes for part in batch] for batch in batches] == expected


def test_the_first_part_comes_in_pieces_and_all_others_lie_on_their_multiples():
    mib = 1 << 20
    parts = parts_of([stored(40 * mib), stored(17 * mib)], 16 * mib)
    assert [(part.start // mib, part.end // mib) for part in parts] == [
        (0, 1), (1, 4), (4, 16), (16, 32), (32, 40), (0, 16), (16, 17)
    ]  # fmt: skip
    assert [part.end for part in parts_of([stored(2 * mib)], 3 * mib)] == [mib, 2 * mib]


def test_pieces_of_one_object_are_not_waited_for_together():
    parts = list(parts_of([stored(16 << 20)], 16 << 20))
    assert list(batches_of(parts, 16 << 20)) == [[part] for part in parts]


def is_true(option: object) -> bool:
    """obstore hands options back as text."""
    return {"true": True, "false": False}[str(option).lower()]


def access(endpoint: str | None = None, **config) -> AwsAccess:
    session = boto3.Session("AKIA", "secret", region_name="eu-central-1")
    endpoints = {"s3": endpoint} if endpoint else {}
    return AwsAccess(session=session, config=Config(**config), endpoints=endpoints)


@pytest.mark.parametrize(
    ("bucket", "endpoint", "config", "url", "virtual"),
    [
        ("models", None, {}, "https://models.s3.eu-central-1.amazonaws.com", True),
        ("my.models", None, {}, "https://s3.eu-central-1.amazonaws.com", False),
        ("models", None, {"s3": {"addressing_style": "path"}}, "https://s3.eu-central-1.amazonaws.com", False),
        ("models", "https://minio.site:9000", {}, "https://minio.site:9000", False),
        ("models", "https://minio.site:9000", {"s3": {"addressing_style": "virtual"}}, "https://models.minio.site:9000", True),
        ("models", "https://amazonaws.com.evil.site", {}, "https://amazonaws.com.evil.site", False),
    ],
)  # fmt: skip
def test_addressing_is_as_in_boto3(bucket, endpoint, config, url, virtual):
    opened = open_bucket(access(endpoint, **config), bucket, TransferPolicy())
    assert opened.config["endpoint"] == url
    assert is_true(opened.config["virtual_hosted_style_request"]) is virtual
    assert opened.config["region"] == "eu-central-1"


def test_no_environment_variable_of_obstore_decides(monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT", "https://evil.site")
    monkeypatch.setenv("AWS_SKIP_SIGNATURE", "true")
    monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
    opened = open_bucket(access(), "models", TransferPolicy())
    assert "evil" not in str(opened.config)
    assert is_true(opened.config["skip_signature"]) is False
    assert is_true(opened.client_options["allow_http"]) is False


def test_plain_http_is_allowed_only_where_the_endpoint_is_http():
    opened = open_bucket(access("http://127.0.0.1:1"), "models", TransferPolicy())
    assert is_true(opened.client_options["allow_http"])


def test_certificates_and_proxies_are_those_of_the_connection(tmp_path):
    bundle = tmp_path / "ca.pem"
    bundle.write_text("-----BEGIN CERTIFICATE-----\n")
    base = access(proxies={"https": "http://proxy.site:3128"})

    def options(verify):
        client = base.client("s3")
        return buckets._client_options(
            client, AwsAccess(session=base.session, verify=verify), TransferPolicy()
        )

    assert options(False)["allow_invalid_certificates"]
    assert options(str(bundle))["root_certificate"] == bundle.read_bytes()
    assert "allow_invalid_certificates" not in options(True)
    assert options(None)["proxy_url"] == "http://proxy.site:3128"


def test_a_bundle_that_is_not_there_is_named():
    base = access()
    with pytest.raises(ConfigurationError, match=r"/no/such/ca\.pem"):
        open_bucket(AwsAccess(session=base.session, verify="/no/such/ca.pem"), "models", TransferPolicy())


def test_credentials_are_asked_for_again_within_five_minutes():
    rotating = iter(["one", "two"])
    credentials = SimpleNamespace(
        get_frozen_credentials=lambda: SimpleNamespace(access_key=next(rotating), secret_key="s", token="t")
    )
    provider = buckets._Boto3Credentials(credentials)
    first, second = provider(), provider()
    assert (first["access_key_id"], second["access_key_id"]) == ("one", "two")
    assert first["expires_at"] <= datetime.now(UTC) + timedelta(minutes=5)


def test_no_credentials_are_a_mistake_with_a_remedy():
    session = SimpleNamespace(get_credentials=lambda: None, client=access().session.client)
    with pytest.raises(ConfigurationError, match="aws connection"):
        open_bucket(AwsAccess(session=session), "models", TransferPolicy())


def test_a_limit_on_the_rate_holds_for_all_requests_together_and_is_no_stall():
    slow = TransferPolicy(max_bytes_per_second=100_000, part_bytes=1_000_000, parts_in_flight=4)
    assert slow.request_timeout - slow.part_timeout == timedelta(seconds=80)
    with pytest.raises(ConfigurationError, match="above 0"):
        TransferPolicy(max_bytes_per_second=0)

    async def take(pace):
        await asyncio.gather(*(pace.take(10) for _ in range(4)))

    began = time.monotonic()
    asyncio.run(take(_Pace(1000)))
    assert time.monotonic() - began >= 0.04


def test_a_part_is_asked_for_whole_where_bytes_come_fast_and_else_in_pieces():
    item, mib = stored(3 << 20), 1 << 20

    def asked_for(download):
        return [piece.size_bytes // mib for piece in download._pieces(Part(item, 0, item.size_bytes))]

    with Download(access(NOWHERE), item.location, (), TransferPolicy()) as download:
        assert asked_for(download) == [1, 1, 1], "how fast it is is not known yet"
        download._judge(mib, seconds=0.3)
        assert asked_for(download) == [3]
        download._judge(4096, seconds=10)
        assert asked_for(download) == [3], "a small object says nothing"
        pieces = download._pieces(Part(item, 0, item.size_bytes))
        download._judge(12 * mib, seconds=6)
        assert [next(pieces).size_bytes, asked_for(download)] == [mib, [1, 1, 1]]
    with Download(access(NOWHERE), item.location, (), TransferPolicy(max_bytes_per_second=mib)) as download:
        download._judge(mib, seconds=0)
        assert asked_for(download) == [1, 1, 1], "a limit is not overdrawn by whole parts"


@contextmanager
def reading(parts: int, most: int):
    """A download of parts that come without a network, each when its event is set."""
    item = stored(parts * 10)
    comes = {part.start: threading.Event() for part in parts_of([item], 10)}

    def come(part: Part) -> memoryview:
        comes[part.start].wait()
        return memoryview(b"x" * part.size_bytes)

    policy = TransferPolicy(part_bytes=10, parts_in_flight=most)
    with Download(access(NOWHERE), item.location, parts_of([item], 10), policy, kept=come) as download:
        try:
            yield download, list(comes.values())
        finally:
            for event in comes.values():
                event.set()


def test_a_reader_that_never_waits_has_two_parts_under_way():
    under_way = []
    with reading(parts=20, most=8) as (download, comes):
        for event in comes:
            event.set()
        for _ in download:
            under_way.append(len(download._pending))
            wait(download._pending)
    assert max(under_way) <= 3, "two, and one for the first, which cannot but be awaited"


def test_a_reader_that_waits_has_one_more_under_way_each_time_up_to_the_most(monkeypatch):
    under_way = []
    with reading(parts=20, most=5) as (download, comes):
        events = iter(comes)

        def come_once_it_is_awaited(futures, _seconds):
            next(events).set()
            return wait(futures)

        monkeypatch.setattr(transfer, "wait", come_once_it_is_awaited)
        parts = iter(download)
        for _ in range(15):
            next(parts)
            under_way.append(len(download._pending))
    assert under_way[:5] == [3, 4, 5, 5, 5]
    assert max(under_way) == 5
