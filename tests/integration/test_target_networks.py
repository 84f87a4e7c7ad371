"""A POSIX target at the end of a bad line: an sshd in a network namespace, behind a slow, lossy and cut cable."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass, replace

import pytest

from hybrid_provider.targets.ssh import SshTarget
from hybrid_provider.targets.target import Placement
from tests.integration.posixtargets import order_of
from tests.integration.sshhosts import sshd
from tests.releases import make_release
from tests.servers import REQUIRE_ALL, require_program


@dataclass(frozen=True)
class Line:
    """The cable to a namespace; what reaches its end is judged by its firewall."""

    namespace: str
    near: str

    def firewall(self, *rule: str) -> None:
        run("ip", "netns", "exec", self.namespace, "iptables", *rule)

    def slow(self) -> None:
        run(
            "tc",
            "qdisc",
            "add",
            "dev",
            self.near,
            "root",
            "tbf",
            "rate",
            "30mbit",
            "burst",
            "64kb",
            "latency",
            "300ms",
        )


def run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@contextmanager
def host_on_a_line(folder):
    for program, package in (("ip", "iproute2"), ("tc", "iproute2"), ("iptables", "iptables")):
        require_program(program, package)
    line = Line(namespace=f"hybrid-{os.getpid()}", near=f"hy{os.getpid()}n")
    far, ip = f"hy{os.getpid()}f", f"10.231.{os.getpid() % 250}.2"
    try:
        run("ip", "netns", "add", line.namespace)
    except subprocess.CalledProcessError as error:
        reason = f"a network namespace needs root: {error.stderr.strip()}"
        pytest.fail(reason) if REQUIRE_ALL else pytest.skip(reason)
    try:
        run("ip", "link", "add", line.near, "type", "veth", "peer", "name", far, "netns", line.namespace)
        run("ip", "addr", "add", f"{ip[:-1]}1/30", "dev", line.near)
        run("ip", "link", "set", line.near, "up")
        run("ip", "-n", line.namespace, "addr", "add", f"{ip}/30", "dev", far)
        run("ip", "-n", line.namespace, "link", "set", far, "up")
        with sshd(folder, "edge", within=("ip", "netns", "exec", line.namespace), ip=ip) as host:
            yield line, host
    finally:
        # The session of a connection that was cut knows nothing of it, and would hold the namespace.
        for pid in run("ip", "netns", "pids", line.namespace).split():
            os.kill(int(pid), signal.SIGKILL)
        # Sockets that never heard of their end may hold it as well, and with it the cable.
        run("ip", "link", "del", line.near)
        run("ip", "netns", "del", line.namespace)


class LongLine:
    """A line to a host on which everything takes its time, each way; where the kernel has netem, as it does."""

    def __init__(self, host, seconds):
        self.host, self.seconds = host, seconds
        self.open = set()

    async def __aenter__(self):
        self.server = await asyncio.start_server(self._carry, "127.0.0.1", 0)
        return self.server.sockets[0].getsockname()[1]

    async def __aexit__(self, *_):
        self.server.close()
        self.cut()

    def cut(self):
        for writer in self.open:
            writer.transport.abort()

    async def _carry(self, reader, writer):
        try:
            far_reader, far_writer = await asyncio.open_connection(self.host.ip, self.host.port)
            self.open |= {writer, far_writer}
            await asyncio.gather(self._one_way(reader, far_writer), self._one_way(far_reader, writer))
        except ConnectionError:
            self.cut()

    async def _one_way(self, reader, writer):
        later = asyncio.get_running_loop().call_later
        while piece := await reader.read(2**16):
            later(self.seconds, writer.write, piece)
        later(self.seconds, writer.close)


@pytest.fixture(scope="module")
def far_away(tmp_path_factory):
    with host_on_a_line(tmp_path_factory.mktemp("far") / "edge") as (line, host):
        line.slow()
        yield line, host


@pytest.fixture
def release(tmp_path):
    return make_release(tmp_path / "store", {"a": os.urandom(500_000), "large": os.urandom(2_500_000)})


async def brought(host, release, progress=lambda *_: None):
    """Bring it, and compare it byte for byte."""
    order = order_of(release)
    opened = host.target.open(Placement())
    await opened.preflight(order)
    result = await opened.stage(order, lambda sent: progress(sent, opened))
    there = host.model / "releases" / release.release_id
    for file in release.manifest.files:
        assert (there / file.path).read_bytes() == (release.path / file.path).read_bytes()
    await opened.finish(order)
    await opened.close()
    return result


def once_after(size_bytes, act):
    """A progress that does something once, when so many bytes were sent."""
    sent, done = [], []

    def progress(piece, opened):
        sent.append(piece)
        if sum(sent) > size_bytes and not done:
            done.append(act(opened))

    return progress


def port_of(opened):
    return str(opened._shell._connection.get_extra_info("sockname")[1])


async def test_a_slow_line_that_loses_packets_brings_a_release_whole(far_away, release):
    line, host = far_away
    losing = (
        "INPUT",
        "-p",
        "tcp",
        "-m",
        "statistic",
        "--mode",
        "random",
        "--probability",
        "0.02",
        "-j",
        "DROP",
    )
    line.firewall("-A", *losing)
    try:
        result = await brought(host, release)
    finally:
        line.firewall("-D", *losing)
    assert result.bytes_sent == release.manifest.size_bytes


async def test_a_line_that_is_silent_for_a_moment_goes_on(far_away, release):
    line, host = far_away
    silent = ("INPUT", "-p", "tcp", "-j", "DROP")

    def cut(_opened):
        line.firewall("-A", *silent)
        asyncio.get_running_loop().call_later(0.5, line.firewall, "-D", *silent)

    result = await brought(host, release, once_after(1_000_000, cut))
    assert result.bytes_sent == release.manifest.size_bytes


async def test_a_connection_that_is_reset_goes_on_where_it_ended(far_away, release):
    line, host = far_away

    def reset(opened):
        line.firewall(
            "-A",
            "INPUT",
            "-p",
            "tcp",
            "--sport",
            port_of(opened),
            "-j",
            "REJECT",
            "--reject-with",
            "tcp-reset",
        )

    result = await brought(host, release, once_after(2_700_000, reset))
    assert result.bytes_linked > 0
    assert result.bytes_sent + result.bytes_linked == release.manifest.size_bytes


async def test_a_line_that_takes_a_tenth_of_a_second_each_way_and_is_cut_brings_a_release_live(
    host, release, tmp_path
):
    line = LongLine(host, seconds=0.1)
    async with line as port:
        address = replace(host.address, port=port)
        placement = Placement(base_folder=f"{tmp_path}/models")
        opened = SshTarget(name="far", address=address, placement=placement).open(Placement())
        order = order_of(release, seconds=60)
        await opened.preflight(order)
        cut = once_after(1_500_000, lambda _: line.cut())
        result = await opened.stage(order, lambda sent: cut(sent, opened))
        assert result.bytes_sent + result.bytes_linked == release.manifest.size_bytes
        await opened.activate(order, release.release_id)
        await opened.commit(order)
        await opened.finish(order)
        found = await opened.inspect("digits", rehash=True)
        assert (found.committed, found.changed, found.holder) == (release.release_id, (), None)
        await opened.close()
