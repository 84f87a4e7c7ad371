"""The guide to a host's account in docs/security.md, followed on a real sshd: deploys work, and nothing else does.

The host is as open as distributions leave it, and more: passwords, PAM, forwarding. What closes it is the guide's text,
put where the guide says: the line of a key, the block of sshd_config, the script.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import asyncssh
import pytest

from hybrid_provider.rollout.engine import Rollout
from hybrid_provider.rollout.policy import RolloutPolicy
from hybrid_provider.rollout.probe import CommandProbe
from hybrid_provider.rollout.result import RolloutState
from hybrid_provider.targets.target import Placement
from tests.docs.pages import blocks_of
from tests.integration.sshhosts import make_key, sshd_with_user
from tests.integration.test_rollout import FAST
from tests.releases import make_release
from tests.servers import free_port, require_program

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.integration.sshhosts import Host

DOCS = Path(__file__).parents[2] / "docs"
PASSWORD = "open sesame"
(KEY_LINE,) = [
    block.code for block in blocks_of(Path("docs/security.md")) if block.language == "authorized_keys"
]
(SSHD_CONFIG,) = [
    block.code for block in blocks_of(Path("docs/security.md")) if block.language == "sshd_config"
]
# Debian's, and what an administrator may have switched on beside it.
OPEN = """UsePAM yes
StrictModes yes
PasswordAuthentication yes
KbdInteractiveAuthentication yes
AllowTcpForwarding yes
AllowStreamLocalForwarding yes
GatewayPorts yes
X11Forwarding yes
PermitTunnel yes
PermitUserRC yes
"""
OF_A_LOGIN = ("AuthenticationMethods", "PasswordAuthentication", "KbdInteractiveAuthentication")


@dataclass(frozen=True)
class Hardened:
    """A host that follows the guide, or a part of it.

    Attributes:
        host: Its user ``model`` has a password, and the key of the host's ``key_file``.
        config: What its sshd reads.
    """

    host: Host
    config: Path

    def ssh(self, *arguments: str, key_file: Path | None = None) -> subprocess.CompletedProcess[str]:
        """OpenSSH's own client, as ``model``."""
        host = self.host
        known = host.key_file.parent / "known_hosts"
        known.write_text(f"[127.0.0.1]:{host.port} {host.host_key}\n")
        command = [
            *("ssh", "-F", "none", "-i", key_file or host.key_file, "-p", str(host.port), "-l", "model"),
            *("-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes", "-o", "ExitOnForwardFailure=yes"),
            *("-o", f"UserKnownHostsFile={known}"),
        ]
        return subprocess.run(
            [*command, *arguments],
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
            timeout=60,
        )

    def effective(self) -> dict[str, str]:
        """What holds for the user, as sshd itself says it."""
        command = [require_program("sshd", "openssh-server"), "-T", "-f", self.config]
        said = subprocess.run(
            [*command, "-C", "user=model,host=worker,addr=10.20.0.1"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        return dict(line.split(" ", 1) for line in said.splitlines())


@contextmanager
def hardened(folder: Path, *, key_line: str = KEY_LINE, block: str = SSHD_CONFIG) -> Iterator[Hardened]:
    """A host with the given line for its key and the given block in its sshd_config."""
    # Of paths that StrictModes trusts, which pytest's are not for another user.
    with tempfile.TemporaryDirectory(prefix="hybrid-") as outside:
        etc, local = Path(outside, "ssh"), Path(outside, "local")
        for there in (etc / "authorized_keys", local / "libexec"):
            there.mkdir(parents=True)
        shutil.copy(DOCS / "ssh/deploys-only", local / "libexec")
        (etc / "deploys-only.conf").write_text(block)
        with sshd_with_user(
            folder / "edge",
            "edge",
            PASSWORD,
            f"Include {etc}/deploys-only.conf\n{OPEN}",
            user_shell="/bin/sh",
            mounts={"/etc/ssh": etc, "/usr/local": local},
        ) as host:
            key = (folder / "edge/client.pub").read_text()
            line = f"{key_line.partition(' ssh-ed25519 ')[0]} {key}" if key_line else key
            (etc / "authorized_keys/model").write_text(line)
            yield Hardened(host, folder / "edge/config")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """All of the guide."""
    with hardened(tmp_path_factory.mktemp("whole")) as host:
        yield host


@pytest.fixture(scope="module", params=["the key's line", "sshd_config"])
def half(request, tmp_path_factory):
    """One of the two that say the same: the key's line, with the login's lines alone in sshd_config; or a bare key."""
    folder = tmp_path_factory.mktemp("half")
    if request.param == "sshd_config":
        given = hardened(folder, key_line="")
    else:
        kept = ("Match", *OF_A_LOGIN, "AuthorizedKeysFile")
        given = hardened(folder, block=lines_of(SSHD_CONFIG, *kept))
    with given as host:
        yield host


def lines_of(block: str, *settings: str) -> str:
    return "".join(line for line in block.splitlines(keepends=True) if line.split()[0] in settings)


def without(block: str, *settings: str) -> str:
    return "".join(line for line in block.splitlines(keepends=True) if line.split()[0] not in settings)


async def test_a_deploy_works_through_the_forced_command(half, tmp_path):
    release = make_release(tmp_path, {"model.onnx": b"1", "it's {odd} $(id)": b"2"})
    address = replace(half.host.address, user="model")
    target = replace(half.host.target, address=address, placement=Placement()).open(Placement())
    probe = CommandProbe(command='test "$(readlink models/digits/current)" = "releases/$RELEASE_ID"')
    rollout = Rollout(release, [target], probe, RolloutPolicy.of(FAST), rollout_id="r-1")
    result = await rollout.run()
    assert result.state is RolloutState.SUCCEEDED, result.reasons()
    assert half.host.current == release.release_id


@pytest.mark.parametrize(
    "command", [[], ["id"], ["/usr/lib/openssh/sftp-server"], ["scp", "-t", "/tmp"], ["sh -c 's= k=1; id'"]]
)
def test_no_shell_and_no_other_program_is_opened(half, command):
    done = half.ssh("127.0.0.1", *command)
    assert done.returncode == 126
    assert "does nothing else" in done.stderr


def test_no_subsystem_is_opened(half):
    done = half.ssh("-s", "127.0.0.1", "sftp")
    assert (done.returncode, done.stdout) == (126, "")


def test_nothing_is_forwarded_and_there_is_no_terminal(half, tmp_path):
    port = free_port()
    for way in (f"127.0.0.1:{port}:127.0.0.1:22", f"{tmp_path}/socket:127.0.0.1:22"):
        forward = half.ssh("-R", way, "127.0.0.1", "true")
        assert forward.returncode == 255
        assert "remote port forwarding failed" in forward.stderr
    through = half.ssh("-W", f"127.0.0.1:{half.host.port}", "127.0.0.1")
    assert through.returncode == 255
    assert "administratively prohibited" in through.stderr
    assert "PTY allocation request failed" in half.ssh("-tt", "127.0.0.1", "true").stderr


async def logs_in_with_a_password(host: Host) -> bool:
    """Whichever way the host offers to ask for one."""
    try:
        connection = await asyncssh.connect(
            host.ip,
            host.port,
            username="model",
            password=PASSWORD,
            known_hosts=None,
            client_keys=[],
            config=None,
            preferred_auth="keyboard-interactive,password",
        )
    except asyncssh.PermissionDenied:
        return False
    connection.close()
    await connection.wait_closed()
    return True


async def test_a_key_is_the_only_way_in(whole):
    host = whole.host
    assert await asyncssh.get_server_auth_methods(host.ip, host.port, username="model") == ["publickey"]
    assert not await logs_in_with_a_password(host)


@pytest.mark.parametrize("also", ["KbdInteractiveAuthentication", "PasswordAuthentication"])
async def test_without_one_of_the_two_lines_about_passwords_pam_lets_one_in(tmp_path, also):
    """Why the guide has both: this is what each of them stops, where AuthenticationMethods is not there either."""
    with hardened(tmp_path, block=without(SSHD_CONFIG, "AuthenticationMethods", also)) as loose:
        assert await logs_in_with_a_password(loose.host)


async def test_the_two_lines_about_passwords_suffice_where_authentication_methods_are_not_known(tmp_path):
    with hardened(tmp_path, block=without(SSHD_CONFIG, "AuthenticationMethods")) as loose:
        assert not await logs_in_with_a_password(loose.host)


def test_a_key_that_a_script_of_the_user_added_opens_nothing(whole, tmp_path):
    """Without AuthorizedKeysFile it would, and without the forced command."""
    key = make_key(tmp_path / "added")
    home = whole.host.base.parent
    for file in (home / ".ssh/authorized_keys", home / ".ssh/authorized_keys2"):
        file.parent.mkdir(mode=0o700, exist_ok=True)
        file.write_text(key)
    subprocess.run(["chown", "-R", f"{home.stat().st_uid}", home / ".ssh"], check=True)
    done = whole.ssh("127.0.0.1", "true", key_file=tmp_path / "added")
    assert done.returncode == 255
    assert "Permission denied (publickey)" in done.stderr


def test_a_script_of_the_user_runs_before_no_deploy(half):
    """~/.ssh/rc, which sshd runs before the forced command unless it is told not to."""
    home = half.host.base.parent
    (home / ".ssh").mkdir(mode=0o700, exist_ok=True)
    (home / ".ssh/rc").write_text(f"touch {home}/was-run\n")
    subprocess.run(["chown", "-R", f"{home.stat().st_uid}", home / ".ssh"], check=True)
    assert half.ssh("127.0.0.1", "true").returncode == 126
    assert not (home / "was-run").exists()


def test_sshd_itself_says_that_all_is_off_for_the_user(whole):
    held = whole.effective()
    off = ("passwordauthentication", "kbdinteractiveauthentication", "permittty", "permituserrc")
    off += ("allowagentforwarding", "x11forwarding", "permittunnel")
    assert {name: held[name] for name in off} == dict.fromkeys(off, "no")
    assert held["disableforwarding"] == "yes"
    assert held["authenticationmethods"] == "publickey"
    assert held["authorizedkeysfile"] == "/etc/ssh/authorized_keys/%u"
    assert held["forcecommand"] == "/usr/local/libexec/deploys-only"
