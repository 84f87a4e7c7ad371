"""Runs the emulator until it is told to end: ``python -m hybrid_provider.emulator --help``."""

from __future__ import annotations

import argparse
import json
import logging
import shlex
import signal
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hybrid_provider.emulator.emulator import Emulator

_DESCRIPTION = """\
An emulated S3, SageMaker training, CloudWatch Logs, STS and IAM, and on-premises SSH hosts, on 127.0.0.1.
Prints how to reach them, and runs until Ctrl-C or SIGTERM.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the emulator; the exit status is 0 if it started and was told to end."""
    options = _parse(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _end)
    try:
        from hybrid_provider.emulator.emulator import Emulator
        from hybrid_provider.emulator.processes import EmulatorError
    except ImportError as error:
        sys.stderr.write(
            f"emulator: {error.name} is not installed: pip install 'airflow-provider-hybrid[emulator]'\n"
        )
        return 1
    try:
        with ExitStack() as stack:
            folder = options.folder or Path(
                stack.enter_context(tempfile.TemporaryDirectory(prefix="hybrid-emulator-"))
            )
            emulator = stack.enter_context(
                Emulator(folder, options.hosts, options.model, first_port=options.first_port)
            )
            sys.stdout.write((_as_json if options.json else _as_shell)(emulator))
            sys.stdout.flush()
            while True:
                signal.pause()
    except EmulatorError as error:
        sys.stderr.write(f"emulator: {error}\n")
        return 1
    except KeyboardInterrupt:
        return 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m hybrid_provider.emulator",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--hosts", type=int, default=2, metavar="N", help="how many hosts (%(default)s)")
    parser.add_argument("--model", metavar="NAME", help="run a model server of this model on each host")
    parser.add_argument("--folder", type=Path, metavar="DIR", help="where all is kept; else nothing is")
    parser.add_argument(
        "--first-port",
        type=int,
        metavar="P",
        help="listen on the same ports every time: S3 on P, SageMaker on P+1, logs, STS and IAM on P+2, "
        "hosts from P+10 on, their model servers from P+110 on",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of shell lines")
    return parser.parse_args(arguments)


def _end(_number: int, _frame: object) -> NoReturn:
    # Ending takes a moment; a second Ctrl-C must not leave it half done.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def _as_json(emulator: Emulator) -> str:
    document = {
        "environment": emulator.environment,
        "role_arn": emulator.role_arn,
        "folder": str(emulator.folder),
        "hosts": [
            {
                "name": host.name,
                "address": host.address,
                "port": host.port,
                "user": host.user,
                "key_file": str(host.key_file),
                "host_key": host.host_key,
                "root": str(host.root),
                "model_server_url": host.model_server_url,
                "reload_command": host.reload_command,
            }
            for host in emulator.hosts
        ],
    }
    return f"{json.dumps(document)}\n"


def _as_shell(emulator: Emulator) -> str:
    lines = [f"export {name}={shlex.quote(value)}" for name, value in emulator.environment.items()]
    lines.append(f"# execution role: {emulator.role_arn}")
    for host in emulator.hosts:
        lines.append(f"# {host.name}: ssh -i {host.key_file} -p {host.port} {host.user}@{host.address}")
        lines.append(f"#   host key: {host.host_key}")
        lines.append(f"#   home: {host.root}")
        if host.model_server_url is not None:
            lines.append(f"#   model server: {host.model_server_url}")
    lines.append("# running; Ctrl-C ends it")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
