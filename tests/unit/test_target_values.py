"""The plain values of targets: quoting, folders, addresses, tar streams and what scripts answer."""

from __future__ import annotations

import asyncio
import gc
import io
import random
import shlex
import subprocess
import tarfile
import threading
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid_provider.artifacts.manifest import Manifest, ManifestFile
from hybrid_provider.exceptions import ConfigurationError, InvalidName
from hybrid_provider.targets import tarstream
from hybrid_provider.targets.answers import read_phase, read_preflight
from hybrid_provider.targets.local import LocalTarget
from hybrid_provider.targets.shell import checked_folder, script
from hybrid_provider.targets.ssh import SshAddress, SshTarget
from hybrid_provider.targets.target import Order
from hybrid_provider.targets.tarstream import parts_of, rest_stream, tar_stream
from tests.releases import make_release

HOSTILE = ["; rm -rf ~", "$(reboot)", "`id`", "a'b", 'a"b', "a\nb", "-rf", "*", "\\", "${IFS}", "a b"]


@pytest.mark.parametrize("value", HOSTILE)
def test_a_value_reaches_the_shell_as_it_is(value):
    text = script(variables={"model": value}) + '\nprintf %s "$model"'
    assert subprocess.run(["sh", "-c", text], capture_output=True, text=True, check=True).stdout == value


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="\0")))
def test_any_text_is_one_word_of_a_script(value):
    assert shlex.split(script(variables={"model": value})) == [f"model={value}"]


def test_a_nul_and_a_strange_variable_are_refused():
    with pytest.raises(ConfigurationError):
        script(variables={"model": "a\0b"})
    with pytest.raises(ValueError, match="no shell variable"):
        script(variables={"a;b": "1"})


@pytest.mark.parametrize("folder", ["models", "/srv/models", "srv/.models/a-b_c", "/srv/models/"])
def test_a_plain_folder_is_taken(folder):
    assert checked_folder(folder) == folder


@pytest.mark.parametrize(
    "folder", ["", "/", "../x", "a/../b", "~/models", "a//b", "-rf", "a b", "a;b", "$HOME", "a\n"]
)
def test_any_other_folder_is_refused(folder):
    with pytest.raises(ConfigurationError, match="base folder"):
        checked_folder(folder)


@pytest.mark.parametrize("host", ["../etc", "edge 1", "edge;rm", "-oProxyCommand=id", "", "a..b"])
def test_a_host_that_is_no_name_is_refused(host):
    with pytest.raises(InvalidName, match="no host name"):
        SshAddress(host=host, user="model", host_keys=("ssh-ed25519 AAAA",))


def test_a_host_without_a_known_key_is_refused_with_the_remedy():
    with pytest.raises(ConfigurationError, match="ssh-keyscan -p 2222 -t ed25519 edge-01"):
        SshAddress(host="edge-01", port=2222, user="model", host_keys=())


@pytest.mark.parametrize("name", HOSTILE)
def test_a_target_s_name_is_checked(name):
    address = SshAddress(host="edge-01", user="model", host_keys=("ssh-ed25519 AAAA",))
    with pytest.raises(InvalidName):
        SshTarget(name=name, address=address)
    with pytest.raises(InvalidName):
        LocalTarget(name=name)


def test_an_address_shows_no_secret():
    address = SshAddress(
        host="edge-01", user="model", host_keys=("k",), password="pw-1", private_key="pk-2", passphrase="pp-3"
    )
    assert not any(secret in repr(address) for secret in ("pw-1", "pk-2", "pp-3"))


@pytest.mark.parametrize("field", ["model", "release", "rollout"])
def test_an_order_takes_no_name_outside_the_grammar(tmp_path, field):
    release = make_release(tmp_path, {"m": b"1"}, model="../x" if field == "model" else "digits")
    if field == "release":
        object.__setattr__(release, "release_id", "$(id)")
    with pytest.raises(InvalidName, match=field):
        Order(
            model=release.model,
            release=release,
            rollout="r;1" if field == "rollout" else "r-1",
            healthy_deadline=timedelta(seconds=1),
            lease=timedelta(seconds=1),
            keep_releases=1,
        )


def test_a_tar_stream_is_what_tar_reads(tmp_path):
    release = make_release(
        tmp_path, {"a/" + "long" * 50 + "/" + "x" * 120: b"1" * 1000, "empty": b"", "ü": b"2" * 3_000_000}
    )
    told = []

    async def collect():
        parts = parts_of(release.manifest)
        return b"".join(
            [chunk async for chunk in tar_stream(release.path, release.manifest, parts, told.append)]
        )

    with tarfile.open(fileobj=io.BytesIO(asyncio.run(collect())), mode="r:", encoding="utf-8") as archive:
        content = {member.name: archive.extractfile(member).read() for member in archive}
    assert content.pop("manifest").decode() == release.manifest.text()
    assert content.pop("links") == b""
    checked = b"".join(content.pop(f"check/{number}") for number in range(3)).decode().splitlines()
    assert sorted(checked) == sorted(f"{file.sha256}  ./{file.path}" for file in release.manifest.files)
    assert content == {
        f"files/{file.path}": (release.path / file.path).read_bytes() for file in release.manifest.files
    }
    assert sum(told) == release.manifest.size_bytes


