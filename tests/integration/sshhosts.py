"""Real SSH hosts for tests: OpenSSH's sshd, and Dropbear with BusyBox, each with a model's service beside it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from hybrid_provider.targets.ssh import SshAddress, SshTarget
from hybrid_provider.targets.target import Placement
from tests.servers import free_port, require_program

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

# Follows `current` when it is told to, as a model server does, or always where nobody can tell it; `broken` in a release makes it answer 500.
SERVICE = """
import http.server, os, pathlib, signal, sys
folder, port, pid_file = pathlib.Path(sys.argv[1]), int(sys.argv[2]), pathlib.Path(sys.argv[3])
served = ["", False]
def load(*_):
    try:
        served[0] = os.readlink(folder / "current").rpartition("/")[2]
        served[1] = (folder / "current/broken").exists()
    except OSError:
        served[0] = ""
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if "follow" in sys.argv:
            load()
        self.send_response(503 if not served[0] else 500 if served[1] else 200)
        self.send_header("X-Release-Id", served[0])
        self.send_header("Content-Length", "0")
        self.end_headers()
    def log_message(self, *_):
        pass
signal.signal(signal.SIGHUP, load)
load()
server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
pid_file.write_text(str(os.getpid()))
server.serve_forever()
"""


MODEL_UID = 4711


@dataclass(frozen=True, kw_only=True)
class Host:
    """One running host; the first of its processes is the model's service."""

    name: str
    port: int
    http_port: int
    key_file: Path
    host_key: str
    base: Path
    pid_file: Path
    ip: str = "127.0.0.1"
    follows: bool = False
    sshd_command: tuple[str | Path, ...] = ()
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list, compare=False, repr=False)

    @property
    def address(self) -> SshAddress:
        return SshAddress(
            host=self.ip,
            port=self.port,
            user="root",
            host_keys=(self.host_key,),
            key_file=self.key_file,
        )

    @property
    def placement(self) -> Placement:
        return Placement(
            base_folder=str(self.base),
            reload_command=self.reload_command,
            probe_url=f"http://127.0.0.1:{self.http_port}/ping",
        )

    @property
    def reload_command(self) -> str:
        return "true" if self.follows else f"kill -HUP $(cat {self.pid_file})"

    @property
    def target(self) -> SshTarget:
        return SshTarget(name=self.name, address=self.address, placement=self.placement)

    @property
    def model(self) -> Path:
        return self.base / "digits"

    @property
    def current(self) -> str | None:
        link = self.model / "current"
        return link.readlink().name if link.is_symlink() else None

    @property
    def service_command(self) -> list[str]:
        program = [sys.executable, "-c", SERVICE, str(self.model), str(self.http_port), str(self.pid_file)]
        return [*program, "follow"] if self.follows else program

    def die(self) -> None:
        """As by a loss of power: with all that runs on it; see :func:`mortal_sshd`."""
        for process in self.processes:
            process.kill()
            process.wait()
        self.processes.clear()
        # The kernel ends a namespace's processes after the one that held it.
        with suppress(ConnectionRefusedError, ConnectionResetError):
            while True:
                socket.create_connection((self.ip, self.port), timeout=5).close()

    def revive(self) -> None:
        """The power is back, and what starts with the host starts."""
        for command, port in ((self.service_command, self.http_port), (self.sshd_command, self.port)):
            self.processes.append(subprocess.Popen(command, stdin=subprocess.DEVNULL))
            wait_for_port(port, self.processes[-1], self.ip)

    def serve(self) -> None:
        """The service has ended, and is started again."""
        self.processes[0] = subprocess.Popen(self.service_command, stdin=subprocess.DEVNULL)
        wait_for_port(self.http_port, self.processes[0], self.ip)

    def leftovers(self) -> list[str]:
        """What a rollout that ended well may not leave behind."""
        return leftovers(self.model)

    def lock_is_free(self) -> bool:
        return lock_is_free(self.model)


