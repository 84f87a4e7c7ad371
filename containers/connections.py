"""Gives Airflow the demo's connections: the embedded cloud, and the hosts named as arguments.

They are ordinary connections in Airflow's database, there to be read and changed under Admin, Connections.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from hybrid_provider.emulator import EmulatedHost
from playground.environment import aws_connection, connection_id, ssh_connection

SSH_PORT = 2222
CLOUD = Path("/var/lib/hybrid/cloud/cloud.json")
# Where the site's worker has it.
KEY_FILE = Path("/var/lib/hybrid/ssh/id_ed25519")
# Each host's own, as it left them: nothing here has a way to a host to ask.
HOST_KEYS = Path("/var/lib/hybrid/host-keys")


def main() -> int:
    """Write the connections into a file and let Airflow read it."""
    cloud = json.loads(CLOUD.read_text())
    environment = cloud["environment"]
    aws = aws_connection(environment, cloud["role_arn"])
    services = aws["extra"]["service_config"]
    for name in ("s3", "sagemaker", "logs", "sts", "iam"):
        services.setdefault(name, {})["endpoint_url"] = environment[f"AWS_ENDPOINT_URL_{name.upper()}"]
    hosts = [host(name) for name in sys.argv[1:]]
    connections = {"aws_default": aws} | {connection_id(each): ssh_connection(each) for each in hosts}
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        file.write(json.dumps(connections))
        file.flush()
        airflow = str(Path(sys.executable).parent / "airflow")
        return subprocess.call([airflow, "connections", "import", "--overwrite", file.name])


def host(name: str) -> EmulatedHost:
    """What there is to know of one host."""
    kind, key, *_ = (HOST_KEYS / f"{name}.pub").read_text().split()
    return EmulatedHost(
        name=name,
        address=name,
        port=SSH_PORT,
        user="edge",
        key_file=KEY_FILE,
        host_key=f"{kind} {key}",
        root=Path("/home/edge"),
        model_server_url=f"http://{name}:8080",
        reload_command='kill -HUP "$(cat "$HOME/model-server.pid")"',
    )


if __name__ == "__main__":
    sys.exit(main())
