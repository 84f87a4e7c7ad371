"""The emulated on-premises hosts, through OpenSSH's client and through asyncssh."""

from __future__ import annotations

import asyncio
import hashlib
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import asyncssh
import pytest

from hybrid_provider.emulator import Emulator
from tests.servers import require_program

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager

    from hybrid_provider.emulator import EmulatedHost

MEBIBYTE = 1024 * 1024


@pytest.fixture(scope="module")
def host(emulator: Emulator) -> EmulatedHost:
    return emulator.hosts[0]


def connect(
    host: EmulatedHost, **changes: object
) -> AbstractAsyncContextManager[asyncssh.SSHClientConnection]:
    known = asyncssh.import_known_hosts(f"[{host.address}]:{host.port} {host.host_key}\n")
    settings = {
        "port": host.port,
        "username": host.user,
        "client_keys": [str(host.key_file)],
        "known_hosts": known,
        "config": None,
        "agent_path": None,
    }
    return asyncssh.connect(host.address, **{**settings, **changes})


async def run(host: EmulatedHost, command: str, stdin: bytes = b"") -> asyncssh.SSHCompletedProcess:
    # asyncssh sends no end of an input that is empty.
    given = {"input": stdin} if stdin else {"stdin": asyncssh.DEVNULL}
    async with connect(host) as connection:
        return await connection.run(command, **given, encoding=None)


async def until(done: Callable[[], bool]) -> None:
    """Return when it is so."""
    async with asyncio.timeout(20):
        while not done():  # noqa: ASYNC110 - what is awaited is another process's doing
            await asyncio.sleep(0.02)


async def written(file: Path) -> str:
    """What is in the file, once it is there."""
    await until(lambda: file.exists() and file.read_text().endswith("\n"))
    return file.read_text().strip()  # noqa: ASYNC240 - a few bytes of a local file


def alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def child_commands(pid: int) -> list[bytes]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [Path(f"/proc/{child}/cmdline").read_bytes() for child in children]


