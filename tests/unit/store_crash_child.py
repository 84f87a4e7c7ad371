"""Adds a release in forks of itself, each killed at the next file operation; a process without threads may fork."""

from __future__ import annotations

import os
import signal
import sys
from collections import Counter
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

from hybrid_provider.artifacts.artifact import Artifact
from hybrid_provider.artifacts.folder import FolderWriter
from hybrid_provider.artifacts.store import ReleaseStore

CREATED = datetime(2026, 11, 23, tzinfo=UTC)
ARTIFACT = Artifact(uri="s3://m/m.tar", size_bytes=9, etag="e", version_id=None, last_modified=CREATED)
FILES = {"model.onnx": b"weights" * 100, "code/a.py": b"1", "code/deep/b.py": b"2"}
FILE_OPERATIONS = ("open", "os.", "shutil.", "fcntl.", "tempfile.")


def add(store: ReleaseStore) -> str:
    with store.locked("digits"), store.staging("digits") as staged, FolderWriter(staged) as writer:
        for path, content in FILES.items():
            writer.write(path, [memoryview(content)])
        manifest = writer.seal()
        return store.add(
            "digits", staged, manifest, created=CREATED, artifact=ARTIFACT, provenance={}
        ).release_id


def killed_at(operation: int, root: Path) -> bool:
    """Add a release and die at one of its file operations; whether there was one to die at."""
    child = os.fork()
    if child == 0:
        operations = count(1)

        def die(event: str, arguments: tuple[object, ...]) -> None:
            if event.startswith(FILE_OPERATIONS) and next(operations) == operation:
                os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(die)
        add(ReleaseStore(root))
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


def main(folder: Path) -> None:
    expected = add(ReleaseStore(folder / "uninterrupted"))
    outcomes: Counter[str] = Counter()
    for operation in count(1):
        root = folder / str(operation)
        if not killed_at(operation, root):
            break
        outcomes[outcome(root)] += 1
        outcomes["kills"] += 1
        require(
            add(ReleaseStore(root)) == expected, f"operation {operation}: the next one made another release"
        )
        require(outcome(root) == "whole", f"operation {operation}: the next one made no release")
        require(not (root / "digits/.staging").exists(), f"operation {operation}: staging is left")
    for name, number in outcomes.items():
        sys.stdout.write(f"{name} {number}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
