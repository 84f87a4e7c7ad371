"""What must never be seen of a stack: its secrets, and where one of them was found."""

from __future__ import annotations

import json

# Every secret file of a service's, as JSON.
READ = """
import json, pathlib, sys
folder = pathlib.Path("/var/lib/hybrid")
names = {"api-server": "secrets/*", "emulator": "cloud/cloud.json", "site-worker": "ssh/**/*"}
print(json.dumps({
    str(path): path.read_text() for path in folder.glob(names[sys.argv[1]]) if path.is_file()
}))
"""


def secrets_of(stack):
    """The secrets of this installation by name: Airflow's, the cloud's, and the site's two private keys."""
    found = {}
    for service in ("api-server", "emulator", "site-worker"):
        found |= json.loads(stack.compose("exec", "-T", service, "python", "-c", READ, service))
    secrets = {}
    for path, text in found.items():
        name = path.rpartition("/")[2]
        if name == "cloud.json":
            secrets[name] = json.loads(text)["environment"]["AWS_SECRET_ACCESS_KEY"]
        elif "PRIVATE KEY" in text:
            # The first line of a key is the same in many.
            secrets[name] = text.splitlines()[2]
        elif "/secrets/" in path:
            secrets[name] = text.strip()
    return secrets


def files_with(stack, service, secrets, folders):
    """The files in a service's folders that have a secret in them; grep is told the secrets on its standard input."""
    found = stack.compose(
        *("exec", "-T", service, "grep", "-rlFs", "-f", "-", *folders),
        given="\n".join(secrets.values()),
        check=False,
    )
    return found.split()