def leftovers(model: Path) -> list[str]:
    names = (".staging", ".lease", ".activation/pending", ".current.new", "state.json.new")
    return [name for name in names if (model / name).exists()]


def lock_is_free(model: Path) -> bool:
    return subprocess.run(["flock", "-n", model, "true"], check=False).returncode == 0


def with_passphrase(key: Path, path: Path, passphrase: str) -> Path:
    """A copy of a private key that needs a passphrase."""
    path.write_bytes(key.read_bytes())
    path.chmod(0o600)
    subprocess.run(["ssh-keygen", "-q", "-p", "-P", "", "-N", passphrase, "-f", path], check=True)
    return path


def make_key(path: Path) -> str:
    """An ed25519 key pair; returns the public line."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True)
    return " ".join(path.with_suffix(".pub").read_text().split()[:2])


def wait_for_port(port: int, process: subprocess.Popen[bytes], ip: str = "127.0.0.1") -> None:
    while True:
        try:
            socket.create_connection((ip, port), timeout=5).close()
        except ConnectionRefusedError:
            if process.poll() is not None:
                raise RuntimeError(f"the server on port {port} ended with {process.returncode}") from None
            time.sleep(0.02)
        else:
            return


@contextmanager
def running(command: list[str | Path], port: int, ip: str = "127.0.0.1") -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    try:
        wait_for_port(port, process, ip)
        yield process
    finally:
        process.terminate()
        process.wait()


@contextmanager
def service(host: Host) -> Iterator[None]:
    """The model's service of one host."""
    host.model.mkdir(parents=True, exist_ok=True)
    with running(host.service_command, host.http_port) as process:
        host.processes.append(process)
        yield


@contextmanager
def sshd(
    folder: Path,
    name: str,
    options: str = "",
    *,
    within: tuple[str | Path, ...] = (),
    ip: str = "127.0.0.1",
    port: int | None = None,
) -> Iterator[Host]:
    """One OpenSSH server, with keys, configuration and base folder of its own.

    ``options`` are lines of sshd_config, the first of a setting holds; ``within`` is a command that starts it,
    such as ``ip netns exec …``, and ``ip`` is where it then listens.
    """
    program = require_program("sshd", "openssh-server")
    folder.mkdir(parents=True)
    Path("/run/sshd").mkdir(exist_ok=True)
    host_key, client_key = make_key(folder / "host"), make_key(folder / "client")
    (folder / "authorized_keys").write_text(client_key + "\n")
    port = port or free_port()
    (folder / "home").mkdir()
    # SetEnv: whatever this machine's user has in a .bashrc is none of the host's.
    (folder / "config").write_text(
        f"{options}\nPort {port}\nListenAddress {ip}\nHostKey {folder}/host\nPidFile none\nUsePAM no\nStrictModes no\n"
        f"AuthorizedKeysFile {folder}/authorized_keys\nPasswordAuthentication no\nPermitRootLogin yes\n"
        f"SetEnv HOME={folder}/home\nSubsystem sftp internal-sftp\n"
    )
    host = Host(
        name=name,
        port=port,
        http_port=free_port(),
        key_file=folder / "client",
        host_key=host_key,
        base=folder / "models",
        pid_file=folder / "service.pid",
        ip=ip,
        # The service is none of the processes that the host's shell sees.
        follows="--pid" in within,
        sshd_command=(*within, program, "-D", "-f", str(folder / "config"), "-E", str(folder / "log")),
    )
    with running(host.sshd_command, port, ip) as process, service(host):
        host.processes.append(process)
        try:
            yield host
        finally:
            host.die()


def mortal_sshd(folder: Path, name: str) -> AbstractContextManager[Host]:
    """A host that may die, in a namespace of processes that ends with its sshd."""
    return sshd(folder, name, within=("unshare", "--pid", "--fork", "--kill-child"))


