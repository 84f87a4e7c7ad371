"""What Airflow sends of our metrics to a real StatsD server: all that the code has and docs/fleet.md lists."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs/fleet.md"
# In a process of its own, as Airflow reads these settings once.
COUNTED = """
from types import SimpleNamespace as Some
from hybrid_provider.fleet.metrics import count_rollout
from hybrid_provider.operators._training_events import count_billed

targets = [{"state": "SUCCEEDED", "bytes_sent": 100}, {"state": "REVERTED", "bytes_sent": 5}]
count_rollout("deploy", {"model": "digits", "state": "PAUSED", "seconds": 12.5, "targets": targets})
context = {"ti": Some(dag_id="retrain", task_id="train")}
count_billed(context, "digits", Some(billable_seconds=412, saved_seconds=88))
"""


@pytest.fixture
def sent():
    """What the server got: each metric with its tags, and its value and kind."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        settings = {
            "ON": "True",
            "HOST": "127.0.0.1",
            "PORT": str(server.getsockname()[1]),
            "INFLUXDB_ENABLED": "True",
        }
        environment = {f"AIRFLOW__METRICS__STATSD_{name}": value for name, value in settings.items()}
        subprocess.run([sys.executable, "-c", COUNTED], env=os.environ | environment, check=True, timeout=120)
        # Loopback has taken all of it by now.
        server.setblocking(False)
        datagrams = []
        while True:
            try:
                datagrams.append(server.recv(4096).decode())
            except BlockingIOError:
                break
    metrics = [one.removeprefix("airflow.").rsplit(":", 1) for one in datagrams]
    return {name: value for name, value in metrics if name.startswith("hybrid.")}


def test_every_metric_of_the_code_is_in_the_docs_and_reaches_the_server_with_its_tags(sent):
    rollout = "model=digits,kind=deploy,state=PAUSED"
    train = "model=digits,dag_id=retrain,task_id=train"
    assert sent == {
        f"hybrid.rollout.duration,{rollout}": "12500.000000|ms",
        f"hybrid.rollout.ended,{rollout}": "1|c",
        "hybrid.rollout.bytes_sent,model=digits,kind=deploy": "105|c",
        "hybrid.target.state,model=digits,state=SUCCEEDED": "1|g",
        "hybrid.target.state,model=digits,state=REVERTED": "1|g",
        f"hybrid.train.billable_seconds,{train}": "412|c",
        f"hybrid.train.saved_seconds,{train}": "88|c",
    }
    listed = set(re.findall(r"^\| `(hybrid\.[a-z_.]+)` \|", DOCS.read_text(), re.MULTILINE))
    assert listed == {name.split(",")[0] for name in sent}
    written = {
        name
        for path in (ROOT / "hybrid_provider").rglob("*.py")
        for name in re.findall(r"\"(hybrid\.[a-z]+\.[a-z_]+)\"", path.read_text())
    }
    assert listed == written
