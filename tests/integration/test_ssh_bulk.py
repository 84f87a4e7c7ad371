"""What is streamed to a host in bulk arrives, whatever the connection is like and does meanwhile."""

import asyncio
import hashlib
import random
from contextlib import ExitStack
from dataclasses import replace

import asyncssh
import pytest

from hybrid_provider.exceptions import TargetUnreachable
from hybrid_provider.targets import ssh_bulk
from hybrid_provider.targets.ssh import SshShell
from tests.integration.sshhosts import dropbear, mortal_sshd, sshd

DATA = random.Random(5).randbytes(24_000_000)
SHA256 = hashlib.sha256(DATA).hexdigest()


@pytest.fixture
def sent(monkeypatch):
    """How many bytes were sent in bulk, and how many in packets that asyncssh made."""
    count = {"bulk": 0, "alone": 0}
    in_bulk, alone = ssh_bulk._Bulk._sealed, asyncssh.SSHClientConnection.send_packet

    def send_in_bulk(self, data):
        count["bulk"] += len(data)
        return in_bulk(self, data)

    def send_alone(self, kind, *args, **more):
        count["alone"] += sum(map(len, args)) * (kind == ssh_bulk._CHANNEL_DATA)
        alone(self, kind, *args, **more)

    monkeypatch.setattr(ssh_bulk._Bulk, "_sealed", send_in_bulk)
    monkeypatch.setattr(asyncssh.SSHClientConnection, "send_packet", send_alone)
    return count


async def pieces(size=2**20):  # as a release is read
    for start in range(0, len(DATA), size):
        yield DATA[start : start + size]


async def arrived(shell):
    done = await shell.run("sha256sum", pieces())
    assert done.exit_code == 0, done.stderr
    return done.stdout.split()[0]


async def test_nearly_all_travels_in_bulk(tmp_path, sent):
    with sshd(tmp_path / "edge", "edge") as host:
        shell = SshShell("edge", host.address)
        assert await arrived(shell) == SHA256
        await shell.close()
    assert sent["alone"] < len(DATA) // 100, "asyncssh is not as it was: nothing is sent in bulk any more"


@pytest.mark.parametrize(
    "options",
    [
        "RekeyLimit 1M",
        "Ciphers aes256-gcm@openssh.com\nRekeyLimit 3M",
        "Ciphers aes256-ctr",
        "Ciphers chacha20-poly1305@openssh.com",
    ],
)
async def test_keys_that_change_and_other_ciphers_are_none_of_its_matter(tmp_path, sent, options):
    with sshd(tmp_path / "edge", "edge", options) as host:
        shell = SshShell("edge", host.address)
        assert [await arrived(shell), await arrived(shell)] == [SHA256, SHA256]
        await shell.close()
    assert bool(sent["bulk"]) is ("gcm" in options or "Ciphers" not in options)


async def test_keys_that_the_worker_changes_are_changed(tmp_path, sent, monkeypatch):
    changed = []
    change = asyncssh.SSHClientConnection._send_kexinit
    monkeypatch.setattr(
        asyncssh.SSHClientConnection, "_send_kexinit", lambda self: (changed.append(1), change(self))[1]
    )
    with sshd(tmp_path / "edge", "edge") as host:
        shell = SshShell("edge", host.address)
        (await shell._connected())._rekey_bytes = 2_000_000
        assert await arrived(shell) == SHA256
        await shell.close()
    assert len(changed) > 5
    assert sent["bulk"]


async def test_other_commands_run_on_the_connection_meanwhile(tmp_path, sent):
    with sshd(tmp_path / "edge", "edge") as host:
        shell = SshShell("edge", host.address)
        streams = asyncio.gather(*(arrived(shell) for _ in range(3)))
        said = []
        while not streams.done():
            said.append((await shell.run("echo here")).stdout)
        assert await streams == [SHA256] * 3
        assert set(said) == {"here\n"}
        await shell.close()
    assert sent["alone"] < sent["bulk"] // 100


async def test_a_host_behind_another_and_an_edge_host_get_it_whole(tmp_path):
    with ExitStack() as stack:
        jump = stack.enter_context(sshd(tmp_path / "jump", "jump"))
        edge = stack.enter_context(sshd(tmp_path / "edge", "edge"))
        small = stack.enter_context(dropbear(tmp_path / "small", "small"))
        for address in (replace(edge.address, jump=jump.address), small.address):
            shell = SshShell("edge", address)
            assert await arrived(shell) == SHA256
            await shell.close()


async def test_a_host_that_dies_meanwhile_is_unreachable(tmp_path):
    with mortal_sshd(tmp_path / "edge", "edge") as host:
        shell = SshShell("edge", host.address)

        async def dying():
            sent = 0
            async for piece in pieces():
                sent += len(piece)
                if sent > len(DATA) // 2 and host.processes:
                    await asyncio.to_thread(host.die)
                yield piece

        with pytest.raises(TargetUnreachable, match="the connection was lost"):
            await shell.run("sha256sum", dying())


async def test_a_script_that_closes_its_input_says_why_it_failed(tmp_path):
    with sshd(tmp_path / "edge", "edge") as host:
        shell = SshShell("edge", host.address)
        done = await shell.run("head -c 1000000 | wc -c; echo enough >&2; exit 3", pieces())
        assert (done.exit_code, done.stdout.strip(), done.stderr) == (3, "1000000", "enough\n")
        await shell.close()
