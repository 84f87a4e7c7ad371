"""Where an Ansible play that moves hosts to a release leaves them: where hosts fail, and where it is killed.

``ansible-playbook`` runs a play as people write it, in batches, with a rescue that takes a host back.
Its hosts are folders of this machine. docs/comparison.md says what comes out; what a rollout here does in the
same stories is held by tests/integration/test_rollout.py and test_rollout_killed_worker.py.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import tempfile
import time
from pathlib import Path

PLAY = """
- hosts: all
  vars:
    here: "{{{{ base }}}}/current"
  gather_facts: false
  serial: {serial}
  max_fail_percentage: {percent}
  tasks:
    - block:
        - ansible.builtin.file: {{src: releases/new, dest: "{{{{ here }}}}", state: link, force: true}}
        - ansible.builtin.command: "{{{{ base }}}}/probe"
      rescue:
        - ansible.builtin.file: {{src: releases/old, dest: "{{{{ here }}}}", state: link, force: true}}
        - ansible.builtin.fail: {{msg: "it did not serve the release"}}
"""


class Hosts:
    """Folders with a link ``current``, and a probe each that passes."""

    def __init__(self, folder: Path, names: str) -> None:
        self.folder, self.names = folder, names
        for name in names:
            for release in ("old", "new"):
                (folder / name / "releases" / release).mkdir(parents=True)
            (folder / name / "current").symlink_to("releases/old")
            self.probe(name, "exit 0")

    def probe(self, name: str, script: str) -> None:
        """Let a host's probe do something else."""
        file = self.folder / name / "probe"
        file.write_text(f"#!/bin/sh\n{script}\n")
        file.chmod(0o755)

    def start(self, ansible: Path, *, serial: int, percent: int) -> subprocess.Popen[bytes]:
        """The play, in a group of processes of its own."""
        (self.folder / "play.yml").write_text(PLAY.format(serial=serial, percent=percent))
        how = "ansible_connection=local ansible_python_interpreter=/usr/bin/python3"
        lines = [f"{name} {how} base={self.folder / name}\n" for name in self.names]
        (self.folder / "inventory").write_text("".join(lines))
        return subprocess.Popen(
            [ansible / "ansible-playbook", "-i", self.folder / "inventory", self.folder / "play.yml"],
            env=os.environ | {"ANSIBLE_HOME": str(self.folder / ".ansible"), "LC_ALL": "C.UTF-8"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def live(self) -> dict[str, str]:
        """The release that each host is on."""
        return {name: (self.folder / name / "current").readlink().name for name in self.names}


def a_host_fails(ansible: Path, folder: Path) -> dict[str, str]:
    hosts = Hosts(folder, "abcd")
    hosts.probe("c", "exit 1")
    hosts.start(ansible, serial=1, percent=0).wait()
    return hosts.live()


def one_of_each_batch_fails(ansible: Path, folder: Path) -> dict[str, str]:
    hosts = Hosts(folder, "abcdef")
    for name in "ace":
        hosts.probe(name, "exit 1")
    hosts.start(ansible, serial=2, percent=50).wait()
    return hosts.live()


def the_controller_is_killed_while_it_probes(ansible: Path, folder: Path) -> dict[str, str]:
    hosts = Hosts(folder, "ab")
    # It would fail, and be rescued, if there were somebody to do it.
    hosts.probe("a", f"touch {folder}/probing; sleep 2; exit 1")
    play = hosts.start(ansible, serial=1, percent=0)
    while not (folder / "probing").exists():
        time.sleep(0.05)
    os.killpg(play.pid, signal.SIGKILL)
    play.wait()
    return hosts.live()


STORIES = (a_host_fails, one_of_each_batch_fails, the_controller_is_killed_while_it_probes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tools", type=Path, required=True, help="the folder of ansible-playbook")
    tools = parser.parse_args().tools.resolve()
    left = {}
    for story in STORIES:
        with tempfile.TemporaryDirectory() as folder:
            left[story.__name__] = story(tools, Path(folder))
    print(json.dumps(left, indent=2))


if __name__ == "__main__":
    main()
