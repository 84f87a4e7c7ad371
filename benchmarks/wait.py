"""A thousand deferred trainings in one process: what waiting for them costs, ours and the amazon provider's.

Both sides wait for sleeping jobs of the emulator, looking every 30 seconds, in a process of their own that
runs all triggers in one event loop, as a triggerer does. Calls to SageMaker are counted by the emulator, CPU
time and memory by the kernel. Each minute, one in twenty of the jobs ends by itself. The second side waits
for the jobs that the first has left, and for new ones in the place of those that ended.

``calls_ratio`` is against one Describe per job and interval, which is what a wait that looks for itself comes
to. What the amazon provider's trigger did in the same run is printed beside it; on a busy machine that was a
third less.

The amazon provider's trigger makes a client of its own for each wait, which takes minutes for a thousand, and
is not counted; with ``--amazon-waits`` it waits for fewer, and its numbers are given for all. Its virtual
environment is made in ``.bench/`` with uv or venv and pip; where that fails, the output says so.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from airflow import __version__ as airflow_version

from hybrid_provider.emulator import Emulator
from hybrid_provider.emulator.sagemaker.images import SLEEP_IMAGE, Sleep

ROOT = Path(__file__).parent.parent
AMAZON = ROOT / ".bench" / "amazon"
BUCKET = "benchmark"
ENDING_PER_MINUTE = 0.05
"""The share of the jobs that ends each minute."""
READY_SECONDS = 600


class Sleepers:
    """The emulator's sleeping containers by the name of their job."""

    def __init__(self) -> None:
        self._by_job: dict[str, Sleep] = {}

    def runner_for(self, _image: str):
        return self._start

    def wake(self, job: str) -> None:
        self._by_job[job].wake()

    def _start(self, container):
        self._by_job[container.request["TrainingJobName"]] = sleep = Sleep(container)
        return sleep


@dataclass(frozen=True)
class Cost:
    """What one side's waits cost while nothing but the ends of some jobs happened."""

    waits: int
    calls_per_min: float
    log_calls_per_min: float
    cpu_s_per_min: float
    rss_mb: float
    rss_before_mb: float
    delays: tuple[float, ...]

    def delay(self, share: float) -> float:
        return sorted(self.delays)[min(len(self.delays) - 1, int(share * len(self.delays)))]

    def __str__(self) -> str:
        return (
            f"{self.waits} waits: {self.calls_per_min:.1f} SageMaker calls/min, "
            f"{self.log_calls_per_min:.1f} log calls/min, {self.cpu_s_per_min:.2f} CPU s/min, "
            f"{self.rss_mb:.0f} MB, end to event p50 {self.delay(0.5):.1f} s, p99 {self.delay(0.99):.1f} s "
            f"({len(self.delays)} ends)"
        )


class Waiting:
    """A process of ``waiting.py``, and what it has said."""

    def __init__(self, python: Path, side: str, names: list[str], interval: int, environment: dict[str, str]):
        self._lines: list[dict] = []
        self._heard = threading.Condition()
        self._process = subprocess.Popen(
            [python, ROOT / "benchmarks" / "waiting.py", side, str(interval)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self._send(json.dumps(names))
        self.rss_before_mb = self._await("started")["imported"]

    def calls(self) -> dict[str, int]:
        before = self._count("calls")
        self._send("calls")
        return self._await("calls", more_than=before)["calls"]

    def events(self) -> dict[str, float]:
        with self._heard:
            return {line["job"]: line["at"] for line in self._lines if "job" in line}

    def cpu_seconds(self) -> float:
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def rss_mb(self) -> float:
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0]) / 1024

    def end(self) -> None:
        self._process.stdin.close()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _send(self, line: str) -> None:
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def _read(self) -> None:
        for line in self._process.stdout:
            if line.startswith("{"):
                with self._heard:
                    self._lines.append(json.loads(line))
                    self._heard.notify_all()

    def _count(self, key: str) -> int:
        with self._heard:
            return sum(key in line for line in self._lines)

    def _await(self, key: str, more_than: int = 0) -> dict:
        with self._heard:
            if not self._heard.wait_for(lambda: self._count(key) > more_than, READY_SECONDS):
                raise SystemExit(f"the waiting process did not say {key!r}")
            return [line for line in self._lines if key in line][-1]


