"""The arguments of ``python -m hybrid_provider.rollout``."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

from hybrid_provider.artifacts.command_line import STORE_VARIABLE
from hybrid_provider.artifacts.store import LATEST
from hybrid_provider.rollout import commands
from hybrid_provider.rollout.policy import OnBreach

if TYPE_CHECKING:
    from collections.abc import Callable

    from hybrid_provider.artifacts.console import Outcome

_MISUSED: Final = "2: asked for what cannot be right."
_MOVED: Final = (
    "1: it failed, paused or was superseded; what is printed says where and why. 75: nothing was switched, "
    f"and the same command may work later. 130: interrupted; each target is on one whole release. {_MISUSED}"
)
_CODES: Final = {
    "deploy": f"0: the fleet, or with --stop-after the canary, serves the release. {_MOVED}",
    "rollback": f"0: the fleet is back. {_MOVED}",
    "status": f"0: every target told what it has, whatever that is. 1: one did not. {_MISUSED}",
    "audit": f"0: every target is as it should be, or was repaired. 1: one is not. With --repair also as "
    f"deploy. {_MISUSED}",
    "pin": f"0: done on every target. 1: not on one, which is named. {_MISUSED}",
}


def parser() -> argparse.ArgumentParser:
    """All commands and their arguments."""
    top = argparse.ArgumentParser(
        prog="python -m hybrid_provider.rollout",
        description="Move a fleet of hosts and engines from release to release, and look at it.",
    )
    commands_of = top.add_subparsers(required=True, metavar="COMMAND")

    def add(
        name: str, command: Callable[[argparse.Namespace], Outcome], text: str
    ) -> argparse.ArgumentParser:
        added = commands_of.add_parser(
            name, help=text, description=text, epilog=f"Exit codes: {_CODES[name]}"
        )
        added.set_defaults(command=command)
        _fleet_arguments(added)
        return added

    added = add(
        "deploy", commands.deploy, "Put a release live, wave by wave; each target proves it or goes back."
    )
    added.add_argument(
        "release", nargs="?", default=LATEST, help="an id, a channel, or 'latest', the default"
    )
    added.add_argument("--on-breach", choices=[*OnBreach], help="when more targets failed than may")
    added.add_argument(
        "--stop-after", choices=["canary"], help="end well once the canary is switched and baked"
    )
    _moving_arguments(added)

    added = add("status", commands.status, "Say what each target has and serves; changes nothing.")
    _probe_arguments(added)

    added = add(
        "rollback", commands.rollback, "Take each target to the release proved there before the live one."
    )
    added.add_argument("--only-from", metavar="RELEASE", help="only targets on which this release is live")
    _moving_arguments(added)

    added = add("audit", commands.audit_, "Hold what each target has and serves against the store.")
    added.add_argument(
        "--release", help="what all should serve; the store's champion, or what each proved last, by default"
    )
    added.add_argument("--rehash", action="store_true", help="read every file of the live release again")
    added.add_argument("--repair", action="store_true", help="deploy the expected release to what drifted")
    _moving_arguments(added)

    added = add("pin", commands.pin, "Keep targets on a release that they have, whatever rollouts come.")
    added.add_argument("release", nargs="?", help="an id")
    added.add_argument("--off", action="store_true", help="let rollouts move them again")
    added.add_argument(
        "--target", dest="only", action="append", metavar="NAME", help="repeatable; all where left out"
    )
    return top


def _fleet_arguments(added: argparse.ArgumentParser) -> None:
    added.add_argument(
        "--inventory", type=Path, required=True, metavar="FILE", help="YAML or JSON, of ours or Ansible's"
    )
    added.add_argument("--group", help="only this group of the inventory")
    added.add_argument("--model", help="where left out, the one that the store has")
    added.add_argument(
        "--store",
        type=Path,
        default=os.environ.get(STORE_VARIABLE),
        help=f"the folder of releases; ${STORE_VARIABLE} where left out",
    )
    added.add_argument("--policy", help="settings, as YAML such as '{bake_time: 0}' or a file of it")
    added.add_argument("--base-folder", help="on the targets")
    added.add_argument("--serving", help="how Docker Engines serve the model; likewise")
    added.add_argument("--json", action="store_true", help="print one JSON value, and no progress")


def _probe_arguments(added: argparse.ArgumentParser) -> None:
    added.add_argument(
        "--probe", help="such as '{kind: http, port: 8080}', or a file, or 'none'; http by default"
    )


def _moving_arguments(added: argparse.ArgumentParser) -> None:
    _probe_arguments(added)
    added.add_argument("--reload-command", help="shell text, run on each target after each switch")
    added.add_argument(
        "--skip", action="append", default=[], metavar="NAME", help="leave it alone; repeatable"
    )
    added.add_argument("--rollout", metavar="ID", help="go on with a rollout that was interrupted or failed")
