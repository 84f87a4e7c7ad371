"""Stand-ins for the images that the project's files name, made of Debian's packages where no registry is.

They carry this machine's own ways to packages (apt's archive, pip's index, the certificates that both trust), so
that the project's Dockerfile, which knows nothing of them, builds as it would on the official images.
"""

from __future__ import annotations

import configparser
import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tests.dockerd import give_up

if TYPE_CHECKING:
    from tests.dockerd import Engine

ROOT = Path(__file__).parents[2]
STANDINS = Path(__file__).parent / "standins" / "compose.yml"
BASE = "debian-standin"
# Of the official images: python:3.11 and Airflow's own are built on it.
SUITE = "bookworm"
PACKAGES = "python3,python3-venv,python3-pip,ca-certificates"
PIP_SETTINGS = ("index-url", "extra-index-url", "trusted-host", "proxy", "timeout")
CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"


def build_standins(engine: Engine, scratch: Path) -> None:
    """Build what is not there from an earlier run."""
    configuration = scratch / "pip.conf"
    write_pip_configuration(configuration)
    mirror = subprocess.run(
        [ROOT / ".ci" / "debian-mirror"], capture_output=True, text=True, check=True
    ).stdout
    if not mirror:
        give_up("this machine's apt names no Debian archive to make stand-in images of")
    certificates = Path(os.environ.get("SSL_CERT_FILE", CERTIFICATES))
    made_from = hashlib.sha256(
        configuration.read_bytes() + certificates.read_bytes() + f"{mirror} {SUITE} {PACKAGES}".encode()
    ).hexdigest()
    label = engine.docker(
        "image", "inspect", BASE, "--format", '{{index .Config.Labels "made-from"}}', check=False
    )
    if label.strip() != made_from:
        archive = scratch / "base.tar"
        bootstrap(archive, mirror.strip(), configuration, certificates)
        engine.docker("import", "--change", f"LABEL made-from={made_from}", str(archive), BASE)
        archive.unlink()
    engine.docker("compose", "--file", str(STANDINS), "--progress", "plain", "build")


def bootstrap(archive: Path, mirror: str, pip_configuration: Path, certificates: Path) -> None:
    """Make a minimal Debian with Python as a tar archive."""
    done = subprocess.run(
        [
            *("mmdebstrap", "--variant=minbase", f"--include={PACKAGES}"),
            f"--customize-hook=upload {certificates} {CERTIFICATES}",
            f"--customize-hook=upload {pip_configuration} /etc/pip.conf",
            *(SUITE, str(archive), mirror),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        give_up(f"mmdebstrap ended with {done.returncode}:\n{done.stderr[-2000:]}")


def write_pip_configuration(file: Path) -> None:
    """What this machine's pip is set to, as far as it means something in a container."""
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True
    )
    settings = {"cert": CERTIFICATES}
    for line in listed.stdout.splitlines():
        name, _, quoted = line.partition("=")
        key, value = name.rpartition(".")[2], quoted.strip("'")
        if key in PIP_SETTINGS and "file:" not in value:
            settings[key] = value
    # Values may hold a %, which is nothing special here.
    configuration = configparser.RawConfigParser()
    configuration["global"] = settings
    with file.open("w") as output:
        configuration.write(output)
