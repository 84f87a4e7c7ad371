"""How a worker comes to a host and proves itself, and a host to the worker, on real sshds."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import time
from dataclasses import replace
from datetime import timedelta

import pytest

from hybrid_provider.exceptions import (
    ConfigurationError,
    TargetRefused,
    TargetUnreachable,
)
from hybrid_provider.hooks.ssh import ssh_target
from hybrid_provider.targets.local import LocalShell
from hybrid_provider.targets.ssh import SshShell, SshTarget
from hybrid_provider.targets.target import Placement
from tests.integration.posixtargets import deployed, order_of
from tests.integration.sshhosts import MODEL_UID, make_key, sshd, sshd_with_user, with_passphrase
from tests.releases import make_release
from tests.servers import free_port, require_program

# The exit code of ssh-add where nobody answers.
AGENT_IS_MISSING = 2


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


async def test_a_host_that_changes_its_key_while_we_work_is_not_spoken_to_again(tmp_path):
    with sshd(tmp_path / "edge", "edge") as host:
        shell = SshShell("edge", host.address)
        await shell.run("true")
        await shell.close()
    with (
        sshd(tmp_path / "impostor", "edge", port=host.port),
        pytest.raises(TargetRefused, match="another host key"),
    ):
        await shell.run("true")


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


async def test_a_user_with_a_password_a_restricted_shell_and_no_sudo_takes_a_release(tmp_path, release):
    with sshd_with_user(tmp_path / "edge", "edge", "open sesame") as host:
        address = replace(host.address, user="model", key_file=None, password="open sesame")
        await deployed(replace(host.target, address=address, placement=Placement()), release, "r-1")
        assert host.current == release.release_id
        assert (host.model / "current/model.onnx").stat().st_uid == MODEL_UID
        shell = SshShell("edge", replace(address, password="not this one"))
        with pytest.raises(TargetRefused, match="does not let user 'model' in") as refused:
            await shell.run("true")
        assert "not this one" not in str(refused.value)


@pytest.fixture
def agent(tmp_path, monkeypatch):
    """An SSH agent without a key, and a HOME without one."""
    program = require_program("ssh-agent", "openssh-client")
    socket = tmp_path / "agent"
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SSH_AUTH_SOCK", str(socket))
    with subprocess.Popen([program, "-D", "-a", socket], stdout=subprocess.DEVNULL) as running:
        while (
            subprocess.run(["ssh-add", "-l"], capture_output=True, check=False).returncode == AGENT_IS_MISSING
        ):
            time.sleep(0.01)
        yield
        running.terminate()


async def test_a_key_that_only_the_agent_has_logs_in(host, target, release, agent):
    without_a_key = replace(target, address=replace(host.address, key_file=None))
    with pytest.raises(TargetRefused, match="does not let user 'root' in"):
        await deployed(without_a_key, release, "r-1")
    await asyncio.to_thread(subprocess.run, ["ssh-add", "-q", host.key_file], check=True)
    await deployed(without_a_key, release, "r-1")


async def test_targets_behind_one_jump_host_share_its_login(host, target, release, tmp_path):
    with sshd(tmp_path / "jump", "jump") as jump:
        behind = replace(target, address=replace(host.address, jump=jump.address))
        shells = [SshShell(f"edge-{n}", behind.address) for n in range(4)]
        answers = await asyncio.gather(*(shell.run("echo here") for shell in shells))
        assert [answer.stdout for answer in answers] == ["here\n"] * 4
        await deployed(behind, release, "r-1")
        await asyncio.gather(*(shell.close() for shell in shells))
        assert (tmp_path / "jump/log").read_text().count("Accepted publickey") == 1
        # The last one has closed it; who comes then logs in again.
        await deployed(behind, release, "r-2")
        assert (tmp_path / "jump/log").read_text().count("Accepted publickey") == 2


async def test_a_jump_host_is_who_it_was_or_nothing_goes_through(host, release, tmp_path):
    other = make_key(tmp_path / "other")
    with sshd(tmp_path / "jump", "jump", "AllowTcpForwarding no") as jump:
        for address, refusal, message in (
            (
                replace(jump.address, host_keys=(other,)),
                TargetRefused,
                "edge: its jump host: .* another host key",
            ),
            (jump.address, TargetUnreachable, f"no connection to .* over 127.0.0.1:{jump.port}: "),
            (
                replace(jump.address, user="nobody"),
                TargetRefused,
                "its jump host: .*does not let user 'nobody' in",
            ),
        ):
            with pytest.raises(refusal, match=message):
                await SshShell("edge", replace(host.address, jump=address)).run("true")


async def test_the_key_of_a_host_behind_a_jump_host_is_enforced(host, tmp_path):
    other = make_key(tmp_path / "other")
    with sshd(tmp_path / "jump", "jump") as jump:
        address = replace(host.address, jump=jump.address, host_keys=(other,))
        with pytest.raises(
            TargetRefused, match=f"{host.port} over 127.0.0.1:{jump.port} has another host key"
        ):
            await SshShell("edge", address).run("true")


async def test_a_host_behind_a_command_of_the_worker_takes_a_release(host, target, release, tmp_path):
    with sshd(tmp_path / "jump", "jump") as jump:
        known = tmp_path / "known hosts"
        known.write_text(f"[127.0.0.1]:{jump.port} {jump.host_key}\n")
        command = (
            f"ssh -F none -i {jump.key_file} -o 'UserKnownHostsFile=\"{known}\"' -o BatchMode=yes "
            f"-p {jump.port} -W %h:%p %r@127.0.0.1"
        )
        await deployed(replace(target, address=replace(host.address, proxy_command=command)), release, "r-1")


async def test_a_proxy_command_that_fails_is_told_with_what_it_said(host):
    hanging = replace(host.address, connect_timeout=timedelta(seconds=0.3))
    for address, command, message in (
        (host.address, "sh -c 'echo no such bastion >&2; exit 1'", "the proxy command said: no such bastion"),
        (host.address, "no-such-program %h", "'no-such-program' does not start on this worker"),
        (hanging, "sleep 1000", "did not answer within 0 s"),
    ):
        with pytest.raises(TargetUnreachable, match=message):
            await SshShell("edge", replace(address, proxy_command=command)).run("true")


async def test_more_logins_at_once_than_sshd_allows_all_come_in(tmp_path):
    with sshd(tmp_path / "edge", "edge", "MaxStartups 2:100:2\nLogLevel VERBOSE") as host:
        shells = [SshShell(f"edge-{n}", host.address) for n in range(8)]
        answers = await asyncio.gather(*(shell.run("echo here") for shell in shells))
        assert [answer.stdout for answer in answers] == ["here\n"] * 8
        await asyncio.gather(*(shell.close() for shell in shells))
        assert "past MaxStartups" in (tmp_path / "edge/log").read_text()


async def test_a_host_that_allows_one_session_does_one_thing_after_the_other(tmp_path, release):
    with sshd(tmp_path / "edge", "edge", "MaxSessions 1") as host:
        shell = SshShell("edge", host.address)
        answers = await asyncio.gather(*(shell.run("sleep 0.3; echo here") for _ in range(3)))
        assert [answer.stdout for answer in answers] == ["here\n"] * 3
        await shell.close()
        await deployed(host.target, release, "r-1")
        assert (tmp_path / "edge/log").read_text().count("Accepted publickey") == 2


def connection(host, **extra):
    fields = {"key_file": str(host.key_file), "host_key": host.host_key, **extra}
    return json.dumps(
        {"conn_type": "ssh", "host": host.ip, "port": host.port, "login": "root", "extra": fields}
    )


async def test_an_ssh_connection_names_the_connection_of_its_jump_host(host, release, tmp_path, monkeypatch):
    with sshd(tmp_path / "jump", "jump") as jump:
        monkeypatch.setenv(
            "AIRFLOW_CONN_EDGE", connection(host, jump_conn_id="jump", base_folder=f"{tmp_path}/models")
        )
        monkeypatch.setenv("AIRFLOW_CONN_JUMP", connection(jump))
        await deployed(ssh_target("edge"), release, "r-1")
        assert "Accepted publickey" in (tmp_path / "jump/log").read_text()
        monkeypatch.setenv("AIRFLOW_CONN_JUMP", connection(jump, jump_conn_id="edge"))
        with pytest.raises(ConfigurationError, match="in a circle, edge over jump over edge"):
            ssh_target("edge")


def test_a_jump_host_of_a_connection_needs_a_known_key_too(host, monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_EDGE", connection(host, jump_conn_id="jump"))
    monkeypatch.setenv("AIRFLOW_CONN_JUMP", connection(host, no_host_key_check=True))
    with pytest.raises(ConfigurationError, match="ssh connection 'jump' sets no_host_key_check"):
        ssh_target("edge")
    monkeypatch.delenv("AIRFLOW_CONN_JUMP")
    with pytest.raises(ConfigurationError, match="ssh connection 'jump' does not exist"):
        ssh_target("edge")


def test_the_proxy_command_of_an_ssh_connection_is_taken(host, monkeypatch):
    command = "ssh -W %h:%p bastion"
    monkeypatch.setenv("AIRFLOW_CONN_EDGE", connection(host, host_proxy_cmd=command))
    assert ssh_target("edge").address.proxy_command == command
    for wrong, message in (
        ("nc '", "No closing quotation"),
        ("nc %h %x", "%x is none of"),
        (" ", "is empty"),
    ):
        monkeypatch.setenv("AIRFLOW_CONN_EDGE", connection(host, host_proxy_cmd=wrong))
        with pytest.raises(ConfigurationError, match=message):
            ssh_target("edge")