class Bench:
    """One emulator with sleeping jobs, and the sides that wait for them in turn."""

    def __init__(self, folder: Path, emulator: Emulator, sleepers: Sleepers, interval: int, seconds: int):
        self._folder = folder
        self._emulator = emulator
        self._sleepers = sleepers
        self._interval = interval
        self._seconds = seconds
        self.began_after = 0.0

    def refilled(self, names: list[str]) -> list[str]:
        """As many jobs that sleep: those of ``names`` that still do, and new ones for those that ended."""
        sleeping = [entry.name for entry in self._entries(names) if entry.running]
        return sleeping + self.start_jobs("refill", len(names) - len(sleeping))

    def start_jobs(self, prefix: str, count: int) -> list[str]:
        names = [f"{prefix}-{number}" for number in range(count)]
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(self._start, names))
        while any(entry.secondary_status != "Training" for entry in self._entries(names)):
            time.sleep(0.5)
        return names

    def measure(self, python: Path, side: str, names: list[str]) -> Cost:
        began = time.monotonic()
        waiting = Waiting(python, side, names, self._interval, self._environment())
        try:
            self._until_all_are_seen(side, len(names))
            self.began_after = time.monotonic() - began
            return self._window(waiting, names)
        finally:
            waiting.end()

    def _window(self, waiting: Waiting, names: list[str]) -> Cost:
        calls, own, cpu, began = self._sagemaker_calls(), waiting.calls(), waiting.cpu_seconds(), time.time()
        chance = random.Random(1)
        chosen = chance.sample(names, max(1, int(len(names) * ENDING_PER_MINUTE * self._seconds / 60)))
        # The last ends leave time for an interval and the event.
        span = max(1.0, self._seconds - self._interval - 5)
        woken: dict[str, float] = {}
        for after, name in zip(sorted(chance.uniform(0, span) for _ in chosen), chosen, strict=True):
            time.sleep(max(0.0, began + after - time.time()))
            self._sleepers.wake(name)
            woken[name] = time.time()
        time.sleep(max(0.0, began + self._seconds - time.time()))
        minutes = (time.time() - began) / 60
        called, rss, cpu_after = waiting.calls(), waiting.rss_mb(), waiting.cpu_seconds()
        events = waiting.events()
        if missing := set(chosen) - set(events):
            print(f"  {len(missing)} ends were not heard of within the window")
        logs = sum(called[name] - own.get(name, 0) for name in called if name.startswith("logs."))
        return Cost(
            waits=len(names),
            calls_per_min=(self._sagemaker_calls() - calls) / minutes,
            log_calls_per_min=logs / minutes,
            cpu_s_per_min=(cpu_after - cpu) / minutes,
            rss_mb=rss,
            rss_before_mb=waiting.rss_before_mb,
            delays=tuple(events[name] - woken[name] for name in chosen if name in events) or (float("nan"),),
        )

    def _until_all_are_seen(self, side: str, count: int) -> None:
        """Ours: the quick rounds at the beginning are over. Theirs: each has looked once, and once more."""
        if side == "ours":
            time.sleep(self._interval + 5)
            return
        deadline = time.monotonic() + READY_SECONDS
        first = self._describes()
        while self._describes() - first < 2 * count and time.monotonic() < deadline:
            time.sleep(1)

    def _start(self, name: str) -> None:
        self._client().create_training_job(
            TrainingJobName=name,
            RoleArn=self._emulator.role_arn,
            AlgorithmSpecification={"TrainingImage": SLEEP_IMAGE, "TrainingInputMode": "File"},
            OutputDataConfig={"S3OutputPath": f"s3://{BUCKET}/jobs"},
            ResourceConfig={"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 1},
            StoppingCondition={"MaxRuntimeInSeconds": 86400},
        )

    def _client(self):
        if not hasattr(self, "_sagemaker"):
            self._sagemaker = self._emulator.client("sagemaker")
        return self._sagemaker

    def _entries(self, names: list[str]):
        wanted = set(names)
        return [entry for entry in self._emulator.ledger.entries if entry.name in wanted]

    def _sagemaker_calls(self) -> int:
        return sum(self._emulator.ledger.calls.values())

    def _describes(self) -> int:
        return self._emulator.ledger.calls.get("DescribeTrainingJob", 0)

    def _environment(self) -> dict[str, str]:
        keys = self._emulator.environment
        connection = {
            "conn_type": "aws",
            "login": keys["AWS_ACCESS_KEY_ID"],
            "password": keys["AWS_SECRET_ACCESS_KEY"],
            "extra": {"region_name": keys["AWS_DEFAULT_REGION"]},
        }
        return {
            **os.environ,
            **keys,
            "PYTHONPATH": str(ROOT),
            "AIRFLOW_HOME": str(self._folder / "airflow"),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW_CONN_AWS_DEFAULT": json.dumps(connection),
        }


def amazon_python() -> Path | None:
    """The Python of an environment in which the amazon provider's trigger can be imported."""
    python = AMAZON / "bin" / "python"
    packages = [f"apache-airflow=={airflow_version}", "apache-airflow-providers-amazon", "aiobotocore"]
    uv = shutil.which("uv")
    make = (
        [uv, "venv", "-q", "--python", sys.executable, AMAZON]
        if uv
        else [sys.executable, "-m", "venv", AMAZON]
    )
    install = (
        [uv, "pip", "install", "-q", "--python", python] if uv else [python, "-m", "pip", "install", "-q"]
    )
    try:
        if not python.exists():
            subprocess.run(make, check=True)
            subprocess.run([*install, *packages], check=True)
        probe = "import aiobotocore, airflow.providers.amazon.aws.triggers.sagemaker"
        subprocess.run([python, "-c", probe], check=True, capture_output=True)
    except (subprocess.CalledProcessError, OSError) as error:
        print(f"the amazon provider's trigger cannot be had: {error}")
        return None
    return python


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    options.add_argument("--waits", type=int, default=1000)
    options.add_argument("--interval", type=int, default=30, help="seconds between looks, on both sides")
    options.add_argument("--seconds", type=int, default=120, help="how long each side is measured")
    options.add_argument(
        "--amazon-waits", type=int, help="of the amazon provider; as many unless told otherwise"
    )
    asked = options.parse_args()

    sleepers = Sleepers()
    with (
        tempfile.TemporaryDirectory() as folder,
        Emulator(
            Path(folder) / "cloud", hosts=0, instance_quota=10 * asked.waits, runner_for=sleepers.runner_for
        ) as emulator,
    ):
        emulator.client("s3").create_bucket(Bucket=BUCKET)
        bench = Bench(Path(folder), emulator, sleepers, asked.interval, asked.seconds)
        began = time.monotonic()
        jobs = bench.start_jobs("ours", asked.waits)
        print(f"{len(jobs)} jobs sleep after {time.monotonic() - began:.0f} s")
        ours = bench.measure(Path(sys.executable), "ours", jobs)
        print(f"ours, {ours}")
        one_describe_each = asked.waits * 60 / asked.interval
        python = amazon_python()
        if python is None:
            print("the amazon provider was not measured")
        else:
            same = bench.refilled(jobs)[: asked.amazon_waits]
            cost = bench.measure(python, "amazon", same)
            times = asked.waits / len(same)
            print(f"amazon provider, {cost}")
            print(f"amazon provider: all waits had begun after {bench.began_after:.0f} s")
            if times > 1:
                print(
                    f"amazon provider, for {asked.waits} waits: {cost.calls_per_min * times:.0f} calls/min, "
                    f"{cost.cpu_s_per_min * times:.1f} CPU s/min, "
                    f"about {cost.rss_before_mb + (cost.rss_mb - cost.rss_before_mb) * times:.0f} MB "
                    f"(times {times:g})"
                )
    print(
        f"one Describe per job and interval is {one_describe_each:.0f} calls/min; ours is 1/"
        f"{one_describe_each / ours.calls_per_min:.0f} of it (the bound is 1/20)"
    )
    print(
        json.dumps(
            {
                "waits": ours.waits,
                "calls_per_min": round(ours.calls_per_min, 1),
                "calls_ratio": round(ours.calls_per_min / one_describe_each, 4),
                "log_calls_per_min": round(ours.log_calls_per_min, 1),
                "cpu_s_per_min": round(ours.cpu_s_per_min, 2),
                "rss_mb": round(ours.rss_mb),
                "p50_delay_s": round(ours.delay(0.5), 1),
                "p99_delay_s": round(ours.delay(0.99), 1),
            }
        )
    )


if __name__ == "__main__":
    main()