def test_openssh_logs_in_with_the_key_and_the_host_key_alone(host: EmulatedHost, tmp_path: Path) -> None:
    ssh = require_program("ssh", "openssh-client")
    known_hosts = tmp_path / "known_hosts"
    known_hosts.write_text(f"[{host.address}]:{host.port} {host.host_key}\n")
    options = [
        "-F", "none", "-i", str(host.key_file), "-p", str(host.port), "-o", f"UserKnownHostsFile={known_hosts}",
        "-o", "StrictHostKeyChecking=yes", "-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes",
    ]  # fmt: skip
    done = subprocess.run(
        [ssh, *options, f"{host.user}@{host.address}", "cat; echo problem >&2; exit 7"],
        input=b"one\0two\n",
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (7, b"one\0two\n", b"problem\n")


@pytest.mark.parametrize(
    "changes",
    [
        {"username": "root"},
        {"client_keys": [], "password": "guess"},
        {"client_keys": [asyncssh.generate_private_key("ssh-ed25519")]},
    ],
    ids=["another-user", "a-password", "another-key"],
)
async def test_nobody_else_gets_in(host: EmulatedHost, changes: dict[str, object]) -> None:
    with pytest.raises(asyncssh.PermissionDenied):
        async with connect(host, **changes):
            pass


async def test_each_host_has_a_key_of_its_own(emulator: Emulator) -> None:
    first, second = emulator.hosts
    assert first.host_key != second.host_key
    impostor = asyncssh.import_known_hosts(f"[{first.address}]:{first.port} {second.host_key}\n")
    with pytest.raises(asyncssh.HostKeyNotVerifiable):
        async with connect(first, known_hosts=impostor):
            pass


def test_the_client_key_is_for_its_owner_only(host: EmulatedHost) -> None:
    assert host.key_file.stat().st_mode & 0o777 == 0o600


async def test_a_command_runs_in_its_home_with_a_logins_environment(host: EmulatedHost) -> None:
    done = await run(host, 'pwd; echo "$HOME"; env | cut -d= -f1 | sort | tr "\\n" " "')
    folder, home, names = done.stdout.decode().splitlines()
    assert folder == home == str(host.root)
    assert set(names.split()) == {"HOME", "USER", "LOGNAME", "SHELL", "PATH", "LANG", "PWD"}


async def test_a_signal_that_ends_a_command_is_told(host: EmulatedHost) -> None:
    done = await run(host, "kill -TERM $$")
    assert done.exit_signal[0] == "TERM"


async def test_input_that_ends_at_once_is_seen_as_ended(host: EmulatedHost) -> None:
    for _ in range(20):
        assert (await run(host, "cat; echo end")).stdout == b"end\n"


@pytest.mark.parametrize("size", [1, 64 * 1024, 128 * MEBIBYTE])
async def test_a_stream_arrives_and_returns_unchanged(host: EmulatedHost, size: int) -> None:
    block = os.urandom(min(size, MEBIBYTE))
    digest = hashlib.sha256()
    async with connect(host) as connection:
        process = await connection.create_process("tee copy | sha256sum; cat copy", encoding=None)

        async def send() -> None:
            for _ in range(max(1, size // MEBIBYTE)):
                process.stdin.write(block)
                await process.stdin.drain()
            process.stdin.write_eof()

        sending = asyncio.create_task(send())
        said = await process.stdout.readline()
        received = 0
        while piece := await process.stdout.read(MEBIBYTE):
            digest.update(piece)
            received += len(piece)
        await sending
        assert (await process.wait()).exit_status == 0
    assert received == size
    assert said.split()[0].decode() == digest.hexdigest()


async def test_a_reader_that_does_not_read_holds_up_the_writer(host: EmulatedHost) -> None:
    progress = host.root / "progress"
    progress.unlink(missing_ok=True)
    async with connect(host) as connection:
        command = (
            "i=0; while [ $i -lt 64 ]; do head -c 1048576 /dev/zero; i=$((i+1)); echo $i >> progress; done"
        )
        async with connection.create_process(command, encoding=None) as process:
            await written(progress)
            received = len(await process.stdout.readexactly(1))
            # Nothing has read the other 64 MiB; the command cannot have written them all.
            assert len(progress.read_text().splitlines()) < 64
            while piece := await process.stdout.read(MEBIBYTE):
                received += len(piece)
    assert received == 64 * MEBIBYTE


async def test_a_command_that_reads_nothing_does_not_hang_its_client(host: EmulatedHost) -> None:
    # Long enough that its client is still writing when it ends.
    done = await run(host, "exec sleep 1", stdin=b"x" * 8 * MEBIBYTE)
    assert done.exit_status == 0


async def test_a_command_outlives_its_client_as_with_sshd(host: EmulatedHost) -> None:
    """OpenSSH 9.2 without a terminal: no signal is sent, the command's input ends."""
    async with connect(host) as connection:
        await connection.create_process("echo $$ > lonely.pid; cat > lonely.rest; sleep 600; :")
        pid = int(await written(host.root / "lonely.pid"))
    await until(lambda: any(b"sleep" in command for command in child_commands(pid)))
    os.kill(pid, 9)


async def test_a_command_that_writes_to_a_lost_client_ends(host: EmulatedHost) -> None:
    async with connect(host) as connection:
        await connection.create_process("echo $$ > writer.pid; while :; do echo still here; done")
        pid = int(await written(host.root / "writer.pid"))
    await until(lambda: not alive(pid))


async def test_a_clients_signal_reaches_the_command(host: EmulatedHost) -> None:
    async with connect(host) as connection:
        process = await connection.create_process(
            "trap 'echo got it; exit 3' TERM; echo ready; while :; do sleep 0.05; done"
        )
        assert await process.stdout.readline() == "ready\n"
        process.send_signal("TERM")
        done = await process.wait()
    assert (done.stdout, done.exit_status) == ("got it\n", 3)


async def test_a_detached_process_lives_until_the_emulator_stops(tmp_path: Path) -> None:
    with Emulator(tmp_path, hosts=1) as emulator:
        (host,) = emulator.hosts
        command = "setsid sh -c \"echo \\$\\$ > detached.pid; trap '' HUP TERM; while :; do sleep 1; done\" >/dev/null 2>&1 </dev/null &"
        done = await run(host, command)
        assert done.exit_status == 0
        pid = int(await written(host.root / "detached.pid"))
        assert alive(pid)
    assert not alive(pid)


async def test_many_commands_run_at_once(host: EmulatedHost) -> None:
    async with connect(host) as connection:
        done = await asyncio.gather(*(connection.run(f"echo {number}; exit {number}") for number in range(8)))
    assert [(int(one.stdout), one.exit_status) for one in done] == [(number, number) for number in range(8)]


async def test_there_is_no_shell_and_no_sftp(host: EmulatedHost) -> None:
    async with connect(host) as connection:
        with pytest.raises(asyncssh.ChannelOpenError):
            await connection.create_process()
        with pytest.raises(asyncssh.ChannelOpenError):
            await connection.start_sftp_client()


def test_hosts_listen_on_the_loopback_only(emulator: Emulator) -> None:
    # Kernel's hexadecimal, least significant byte first; state 0A is LISTEN.
    ours = {f"{host.port:04X}" for host in emulator.hosts}
    for variable, url in emulator.environment.items():
        if variable.startswith("AWS_ENDPOINT"):
            ours.add(f"{int(url.rpartition(':')[2]):04X}")
    table = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    listening = {tuple(entry[1].split(":")) for entry in table if entry[3] == "0A"}
    assert {address for address, port in listening if port in ours} == {"0100007F"}
    assert {port for _, port in listening} >= ours
