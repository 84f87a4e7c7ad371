"""Adds and prunes releases in forks of itself, each killed at the next file operation.

A process without threads may fork.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections import Counter
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from hybrid_provider.artifacts.artifact import Artifact
from hybrid_provider.artifacts.folder import FolderWriter
from hybrid_provider.artifacts.retention import pin, prune
from hybrid_provider.artifacts.store import ReleaseStore

if TYPE_CHECKING:
    from collections.abc import Callable

CREATED = datetime(2026, 11, 23, tzinfo=UTC)
ARTIFACT = Artifact(uri="s3://m/m.tar", size_bytes=9, etag="e", version_id=None, last_modified=CREATED)
FILES = {"model.onnx": b"weights" * 1000, "code/a.py": b"1", "code/deep/b.py": b"2"}
FILE_OPERATIONS = ("open", "os.", "shutil.", "fcntl.", "tempfile.")


def add(store: ReleaseStore, files: dict[str, bytes] = FILES, created: datetime = CREATED) -> str:
    with store.locked("digits"), store.staging("digits") as staged, FolderWriter(staged) as writer:
        for path, content in files.items():
            writer.write(path, [memoryview(content)])
        manifest = writer.seal()
        return store.add(
            "digits", staged, manifest, created=created, artifact=ARTIFACT, provenance={}
        ).release_id


def killed_at(operation: int, work: Callable[[], object]) -> bool:
    """Work and die at one of its file operations; whether there was one to die at."""
    child = os.fork()
    if child == 0:
        operations = count(1)

        def die(event: str, arguments: tuple[object, ...]) -> None:
            if event.startswith(FILE_OPERATIONS) and next(operations) == operation:
                os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(die)
        work()
        os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)


def outcome(root: Path) -> str:
    store = ReleaseStore(root)
    releases = store.releases("digits")
    if not releases:
        require(store.find("digits", ARTIFACT) is None, "an artifact is known without its release")
        return "none"
    (release,) = releases
    require(store.verify(release) == (), f"a broken release: {store.verify(release)}")
    require(store.find("digits", ARTIFACT) in {None, release}, "another release is known")
    return "whole"


def require(true: bool, otherwise: str) -> None:
    if not true:
        raise SystemExit(otherwise)


def kill_adding(folder: Path) -> Counter[str]:
    expected = add(ReleaseStore(folder / "uninterrupted"))
    outcomes: Counter[str] = Counter()
    for operation in count(1):
        root = folder / str(operation)
        if not killed_at(operation, partial(add, ReleaseStore(root))):
            return outcomes
        outcomes[outcome(root)] += 1
        outcomes["kills"] += 1
        require(
            add(ReleaseStore(root)) == expected, f"operation {operation}: the next one made another release"
        )
        require(outcome(root) == "whole", f"operation {operation}: the next one made no release")
        require(not (root / "digits/.staging").exists(), f"operation {operation}: staging is left")
    raise AssertionError


def kill_sharing_and_pruning(folder: Path) -> Counter[str]:
    """A third release shares its files with two old ones, which are then pruned, all but one that is pinned."""
    outcomes: Counter[str] = Counter()
    prepared = ReleaseStore(folder / "prepared")
    old = [add(prepared, FILES | {"n": b"%d" % day}, CREATED - timedelta(day)) for day in (9, 8)]
    pin(prepared, "digits", old[0])
    for operation in count(1, 3):  # all of them take too long for a unit test
        store = ReleaseStore(folder / str(operation))
        shutil.copytree(prepared.root, store.root)
        if not killed_at(operation, partial(add_and_prune, store)):
            return outcomes
        outcomes["kills"] += 1
        releases = store.releases("digits")
        require(old[0] in {release.release_id for release in releases}, "the pinned release is gone")
        for release in releases:
            require(store.verify(release) == (), f"operation {operation}: broken {store.verify(release)}")
        outcomes[f"{len(releases)}_releases"] += 1
        newest = add_and_prune(store)
        require(store.release_ids("digits") == (old[0], newest), f"operation {operation}: not finished")
        left = {path.name for path in (store.root / "digits/manifests").iterdir()}
        require(left == {old[0], newest}, f"operation {operation}: {left} are left")
    raise AssertionError


def add_and_prune(store: ReleaseStore) -> str:
    newest = add(store)
    prune(store, "digits", keep=1)
    return newest


def main(part: str, folder: Path) -> None:
    outcomes = {"add": kill_adding, "prune": kill_sharing_and_pruning}[part](folder)
    for name, number in outcomes.items():
        sys.stdout.write(f"{name} {number}\n")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
