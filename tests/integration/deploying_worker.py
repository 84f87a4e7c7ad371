"""A worker that deploys in a process of its own, to be killed: prints each transition as it happens."""

from __future__ import annotations

import asyncio
import base64
import json
import pickle
import sys
from pathlib import Path

from hybrid_provider.artifacts.manifest import Manifest
from hybrid_provider.artifacts.release import Release
from hybrid_provider.rollout.engine import Rollout
from hybrid_provider.rollout.policy import RolloutPolicy
from hybrid_provider.rollout.probe import HttpProbe
from hybrid_provider.targets.ssh import SshAddress, SshTarget
from hybrid_provider.targets.target import Placement


def main() -> None:
    order = json.loads(sys.argv[1])
    release = Release(
        model=order.get("model", "digits"),
        release_id=order["release_id"],
        manifest=Manifest.parse(order["manifest"]),
        path=Path(order["path"]),
        artifact=None,
    )
    targets = [
        SshTarget(
            name=host["name"],
            address=SshAddress(
                host="127.0.0.1",
                port=host["port"],
                user="root",
                host_keys=(host["host_key"],),
                key_file=Path(host["key_file"]),
            ),
            placement=Placement(**host["placement"]),
        ).open(Placement())
        for host in order.get("hosts", [])
    ]
    # From the test that started us.
    specs = pickle.loads(base64.b64decode(order["specs"])) if "specs" in order else []  # noqa: S301
    targets += [spec.open(Placement()) for spec in specs]
    rollout = Rollout(
        release,
        targets,
        HttpProbe(),
        RolloutPolicy.of(order["policy"]),
        rollout_id=order["rollout"],
        journal=lambda entry: print(entry, flush=True),
    )
    asyncio.run(rollout.run())


if __name__ == "__main__":
    main()
