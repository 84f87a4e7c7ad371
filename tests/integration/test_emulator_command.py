"""``python -m hybrid_provider.emulator``, and the class's start and stop: nothing is left behind."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
import pytest

from hybrid_provider.emulator import Emulator, object_store
from hybrid_provider.emulator.processes import EmulatorError
from tests.servers import free_port
from tests.training_jobs import Training

if TYPE_CHECKING:
    from collections.abc import Iterator

COMMAND = [sys.executable, "-m", "hybrid_provider.emulator"]


def descendants(root: int) -> set[int]:
    """All processes below ``root``."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(") ")[2].split()
            except OSError:
                continue
            parents[int(entry.name)] = int(fields[1])
    found: set[int] = set()
    new = {root}
    while new:
        new = {pid for pid, parent in parents.items() if parent in new} - found
        found |= new
    return found


def until_gone(pids: set[int]) -> None:
    deadline = time.monotonic() + 30
    while left := {pid for pid in pids if Path(f"/proc/{pid}").exists()}:
        assert time.monotonic() < deadline, left
        time.sleep(0.02)


@pytest.fixture
def running(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """The command, with a training job and a detached process on a host, as busy as it can be."""
    command = [*COMMAND, "--json", "--hosts", "1", "--model", "digits", "--folder", str(tmp_path / "all")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        yield process
        process.kill()


def occupy(process: subprocess.Popen[str]) -> set[int]:
    """Have the emulator run a job; the pids of everything that it runs."""
    document = json.loads(process.stdout.readline())

    class Remote:
        environment = document["environment"]
        role_arn = document["role_arn"]

        def client(self, service: str) -> object:
            settings = {
                "aws_access_key_id": self.environment["AWS_ACCESS_KEY_ID"],
                "aws_secret_access_key": self.environment["AWS_SECRET_ACCESS_KEY"],
                "region_name": self.environment["AWS_DEFAULT_REGION"],
                "endpoint_url": self.environment[f"AWS_ENDPOINT_URL_{service.upper()}"],
            }
            return boto3.client(service, **settings)

    training = Training(Remote())
    name = training.start(
        "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('waiting'); signal.pause()"
    )
    training.wait_for_log(name, "waiting")
    (host,) = document["hosts"]
    assert Path(host["key_file"]).exists()
    assert Path(host["root"]).is_dir()
    return descendants(process.pid)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_and_all_that_it_runs(
    running: subprocess.Popen[str], number: signal.Signals
) -> None:
    pids = occupy(running)
    assert len(pids) > 8
    running.send_signal(number)
    assert running.wait(30) == 0
    # Ended, each of them; one that init has not reaped yet is still listed for a moment.
    until_gone(pids)


def test_what_it_runs_ends_even_when_it_is_killed(running: subprocess.Popen[str]) -> None:
    pids = occupy(running)
    running.kill()
    running.wait()
    until_gone(pids)


def test_shell_lines_say_how_to_reach_it_and_a_folder_of_its_own_is_removed() -> None:
    with subprocess.Popen([*COMMAND, "--hosts", "1"], stdout=subprocess.PIPE, text=True) as process:
        lines = []
        for line in process.stdout:
            lines.append(line.strip())
            if line.startswith("# running"):
                break
        process.terminate()
        assert process.wait(30) == 0
    exported = {line.split()[1].partition("=")[0] for line in lines if line.startswith("export ")}
    assert exported >= {
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_DEFAULT_REGION",
        "AWS_ENDPOINT_URL_S3",
        "AWS_ENDPOINT_URL_SAGEMAKER",
        "AWS_ENDPOINT_URL_LOGS",
        "AWS_ENDPOINT_URL_STS",
        "AWS_ENDPOINT_URL_IAM",
    }
    (host,) = [line for line in lines if line.startswith("# edge-01: ssh -i ")]
    key_file = Path(host.split()[4])
    assert not key_file.parent.parent.exists()


def test_a_port_in_use_is_one_clear_line() -> None:
    first = free_port()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", first))
        taken.listen()
        done = subprocess.run(
            [*COMMAND, "--first-port", str(first)], capture_output=True, text=True, check=False
        )
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert f"port {first} of 127.0.0.1, for the emulated S3, cannot be used" in line


@pytest.mark.parametrize("missing", ["moto", "sagemaker_training"])
def test_a_missing_extra_is_one_clear_line(missing: str) -> None:
    # None in sys.modules is how Python itself marks a module that must not be found.
    code = f"import sys; sys.modules['{missing}'] = None; from hybrid_provider.emulator.__main__ import main; sys.exit(main([]))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert missing in line
    assert "pip install 'airflow-provider-hybrid[emulator]'" in line


def test_help_says_what_it_is() -> None:
    done = subprocess.run([*COMMAND, "--help"], capture_output=True, text=True, check=True)
    assert "SageMaker" in done.stdout
    assert "--first-port" in done.stdout


def test_two_emulators_do_not_share_a_folder(tmp_path: Path) -> None:
    with Emulator(tmp_path, hosts=0), pytest.raises(EmulatorError, match="another emulator runs in"):
        Emulator(tmp_path, hosts=0).start()


def test_a_folder_keeps_its_objects_and_keys_for_the_next_start(tmp_path: Path) -> None:
    first_port = free_port()
    with Emulator(tmp_path, hosts=1, first_port=first_port) as before:
        s3 = before.client("s3")
        s3.create_bucket(Bucket="kept")
        s3.put_object(Bucket="kept", Key="key", Body=b"body")
    with Emulator(tmp_path, hosts=1, first_port=first_port) as after:
        assert after.client("s3").get_object(Bucket="kept", Key="key")["Body"].read() == b"body"
    assert (before.hosts[0].host_key, before.hosts[0].port) == (after.hosts[0].host_key, after.hosts[0].port)
    assert after.hosts[0].port == first_port + 10


def test_a_failing_part_leaves_nothing_running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = subprocess.Popen([sys.executable, "-c", "import os; print(os.getppid())"], stdout=subprocess.PIPE)
    parent = int(mine.communicate()[0])
    before = descendants(parent)
    monkeypatch.setattr(object_store, "seaweedfs_binary", lambda: "/bin/false")
    with pytest.raises(EmulatorError, match=r"the emulated S3 \(SeaweedFS\) did not start"):
        Emulator(tmp_path, hosts=1).start()
    assert descendants(parent) <= before


def test_where_seaweedfs_has_no_wheel_motos_s3_takes_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(object_store, "seaweedfs_binary", lambda: None)
    with Emulator(tmp_path, hosts=0) as emulator:
        training = Training(emulator)
        job = training.wait(training.start())
        assert job["TrainingJobStatus"] == "Completed", job.get("FailureReason")
        assert training.keys("models/")


def test_an_emulator_that_was_not_started_says_so(tmp_path: Path) -> None:
    with pytest.raises(EmulatorError, match=r"call start\(\) first"):
        _ = Emulator(tmp_path).ledger


def test_the_ledger_can_be_read_after_the_end(tmp_path: Path) -> None:
    with Emulator(tmp_path, hosts=0) as emulator:
        training = Training(emulator)
        name = training.start("pass")
        training.wait(name)
    (entry,) = emulator.ledger.entries
    assert (entry.name, entry.status, entry.running) == (name, "Completed", False)
    assert emulator.ledger.billed_seconds == entry.billed_seconds >= 1
