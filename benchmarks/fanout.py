"""How long a model takes to eight hosts at once: ours, and the ways without it, in the same run.

The hosts are real: eight sshd on loopback, each with a service. Ours is a whole rollout in one wave:
preflight, bytes, every file read again and hashed on its host, the switch, a reload, a probe, the commit.
``scp`` at once, ``rsync`` at once and ``ansible.builtin.copy`` with eight forks bring bytes, and no more.
Then a release of which a tenth is new (``delta``), and one that is there already (``noop``).

The eight hosts share this machine's processors and, unless ``--inside`` says otherwise, its memory as their
disks: eight hosts have eight disks, and one disk behind all of them would be what is measured.

It needs root and the Debian packages openssh-server, openssh-client, rsync and ansible-core.
Run it with ``make bench-fanout``, or ``python -m benchmarks.fanout --help``. The last line is JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import asyncssh  # noqa: F401 - what a worker has imported long before
import httpx  # noqa: F401 - likewise

from hybrid_provider.rollout.engine import Rollout
from hybrid_provider.rollout.policy import RolloutPolicy
from hybrid_provider.rollout.probe import HttpProbe
from hybrid_provider.targets.target import Placement
from tests.integration.sshhosts import sshd
from tests.releases import make_release

if TYPE_CHECKING:
    from collections.abc import Callable

    from hybrid_provider.artifacts.release import Release
    from tests.integration.sshhosts import Host

HOSTS = 8
FILES = 10
POLICY = {
    "waves": ["100%"],
    "max_unavailable": "100%",
    "bake_time": 0,
    "min_healthy_time": 0,
    "probe_interval": 0.1,
}


@dataclass
class Bench:
    """The hosts, and two releases of which nine tenths are the same."""

    hosts: list[Host]
    first: Release
    second: Release
    work: Path
    rollouts: int = 0
    cpu_s_per_gb: list[float] = field(default_factory=list)

    def ours(self, release: Release, expected: str = "SUCCEEDED") -> float:
        self.rollouts += 1
        used, begun = resource.getrusage(resource.RUSAGE_SELF), time.monotonic()
        rollout = Rollout(
            release,
            [host.target.open(Placement()) for host in self.hosts],
            HttpProbe(),
            RolloutPolicy.of(POLICY),
            rollout_id=f"bench-{self.rollouts}",
        )
        result = asyncio.run(rollout.run())
        took, now = time.monotonic() - begun, resource.getrusage(resource.RUSAGE_SELF)
        states = {str(target.state) for target in result.targets}
        if states != {expected}:
            sys.exit(f"the rollout ended as {states}: {result.reasons()}")
        sent = sum(target.bytes_sent for target in result.targets)
        if release is self.first and sent:
            cpu = now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime
            self.cpu_s_per_gb.append(cpu / (sent / 1e9))
        return took

    def at_once(self, command: Callable[[Host], list[str]]) -> float:
        begun = time.monotonic()
        running = [subprocess.Popen(command(host)) for host in self.hosts]
        codes = [process.wait() for process in running]
        if any(codes):
            sys.exit(f"{command(self.hosts[0])} failed")
        return time.monotonic() - begun

    def scp(self, release: Release) -> float:
        return self.at_once(
            lambda host: [
                "scp",
                "-q",
                "-r",
                "-P",
                str(host.port),
                *login(host),
                f"{release.path}",
                f"root@127.0.0.1:{there(host)}",
            ]
        )

    def rsync(self, release: Release, before: Release) -> float:
        return self.at_once(
            lambda host: [
                "rsync", "-a", "-c", f"--link-dest={there(host)}/{before.release_id}",
                "-e", " ".join(["ssh", "-p", str(host.port), *login(host)]),
                f"{release.path}/", f"root@127.0.0.1:{there(host)}/rsync/",
            ]
        )  # fmt: skip

    def ansible(self, release: Release) -> float:
        inventory = self.work / "inventory"
        inventory.write_text(
            "".join(
                f"{host.name} ansible_host=127.0.0.1 ansible_port={host.port} ansible_user=root "
                f"ansible_ssh_private_key_file={host.key_file} ansible_python_interpreter=/usr/bin/python3 "
                f"ansible_ssh_extra_args='{' '.join(login(host))}' copy_to={there(host)}\n"
                for host in self.hosts
            )
        )
        begun = time.monotonic()
        subprocess.run(
            ["ansible", "all", "-i", inventory, "-f", str(HOSTS), "-m", "ansible.builtin.copy",
             "-a", f"src={release.path} dest={{{{ copy_to }}}}/ansible/"],
            env=os.environ | {"ANSIBLE_HOME": str(self.work / "ansible")},
            stdout=subprocess.DEVNULL,
            check=True,
        )  # fmt: skip
        return time.monotonic() - begun

    def clear(self) -> None:
        for host in self.hosts:
            shutil.rmtree(there(host))
            there(host).mkdir()
            shutil.rmtree(host.model)
            host.model.mkdir()
            subprocess.run(["sh", "-c", host.reload_command], check=True)


def login(host: Host) -> list[str]:
    known = host.key_file.with_name("known_hosts")
    known.write_text(f"[127.0.0.1]:{host.port} {host.host_key}\n")
    return ["-i", str(host.key_file), "-o", f"UserKnownHostsFile={known}", "-o", "BatchMode=yes"]


def there(host: Host) -> Path:
    return host.base.parent / "copies"


def make_releases(folder: Path, size_mb: int) -> tuple[Release, Release]:
    contents = {f"part-{n:02}.bin": os.urandom(size_mb * 1_000_000 // FILES) for n in range(FILES)}
    first = make_release(folder, contents, minute=0)
    contents["part-04.bin"] = os.urandom(size_mb * 1_000_000 // FILES)
    return first, make_release(folder, contents, minute=1)


def measure(bench: Bench, rounds: int, ansible_rounds: int) -> dict[str, float]:
    """All ways in turn, so that a slow minute of the machine falls on each."""
    first, second = bench.first, bench.second
    ways: dict[str, Callable[[], float]] = {
        "ours": lambda: bench.ours(first),
        "ours delta": lambda: bench.ours(second),
        "ours noop": lambda: bench.ours(second, "ALREADY_CURRENT"),
        "clear": lambda: bench.clear() or 0.0,
        "scp": lambda: bench.scp(first),
        "scp delta": lambda: bench.scp(second),
        "rsync delta": lambda: bench.rsync(second, first),
        "clear again": lambda: bench.clear() or 0.0,
        "ansible": lambda: bench.ansible(first),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(rounds):
        for name, way in ways.items():
            if name == "ansible" and turn >= ansible_rounds:
                continue
            seconds[name].append(way())
            if not name.startswith("clear"):
                print(f"round {turn + 1}  {name:<12} {seconds[name][-1]:7.2f} s", flush=True)
        bench.clear()
    median = {name: statistics.median(took) if took else float("nan") for name, took in seconds.items()}
    return {
        "hosts": HOSTS,
        "size_mb": round(first.manifest.size_bytes / 1e6),
        "ours_s": round(median["ours"], 2),
        "scp_parallel_s": round(median["scp"], 2),
        "ansible_copy_s": round(median["ansible"], 2),
        "speedup_vs_scp": round(median["scp"] / median["ours"], 2),
        "speedup_vs_ansible": round(median["ansible"] / median["ours"], 2),
        "delta_ours_s": round(median["ours delta"], 2),
        "delta_speedup_vs_scp": round(median["scp delta"] / median["ours delta"], 2),
        "delta_speedup_vs_rsync": round(median["rsync delta"] / median["ours delta"], 2),
        "noop_ms_per_host": round(median["ours noop"] / HOSTS * 1000, 1),
        "client_cpu_s_per_gb": round(statistics.median(bench.cpu_s_per_gb), 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size-mb", type=int, default=512, help="of the model (default: 512)")
    parser.add_argument("--rounds", type=int, default=3, help="the median of so many (default: 3)")
    parser.add_argument("--ansible-rounds", type=int, default=3, help="it takes minutes (default: 3)")
    memory = Path("/dev/shm")  # noqa: S108 - a disk, and no name of a file
    parser.add_argument("--inside", type=Path, default=memory, help="the hosts' disk (default: memory)")
    arguments = parser.parse_args()
    if missing := [program for program in ("scp", "rsync", "ansible") if shutil.which(program) is None]:
        parser.error(f"missing: {', '.join(missing)}; install openssh-client, rsync and ansible-core")
    with tempfile.TemporaryDirectory(dir=arguments.inside, prefix="bench-") as name, ExitStack() as stack:
        folder = Path(name)
        hosts = [stack.enter_context(sshd(folder / f"host-{n}", f"host-{n}")) for n in range(HOSTS)]
        for host in hosts:
            there(host).mkdir()
        first, second = make_releases(folder / "store", arguments.size_mb)
        bench = Bench(hosts, first, second, folder)
        numbers = measure(bench, arguments.rounds, arguments.ansible_rounds)
    print(json.dumps(numbers))


if __name__ == "__main__":
    main()
