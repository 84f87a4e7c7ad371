"""Stand-ins of commands that a page names and that a test must not run as they are: they check what was asked for.

``make`` runs nothing but ``help``, and asks that the target exists and that CI runs it; ``docker compose`` has its real self read
the file with the given environment, and asks that the compose test runs such a command; ``ssh-keyscan`` asks a host of
the test's; ``aws s3 cp`` has boto3 fetch the object; ``airflow`` notes what it was asked, and the test has Airflow's own command do it, on a database. What they stand in for is run elsewhere:
by CI, by the compose test, by the e2e test of the README.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
# They run until Ctrl-C, or for longer than CI may take; their parts have tests of their own.
NOT_IN_CI = {"up", "docs-serve", "format", "constraints", "clean", "test-faults", "test-planted", "help"}
ASKED = ".airflow-asked"
COMPOSE = ["compose", "-f", "docker-compose.airflow.yml"]


def stand_ins(folder: Path, port: int) -> Path:
    """A folder for the PATH."""
    folder.mkdir()
    for name in COMMANDS:
        real = shutil.which(name) or ""
        script = folder / name
        script.write_text(
            f'#!/bin/sh\nREAL={real} SSH_PORT={port} exec {sys.executable} {__file__} {name} "$@"\n'
        )
        script.chmod(0o755)
    return folder


def make(*arguments: str) -> None:
    options = [] if arguments == ("help",) else ["-n"]
    subprocess.run(
        [os.environ["REAL"], *options, "-C", ROOT, *arguments], check=True, stdout=subprocess.DEVNULL
    )
    lines = (ROOT / ".ci" / "run").read_text().splitlines()
    run = {word for line in lines if " make " in line for word in line.split(" make ")[1].split()}
    for target in arguments:
        known = "=" in target or target in NOT_IN_CI or target.startswith(("bench-", ".venv"))
        if not known and target not in run | {"test"}:
            sys.exit(f"make {target} is run by nothing in CI")


def docker(*arguments: str) -> None:
    if list(arguments[:3]) != COMPOSE:
        sys.exit(f"docker {arguments[0]}: the pages name compose alone")
    verb, *rest = arguments[3:]
    tested = (ROOT / "tests" / "compose" / "conftest.py").read_text()
    if verb not in {"up", "exec", "down", "build"}:
        sys.exit(f"docker compose {verb} is run by no test")
    if verb == "exec" and ", ".join(f'"{word}"' for word in rest) not in tested:
        sys.exit(f"docker compose {verb} {' '.join(rest)} is run by no test")
    if os.environ["REAL"]:
        file = str(ROOT / COMPOSE[-1])
        services = subprocess.run(
            [os.environ["REAL"], "compose", "-f", file, "config", "--services"],
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        ).stdout.split()
        asked = [word for word in rest if not word.startswith("-")] if verb in {"up", "build"} else []
        if unknown := set(asked) - set(services):
            sys.exit(f"compose has no service {', '.join(sorted(unknown))}")


def ssh_keyscan(*arguments: str) -> None:
    options = [*arguments[:-1], "-p", os.environ["SSH_PORT"]]
    found = subprocess.run(
        [os.environ["REAL"], *options, "127.0.0.1"], check=True, stdout=subprocess.PIPE, text=True
    ).stdout
    print(found.replace(f"[127.0.0.1]:{os.environ['SSH_PORT']}", arguments[-1]))


def aws(*arguments: str) -> None:
    import boto3  # here, as the other commands need not wait for it

    if arguments[:2] != ("s3", "cp") or len(arguments) != 4:
        sys.exit(f"aws {' '.join(arguments[:2])} is run by no test")
    bucket, _, key = arguments[2].removeprefix("s3://").partition("/")
    found = boto3.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read()
    Path(arguments[3], Path(key).name).write_bytes(found)


def airflow(*arguments: str) -> None:
    with Path(ASKED).open("a") as asked:
        asked.write(json.dumps(arguments) + "\n")


COMMANDS = {"make": make, "docker": docker, "ssh-keyscan": ssh_keyscan, "airflow": airflow, "aws": aws}

if __name__ == "__main__":
    COMMANDS[sys.argv[1]](*sys.argv[2:])
