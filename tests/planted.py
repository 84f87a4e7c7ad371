"""Plants bugs in what reads artifacts, one at a time, and says which test catches each: ``python tests/planted.py``.

Each bug is one exact replacement in a copy of the package; the copy alone is changed, and tested in the place of the
original. A bug that nothing catches, or that can no longer be planted, ends it with an error.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Bug:
    """What is replaced in a module of ``hybrid_provider/artifacts``, and the tests that must notice."""

    what: str
    module: str
    right: str
    wrong: str
    tests: str


ARCHIVE = "tests/unit/test_archive.py"
FAULTS = "tests/integration/test_sync_faults.py"
PREFIX = "tests/integration/test_sync_prefix.py"
RESUME = "tests/integration/test_sync_resume.py"
SYNC = "tests/integration/test_sync.py"
BUGS = (
    Bug(
        "a replaced object is called unavailable",
        "transfer.py",
        "raise item.changed() from error",
        'raise ArtifactUnavailable("x") from error',
        SYNC,
    ),
    Bug("a short body is taken", "transfer.py", "if size_bytes != part.end - part.start or", "if", FAULTS),
    Bug("no second attempt", "transfer.py", "range(1, self._policy.attempts)", "range(1, 1)", FAULTS),
    Bug(
        "a cut-off gzip is whole",
        "inflate.py",
        "if member is not None or carried or not begun",
        "if not begun",
        ARCHIVE,
    ),
    Bug(
        "what follows gzip is ignored",
        "inflate.py",
        "left, member = member.unused_data, None",
        "return",
        ARCHIVE,
    ),
    Bug("a taken name is written again", "folder.py", "self._taken_by_files.add(folded)", "pass", ARCHIVE),
    Bug(
        "a checksum is not compared", "fetch.py", "sha256.hexdigest() != self.expected_sha256", "False", SYNC
    ),
    Bug(
        "a kept file is not read again",
        "folder.py",
        "if not _has_sha256(source, sha256):",
        "if False:",
        PREFIX,
    ),
    Bug("a leftover is not used", "reuse.py", "staging.rename(leftover)\n    try", "pass\n    try", PREFIX),
    Bug("a refused prefix stays", "reuse.py", "if not _may_be_mended(error):", "if False:", PREFIX),
    Bug(
        "a changed prefix is taken",
        "fetch.py",
        "artifact_of(location, objects).etag != self.artifact.etag",
        "False",
        SYNC,
    ),
    Bug(
        "silence is not reported",
        "transfer.py",
        "while not wait([future], _SECONDS_BETWEEN_LOOKS).done:",
        "while not wait([future]).done:",
        FAULTS,
    ),
    Bug(
        "a kept part is not read again",
        "parts.py",
        "if hashlib.sha256(body).digest() != content[:_SHA256_BYTES]:",
        "if False:",
        RESUME,
    ),
    Bug("another object's parts are taken", "parts.py", "if identity == self._identity:", "if True:", RESUME),
    Bug("parts are not kept", "parts.py", "if not self._room or", "if True or", RESUME),
    Bug("S3's checksum is not compared", "fetch.py", "running.check(item.location)", "pass", RESUME),
    Bug("a full disk is not explained", "folder.py", "    errno.ENOSPC:", "    9999:", FAULTS),
)


def caught_by(bug: Bug) -> str | None:
    """The first test that fails with the bug; None if none does."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        for part in ("hybrid_provider", "tests"):
            shutil.copytree(ROOT / part, copy / part, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", copy)
        module = copy / "hybrid_provider/artifacts" / bug.module
        source = module.read_text()
        if source.count(bug.right) != 1:
            sys.exit(
                f"{bug.what}: {bug.module} holds {bug.right!r} {source.count(bug.right)} times; correct the bug"
            )
        module.write_text(source.replace(bug.right, bug.wrong))
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-x", "--timeout=60", *bug.tests.split()],
            cwd=copy,
            env=os.environ | {"PYTHONPATH": folder},
            capture_output=True,
            text=True,
            check=False,
        )
    lines = done.stdout.splitlines()
    if any(line.startswith("ERROR") for line in lines):
        sys.exit(f"{bug.what}: a server did not start, which proves nothing\n{done.stdout[-2000:]}")
    failed = [line for line in lines if line.startswith("FAILED")]
    return failed[0].partition("::")[2][:100] if failed else None


def main() -> None:
    names = sys.argv[1:]
    missed = 0
    for bug in BUGS:
        if names and not any(name in bug.what for name in names):
            continue
        test = caught_by(bug)
        missed += test is None
        print(f"{'caught' if test else 'MISSED':<7} {bug.what}: {test}", flush=True)
    sys.exit(missed)


if __name__ == "__main__":
    main()
