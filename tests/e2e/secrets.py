"""What must never be seen: looked for in whatever a run leaves behind, and in the list of processes while it runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playground.environment import Playground


class Secrets:
    """The secrets of a playground, and where one of them was found."""

    def __init__(self, place: Playground) -> None:
        keys = {host.key_file for host in place.emulator.hosts}
        self._texts = {
            "the AWS secret key": place.environment["AWS_SECRET_ACCESS_KEY"].encode(),
            # A line in the middle of the key: what comes before it is the same in every key.
            **{f"the private key {key.name}": key.read_bytes().splitlines()[3] for key in keys},
        }
        # Airflow's home with its database and logs, the store with its evidence, the hosts' own folders.
        self._folders = [
            place.folder / "airflow",
            place.folder / "store",
            *(host.root for host in place.emulator.hosts),
        ]
        self.looked_at = 0

    def found_in_files(self) -> list[str]:
        return [
            f"{secret} in {path}"
            for folder in self._folders
            for path in folder.rglob("*")
            if path.is_file() and not path.is_symlink()
            for secret in self._in(path)
        ]

    def found_in_processes(self) -> list[str]:
        """In any process's arguments; an environment is shown to the process's own user alone."""
        return [
            f"{secret} in the arguments of process {path.parent.name}"
            for path in Path("/proc").glob("[0-9]*/cmdline")
            for secret in self._in(path)
        ]

    def _in(self, path: Path) -> Iterator[str]:
        try:
            content = path.read_bytes()
        except OSError:
            return
        self.looked_at += 1
        yield from (name for name, text in self._texts.items() if text in content)
