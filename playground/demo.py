"""`make demo`: the main job from nothing to live, a second release, and a bad one that undoes itself.

Exit code 0 only if every host ends on the good release and each step did what it says.
"""

from __future__ import annotations

import argparse
import json
import queue
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from rich.console import Console
from rich.table import Table
from rich.text import Text

from playground import dataset
from playground.airflow_log import Says, TaskBegins, TaskFails, events, without_container_chatter
from playground.command import run
from playground.environment import BUCKET, MODEL, playground
from playground.judge import Verdict, judge

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from playground.airflow_log import Event
    from playground.environment import Playground

# As wide as its widest table where no terminal says how wide it is.
console = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 110)

# Short bakes: a person is watching. Production keeps the policy's own 60 s.
POLICY = {"waves": [1, "100%"], "bake_time": 2, "min_healthy_time": 1, "healthy_deadline": 15}
GOOD_ENOUGH = 0.75
SILENCE_SECONDS = 5


@dataclass(frozen=True)
class Chapter:
    """One run of the DAG, and how it must end."""

    title: str
    data: str
    hyperparameters: dict[str, Any]
    succeeds: bool = True


CHAPTERS = (
    Chapter("1. The first release, from little data", "small", {"epochs": 40}),
    Chapter("2. A second release, from more data", "full", {"epochs": 40}),
    Chapter(
        "3. A bad release: it trains well, but no host's runtime knows its format",
        "full",
        {"epochs": 10, "ir_version": 99},
        succeeds=False,
    ),
)


def main() -> int:
    """Run the chapters and judge every host after each."""
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument("--hosts", type=int, default=2, help="number of on-prem hosts (default: 2)")
    parser.add_argument(
        "--keep", type=Path, help="keep Airflow's home, the store and the hosts in this folder"
    )
    arguments = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="hybrid-demo-") as scratch:
        folder = arguments.keep or Path(scratch)
        console.print("Starting the embedded cloud, the hosts and Airflow's database …")
        with playground(folder, arguments.hosts) as place:
            console.print(
                f"Up after {time.monotonic() - began:.1f} s, all on this machine: S3, SageMaker, CloudWatch, "
                f"{len(place.hosts)} SSH hosts"
            )
            complaints = tell(place)
    for complaint in complaints:
        console.print(f"[bold red]✗ {complaint}[/]")
    if not complaints:
        console.print(f"[bold green]✓ All of it held, in {time.monotonic() - began:.0f} s.[/]")
        console.print(
            "Next: `make up` for the same in Airflow's UI; docs/quickstart.md for a DAG of your own."
        )
    return 1 if complaints else 0


def tell(place: Playground) -> list[str]:
    """Run all chapters; what was not as promised comes back, a sentence each."""
    rows = dataset.held_out()
    complaints: list[str] = []
    before: list[Verdict] = []
    for chapter in CHAPTERS:
        console.rule(f"[bold]{chapter.title}")
        began = time.monotonic()
        succeeded = run_chapter(place, chapter)
        seconds = time.monotonic() - began
        after = [judge(host, MODEL, rows) for host in place.emulator.hosts]
        show(after, seconds)
        found = faults(chapter, before, after)
        if succeeded != chapter.succeeds:
            found.append(f"the run should have {'succeeded' if chapter.succeeds else 'failed'}")
        complaints += [f"{chapter.title}: {fault}" for fault in found]
        before = after
    return complaints


def faults(chapter: Chapter, before: list[Verdict], after: list[Verdict]) -> list[str]:
    """What the hosts do not do as the chapter promises."""
    found = []
    if len({verdict.release for verdict in after}) != 1:
        found.append("the hosts do not all serve the same release")
    for new in after:
        if new.release != new.on_disk or not new.release.endswith(new.digest[:12]):
            found.append(
                f"{new.host} serves {new.release}, its disk holds {new.on_disk} with digest {new.digest[:12]}"
            )
        if new.probe != 200 or new.accuracy < GOOD_ENOUGH:  # noqa: PLR2004 - HTTP's own number
            found.append(f"{new.host} answers {new.probe} with accuracy {new.accuracy:.3f}")
    for old, new in zip(before, after, strict=False):
        if chapter.succeeds and new.release == old.release:
            found.append(f"{new.host} still serves {old.release}")
        if not chapter.succeeds and new.release != old.release:
            found.append(f"{new.host} did not go back to {old.release}, it serves {new.release}")
    return found


def run_chapter(place: Playground, chapter: Chapter) -> bool:
    """Run the DAG once through Airflow's own command, and show it as it goes."""
    conf = {
        "data": f"s3://{BUCKET}/digits/data/{chapter.data}/",
        "hosts": list(place.hosts),
        "hyperparameters": chapter.hyperparameters,
        "policy": POLICY,
    }
    console.print(f"[dim]$ airflow dags test hybrid_retrain --conf '{json.dumps(conf)}'[/]")
    command = place.airflow("dags", "test", "hybrid_retrain", "--conf", json.dumps(conf))
    log = place.folder / "airflow" / f"run-{chapter.title[0]}.log"
    with (
        log.open("w") as copy,
        subprocess.Popen(
            command, env=place.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as process,
    ):
        began = time.monotonic()
        stream: Iterable[str] = process.stdout or ()
        told = without_container_chatter(events(_copied(stream, copy)))
        for event in _with_heartbeats(told):
            show_event(event, time.monotonic() - began)
    return process.returncode == 0


def _copied(lines: Iterable[str], copy: TextIO) -> Iterator[str]:
    for line in lines:
        copy.write(line)
        yield line


def _with_heartbeats(told: Iterable[Event]) -> Iterator[Event]:
    """The events as they come, and a sign of life wherever none comes for some seconds."""
    arrived: queue.Queue[Event | None] = queue.Queue()

    def listen() -> None:
        for event in told:
            arrived.put(event)
        arrived.put(None)

    threading.Thread(target=listen, daemon=True).start()
    task = "Airflow is loading"
    while True:
        try:
            event = arrived.get(timeout=SILENCE_SECONDS)
        except queue.Empty:
            yield Says("info", f"… {task}")
            continue
        if event is None:
            return
        if isinstance(event, TaskBegins):
            task = f"{event.task} goes on"
        yield event


def show_event(event: Event, seconds: float) -> None:
    """One line, with the seconds since the run began."""
    line = Text(f"{seconds:6.1f} s ", style="dim")
    match event:
        case TaskBegins(task):
            line.append(f"▶ {task}", style="not dim bold cyan")
        case Says(level, text):
            line.append(
                f"  {text}", style={"warning": "not dim yellow", "error": "not dim red"}.get(level, "not dim")
            )
        case TaskFails(reason):
            line.append(f"  ✗ {reason}", style="not dim red")
    console.print(line)


def show(verdicts: list[Verdict], seconds: float) -> None:
    """The table at the end of a chapter."""
    table = Table(title="What the hosts themselves say")
    for column in ("host", "release", "digest", "probe", "accuracy on held-out rows", "start to live"):
        table.add_column(column, no_wrap=True)
    for verdict in verdicts:
        table.add_row(
            verdict.host,
            verdict.release,
            verdict.digest[:12],
            str(verdict.probe),
            f"{verdict.accuracy:.3f}",
            f"{seconds:.1f} s",
        )
    console.print(table)


if __name__ == "__main__":
    run(main)
