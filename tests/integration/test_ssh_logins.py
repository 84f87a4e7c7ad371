"""How a worker comes to a host and proves itself, and a host to the worker, on real sshds."""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import timedelta

import pytest

from hybrid_provider.exceptions import (
    TargetRefused,
    TargetUnreachable,
)
from hybrid_provider.targets.local import LocalShell
from hybrid_provider.targets.ssh import SshShell, SshTarget
from hybrid_provider.targets.target import Placement
from tests.integration.posixtargets import order_of
from tests.integration.sshhosts import make_key, with_passphrase
from tests.releases import make_release
from tests.servers import free_port


@pytest.fixture
def release(tmp_path):
    return make_release(
        tmp_path / "store",
        {"model.onnx": os.urandom(700_000), "a b/ü 'quoted' $(name)": b"odd", "empty": b""},
    )


async def test_another_host_key_is_refused_with_both_fingerprints(host, release, tmp_path):
    other = make_key(tmp_path / "other")
    spec = SshTarget(name="edge", address=replace(host.address, host_keys=(other,)))
    with pytest.raises(
        TargetRefused,
        match=r"edge: .*expected ssh-ed25519 SHA256:.*offers ssh-ed25519 SHA256:.*ssh-keygen -lf",
    ):
        await spec.open(Placement()).preflight(order_of(release))


async def test_a_key_that_the_host_does_not_know_is_refused(host, release, tmp_path):
    make_key(tmp_path / "stranger")
    address = replace(host.address, key_file=tmp_path / "stranger")
    with pytest.raises(TargetRefused, match="does not let user 'root' in"):
        await SshTarget(name="edge", address=address).open(Placement()).preflight(order_of(release))


async def test_a_private_key_given_as_text_with_its_passphrase_logs_in(host, target, release, tmp_path):
    locked = with_passphrase(host.key_file, tmp_path / "locked", "secret words")
    text = replace(host.address, key_file=None, private_key=locked.read_text())
    opened = replace(target, address=replace(text, passphrase="secret words")).open(Placement())
    await opened.preflight(order_of(release))
    await opened.finish(order_of(release))
    await opened.close()
    with pytest.raises(TargetRefused, match="passphrase") as refused:
        await (
            replace(target, address=replace(text, passphrase="wrong"))
            .open(Placement())
            .preflight(order_of(release))
        )
    assert "wrong" not in str(refused.value)
    assert "secret" not in repr(replace(text, passphrase="secret words"))


async def test_a_host_that_is_not_there_is_unreachable(host, release):
    port = free_port()
    spec = SshTarget(name="edge", address=replace(host.address, port=port))
    with pytest.raises(TargetUnreachable, match=f"edge: no connection to 127.0.0.1:{port}"):
        await spec.open(Placement()).preflight(order_of(release))


async def test_a_command_that_does_not_end_meets_its_limit_on_any_shell(host, tmp_path):
    for shell in (SshShell("edge", host.address), LocalShell(name="local", home=tmp_path)):
        with pytest.raises(TargetUnreachable, match="did not end within"):
            await shell.run("sleep 1000", limit=timedelta(seconds=0.3))
        assert (await shell.run("echo again")).stdout == "again\n"
        await shell.close()


async def test_a_host_that_answers_without_end_does_not_fill_the_worker_s_memory(host):
    shell = SshShell("edge", host.address)
    with pytest.raises(TargetUnreachable, match="more than 16777216 bytes"):
        await shell.run("cat /dev/zero")
    await shell.close()
