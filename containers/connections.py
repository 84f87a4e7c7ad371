"""Gives Airflow the demo's connections: the embedded cloud, and the hosts named as arguments.

They are ordinary connections in Airflow's database, there to be read and changed under Admin, Connections.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import asyncssh

from hybrid_provider.emulator import EmulatedHost
from playground.environment import aws_connection, connection_id, ssh_connection

SSH_PORT = 2222
CLOUD = Path("/var/lib/hybrid/cloud/cloud.json")
# Where the workers have it.
KEY_FILE = Path("/var/lib/hybrid/ssh/id_ed25519")


def main() -> int:
    """Write the connections into a file and let Airflow read it."""
    cloud = json.loads(CLOUD.read_text())
    environment = cloud["environment"]
    aws = aws_connection(environment, cloud["role_arn"])
    services = aws["extra"]["service_config"]
    for name in ("s3", "sagemaker", "logs", "sts", "iam"):
        services.setdefault(name, {})["endpoint_url"] = environment[f"AWS_ENDPOINT_URL_{name.upper()}"]
    hosts = [asyncio.run(host(name)) for name in sys.argv[1:]]
    connections = {"aws_default": aws} | {connection_id(each): ssh_connection(each) for each in hosts}
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        file.write(json.dumps(connections))
        file.flush()
        airflow = str(Path(sys.executable).parent / "airflow")
        return subprocess.call([airflow, "connections", "import", "--overwrite", file.name])


async def host(name: str) -> EmulatedHost:
    """What there is to know of one host.

    Its key is asked of the host itself, once: between these containers nobody can answer in its place. For a
    host across a network, take the key from the host's own console.
    """
    key = await asyncssh.get_server_host_key(name, SSH_PORT, server_host_key_algs=["ssh-ed25519"])
    if key is None:
        raise SystemExit(f"{name} offers no ssh-ed25519 host key on port {SSH_PORT}")
    return EmulatedHost(
        name=name,
        address=name,
        port=SSH_PORT,
        user="edge",
        key_file=KEY_FILE,
        host_key=key.export_public_key().decode().strip(),
        root=Path("/home/edge"),
        model_server_url=f"http://{name}:8080",
        reload_command='kill -HUP "$(cat "$HOME/model-server.pid")"',
    )


if __name__ == "__main__":
    sys.exit(main())
