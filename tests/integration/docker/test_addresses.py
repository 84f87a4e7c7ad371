"""Engines by their socket, over mutual TLS and over SSH."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hybrid_provider.exceptions import (
    TargetRefused,
    TargetUnreachable,
)
from hybrid_provider.targets.docker import EngineAddress
from hybrid_provider.targets.target import Placement
from tests.integration.docker.targets import (
    deploy,
    opened,
    order_of,
    served,
)
from tests.integration.sshhosts import make_key, sshd
from tests.servers import free_port


async def test_an_engine_over_mutual_tls_takes_a_release(target, releases, docker):
    over_tls = replace(target, address=docker.over_tls())
    await deploy(over_tls, releases[0])
    assert over_tls.open(Placement()).host == "127.0.0.1"
    assert await served(target) == releases[0].release_id


@pytest.mark.parametrize(("who", "host"), [("stranger", "127.0.0.1"), ("client", "localhost")])
async def test_an_engine_and_a_client_that_do_not_know_each_other_stop_there(
    target, releases, docker, who, host
):
    async with opened(replace(target, address=docker.over_tls(who, host))) as each:
        with pytest.raises(TargetRefused, match="do not know each other by TLS"):
            await each.preflight(order_of(releases[0]))


async def test_an_engine_over_ssh_takes_a_release_and_its_host_key_is_enforced(
    target, releases, docker, tmp_path
):
    with sshd(tmp_path / "host", "edge") as host:
        address = EngineAddress(url=docker.engine.socket, ssh=host.address)
        await deploy(replace(target, address=address), releases[0])
        assert await served(target) == releases[0].release_id
        async with opened(replace(target, address=replace(address, url="unix:///no/such.sock"))) as each:
            with pytest.raises(TargetUnreachable, match="sshd allows the user to forward to that socket"):
                await each.preflight(order_of(releases[0]))
        other = replace(host.address, host_keys=(make_key(tmp_path / "other"),))
        async with opened(replace(target, address=replace(address, ssh=other))) as each:
            with pytest.raises(TargetRefused, match="has another host key"):
                await each.preflight(order_of(releases[0]))


async def test_an_engine_behind_a_jump_host_takes_a_release_and_the_jump_host_s_key_is_enforced(
    target, releases, docker, tmp_path
):
    with sshd(tmp_path / "jump", "jump") as jump, sshd(tmp_path / "host", "edge") as host:
        address = EngineAddress(url=docker.engine.socket, ssh=replace(host.address, jump=jump.address))
        await deploy(replace(target, address=address), releases[0])
        assert await served(target) == releases[0].release_id
        other = replace(jump.address, host_keys=(make_key(tmp_path / "other"),))
        over_another = replace(address, ssh=replace(host.address, jump=other))
        async with opened(replace(target, address=over_another)) as each:
            with pytest.raises(TargetRefused, match=r"its jump host: .*has another host key"):
                await each.preflight(order_of(releases[0]))


async def test_an_engine_that_is_not_there_is_unreachable(target, releases, docker, tmp_path):
    nobody = replace(docker.over_tls(), url=f"tcp://127.0.0.1:{free_port()}")
    for address in (EngineAddress(url=f"unix://{tmp_path}/none"), nobody):
        async with opened(replace(target, address=address)) as each:
            with pytest.raises(TargetUnreachable, match=f"no answer from the engine at {address.url}"):
                await each.preflight(order_of(releases[0]))
