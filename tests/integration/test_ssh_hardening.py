"""The guide to a host's hardening in docs/security.md, followed on a real sshd: deploys work, and nothing else does."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from hybrid_provider.rollout.engine import Rollout
from hybrid_provider.rollout.policy import RolloutPolicy
from hybrid_provider.rollout.probe import HttpProbe
from hybrid_provider.rollout.result import RolloutState
from hybrid_provider.targets.target import Placement
from tests.integration.sshhosts import sshd
from tests.integration.test_rollout import FAST
from tests.releases import make_release
from tests.servers import free_port

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="module")
def hardened(tmp_path_factory):
    """A host whose authorized_keys has the line of the guide, with its own key in it."""
    folder = tmp_path_factory.mktemp("hardened") / "edge"
    (line,) = re.findall(r"^restrict,.*$", (DOCS / "security.md").read_text(), flags=re.MULTILINE)
    with sshd(folder, "edge") as host:
        keys = folder / "authorized_keys"
        options = line.partition(" ssh-ed25519 ")[0].replace(
            "/usr/local/libexec/deploys-only", str(DOCS / "ssh/deploys-only")
        )
        keys.write_text(f"{options} {keys.read_text()}")
        yield host


def ssh(host, *arguments):
    known = host.key_file.parent / "known_hosts"
    known.write_text(f"[127.0.0.1]:{host.port} {host.host_key}\n")
    command = [
        *("ssh", "-F", "none", "-i", host.key_file, "-p", str(host.port), "-o", "BatchMode=yes"),
        *("-o", f"UserKnownHostsFile={known}", "-o", "ExitOnForwardFailure=yes"),
    ]
    return subprocess.run(
        [*command, *arguments],
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
        timeout=60,
    )


async def test_a_deploy_works_through_the_forced_command(hardened, tmp_path):
    release = make_release(tmp_path, {"model.onnx": b"1", "it's {odd} $(id)": b"2"})
    rollout = Rollout(
        release,
        [hardened.target.open(Placement())],
        HttpProbe(),
        RolloutPolicy.of(FAST),
        rollout_id="r-1",
    )
    result = await rollout.run()
    assert result.state is RolloutState.SUCCEEDED, result.reasons()
    assert hardened.current == release.release_id


@pytest.mark.parametrize(
    "command", [[], ["id"], ["/usr/lib/openssh/sftp-server"], ["scp", "-t", "/tmp"], ["sh -c 's= k=1; id'"]]
)
def test_no_shell_and_no_other_program_is_opened(hardened, command):
    done = ssh(hardened, "root@127.0.0.1", *command)
    assert done.returncode == 126
    assert "does nothing else" in done.stderr


def test_nothing_is_forwarded_and_there_is_no_terminal(hardened):
    port = free_port()
    forward = ssh(hardened, "-R", f"127.0.0.1:{port}:127.0.0.1:22", "root@127.0.0.1", "true")
    assert forward.returncode == 255
    assert "remote port forwarding failed" in forward.stderr
    assert "PTY allocation request failed" in ssh(hardened, "-tt", "root@127.0.0.1", "true").stderr