@contextmanager
def sshd_with_user(
    folder: Path,
    name: str,
    password: str,
    options: str = "",
    *,
    user_shell: str = "/bin/rbash",
    mounts: dict[str, Path] | None = None,
) -> Iterator[Host]:
    """A host whose user ``model`` has a password, a restricted shell unless told otherwise, and nothing but a HOME.

    The user is in no file of this machine: the host has its own, in a mount namespace, where ``mounts`` are folders
    of the host that it has as well.
    """
    # Where another user may enter, unlike pytest's folders.
    with tempfile.TemporaryDirectory(prefix="hybrid-") as outside:
        people = Path(outside)
        people.chmod(0o755)
        hashed = subprocess.run(
            ["openssl", "passwd", "-6", password], capture_output=True, text=True, check=True
        ).stdout.strip()
        home = people / "home"
        home.mkdir()
        os.chown(home, MODEL_UID, MODEL_UID)
        for file, line in (
            ("passwd", f"model:x:{MODEL_UID}:{MODEL_UID}::{home}:{user_shell}"),
            ("shadow", f"model:{hashed}:19000::::::"),
        ):
            (people / file).write_text(f"{Path('/etc', file).read_text()}{line}\n")
        own = {"/etc/passwd": people / "passwd", "/etc/shadow": people / "shadow", **(mounts or {})}
        mounting = 'while [ "$1" != -- ]; do mount --bind "$1" "$2" || exit; shift 2; done; shift; exec "$@"'
        pairs = [path for there, here in own.items() for path in (here, there)]
        within = ("unshare", "-m", "sh", "-c", mounting, "sh", *pairs, "--")
        options = f"{options}\nPasswordAuthentication yes\nSetEnv HOME={home}"
        with sshd(folder, name, options, within=within) as host:
            yield replace(host, base=home / "models")


@contextmanager
def dropbear(folder: Path, name: str) -> Iterator[Host]:
    """An edge host: Dropbear, and of programs only BusyBox's, its sh as the login shell's too."""
    program = require_program("dropbear", "dropbear-bin")
    converter = require_program("dropbearkey", "dropbear-bin")
    busybox = require_program("busybox", "busybox-static")
    folder.mkdir(parents=True)
    applets = folder / "bin"
    applets.mkdir()
    for applet in subprocess.run(
        [busybox, "--list"], capture_output=True, text=True, check=True
    ).stdout.split():
        (applets / applet).symlink_to(busybox)
    # Debian builds its BusyBox without this applet; OpenWrt and Alpine have it.
    if not (applets / "flock").exists():
        (applets / "flock").symlink_to(require_program("flock", "util-linux"))
    client_key = make_key(folder / "client")
    authorized = Path.home() / ".ssh/authorized_keys"
    printed = subprocess.run(
        [converter, "-t", "ed25519", "-f", folder / "host"], capture_output=True, text=True, check=True
    ).stdout
    host_key = next(line for line in printed.splitlines() if line.startswith("ssh-ed25519"))
    port = free_port()
    host = Host(
        name=name,
        port=port,
        http_port=free_port(),
        key_file=folder / "client",
        host_key=" ".join(host_key.split()[:2]),
        base=folder / "models",
        pid_file=folder / "service.pid",
    )
    command = [
        program,
        "-F",
        "-E",
        "-s",
        "-p",
        f"127.0.0.1:{port}",
        "-r",
        folder / "host",
        "-P",
        folder / "pid",
    ]
    with authorized_for_a_while(authorized, client_key), running(command, port), service(host):
        yield host


@contextmanager
def authorized_for_a_while(file: Path, key: str) -> Iterator[None]:
    """Dropbear reads no other file than the user's own; it gets back what it had."""
    before = file.read_bytes() if file.exists() else None
    file.parent.mkdir(mode=0o700, exist_ok=True)
    file.write_bytes((before or b"") + key.encode() + b"\n")
    file.chmod(0o600)
    try:
        yield
    finally:
        if before is None:
            file.unlink()
        else:
            file.write_bytes(before)
