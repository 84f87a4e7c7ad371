"""Gives Airflow the demo's connections: the embedded cloud, and the hosts and engines named as arguments.

They are ordinary connections in Airflow's database, there to be read and changed under Admin, Connections.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

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
    parser = argparse.ArgumentParser()
    parser.add_argument("--hosts", nargs="+", default=[])
    parser.add_argument("--engines", nargs="+", default=[])
    named = parser.parse_args()
    connections = {"aws_default": aws}
    connections |= {connection_id(each): ssh_connection(each) for each in map(host, named.hosts)}
    connections |= {name.replace("-", "_"): engine_connection(name) for name in named.engines}
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


def engine_connection(name: str) -> dict[str, Any]:
    """A Docker Engine on a port, known by its certificate as we are by ours."""
    certificates = KEY_FILE.parent / name
    return {
        "conn_type": "docker_engine",
        "host": f"tcp://{name}:2376",
        "extra": {
            "ca_cert": str(certificates / "ca.pem"),
            "client_cert": str(certificates / "client-cert.pem"),
            "client_key": str(certificates / "client-key.pem"),
            "probe_url": f"http://{name}:8080/ping",
            "serving": {
                # Built with the stack and of no registry: what an engine has, it does not pull.
                "image": "hybrid-host",
                "command": ["/opt/host/serve"],
                "networks": ["hybrid_site"],
                # Of the engine's own machine; no network with a way out opens it.
                "address": "127.0.0.1",
                "port": 18080,
                "memory_bytes": 512 * 2**20,
                "host_config": {
                    "Init": True,
                    "CapDrop": ["ALL"],
                    "SecurityOpt": ["no-new-privileges"],
                    "PidsLimit": 128,
                },
            },
        },
    }


if __name__ == "__main__":
    sys.exit(main())