def test_a_file_shorter_than_its_manifest_stops_the_stream(tmp_path):
    release = make_release(tmp_path, {"m": b"12345"})
    (release.path / "m").write_bytes(b"123")

    async def drain():
        parts = parts_of(release.manifest)
        async for _ in tar_stream(release.path, release.manifest, parts, lambda _: None):
            pass

    with pytest.raises(OSError, match="2 bytes shorter"):
        asyncio.run(drain())


def test_targets_that_are_sent_the_same_at_once_share_what_is_read(tmp_path, monkeypatch):
    release = make_release(tmp_path, {"m": random.Random(1).randbytes(3_500_000)})
    expected = (release.path / "m").read_bytes()
    read, reads, begun = tarstream._read, [], threading.Event()

    def read_and_tell(path, start):
        reads.append(start)
        begun.set()
        return read(path, start)

    monkeypatch.setattr(tarstream, "_read", read_and_tell)

    async def sent():
        content = b""
        async for chunk in tar_stream(
            release.path, release.manifest, parts_of(release.manifest), lambda _: None
        ):
            content += chunk
            await asyncio.sleep(0)
        return content

    async def all_of_them():
        given_up = asyncio.create_task(sent())
        others = asyncio.gather(*(sent() for _ in range(8)))
        await asyncio.to_thread(begun.wait)
        given_up.cancel()
        contents = await others
        del given_up  # an error keeps what its frames had
        gc.collect()
        assert not tarstream._pieces[asyncio.get_running_loop()], "the worker keeps what nobody needs"
        return contents

    for content in asyncio.run(all_of_them()):
        assert expected in content
    assert sorted(reads) == [0, 2**20, 2 * 2**20, 3 * 2**20]


def test_the_rest_of_a_file_is_padded_as_a_file_of_its_own(tmp_path):
    release = make_release(tmp_path, {"m": random.Random(1).randbytes(2_000_000)})
    (file,) = release.manifest.files

    async def rest():
        return b"".join([chunk async for chunk in rest_stream(release.path, file, lambda _: None, 1_000_001)])

    content = asyncio.run(rest())
    with tarfile.open(fileobj=io.BytesIO(content), mode="r:") as archive:
        assert archive.extractfile("rest").read() == (release.path / "m").read_bytes()[1_000_001:]
    assert len(content) % 512 == 0


def test_only_what_is_not_there_travels():
    there = Manifest.of([ManifestFile("old/name", 5, "a" * 64), ManifestFile("gone", 7, "b" * 64)])
    wanted = Manifest.of(
        [
            ManifestFile("n/name", 5, "a" * 64),
            ManifestFile("new", 3, "c" * 64),
            ManifestFile("e", 0, "d" * 64),
        ]
    )
    parts = parts_of(wanted, {"r0": there})
    assert parts.linked == {"n/name": "releases/r0/old/name"}
    assert {file.path for file in parts.sent} == {"new", "e"}
    assert (parts.sent_bytes, parts.linked_bytes) == (3, 5)


def test_a_preflight_s_answer_is_read():
    manifest = Manifest.of([ManifestFile("m", 1, "a" * 64)])
    found = read_preflight(
        f"undone r9\nepoch 17\ncurrent r1\ncommitted {'f' * 64} 90\npresent\nfree 10 4096 0 0\nmanifests\nmanifest r1\n{manifest.text()}",
        "f" * 64,
    )
    assert (found.epoch, found.free_bytes, found.manifests) == (17, 40960, {"r1": manifest})
    assert found.readiness.current == "r1"
    assert found.readiness.committed
    assert found.readiness.present
    assert found.readiness.live == timedelta(seconds=90)
    assert found.readiness.undone == "r9"


def test_a_preflight_of_an_empty_host_is_read():
    found = read_preflight("epoch 1\ncurrent \nfree 1 1 9 8\n", "f" * 64)
    assert found.readiness.current is None
    assert not found.readiness.committed
    assert found.manifests == {}


def test_a_manifest_that_was_tampered_with_links_nothing():
    assert (
        read_preflight("epoch 1\nmanifests\nmanifest r1\nhybrid-manifest/1\nnonsense\n", "f").manifests == {}
    )


def test_a_phase_and_its_reason_are_read():
    assert read_phase("phase reverted the worker asked for it\n") == ("reverted", "the worker asked for it")
    assert read_phase("phase active \n") == ("active", "")
