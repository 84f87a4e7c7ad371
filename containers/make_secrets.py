"""Makes the secrets of one installation, each at random, once: what is there is kept.

``make_secrets.py FOLDER SITE_FOLDER``: all of them in the first, and in the second a copy of the one that a
site's worker needs, the secret that it signs its questions to the API server with.

The password of the user admin is yours to choose: it comes from the file that compose mounts as its secret
``admin_password``, at each start of which the file has one. Only in the demo it is made at random as well.

The files are for their owner and the group root, as which every service of docker-compose.airflow.yml runs
that needs them. To bring a secret of your own, put it there first; to be rid of all, remove the volume.
"""

from __future__ import annotations

import json
import os
import secrets
import sys
from pathlib import Path

from cryptography.fernet import Fernet

# Readable by owner and group: Postgres and Redis run as users of their own, in the group root.
MODE = 0o640
CHOSEN = Path("/run/secrets/admin_password")


def main() -> int:
    """Make what is missing."""
    folder = Path(sys.argv[1])
    os.umask(0o027)
    chosen = chosen_password()
    if not (chosen or (folder / "admin_password").exists() or is_demo()):
        sys.exit(
            "the user admin has no password: write one into a file that the group 0 may read, and name that "
            "file in AIRFLOW_ADMIN_PASSWORD_FILE. Only the demo (COMPOSE_PROFILES=demo) makes one up."
        )
    # Letters and digits only: they stand in URLs.
    postgres = kept(folder / "postgres_password", secrets.token_hex(24))
    redis = kept(folder / "redis_password", secrets.token_hex(24))
    kept(folder / "sql_alchemy_conn", f"postgresql+psycopg2://airflow:{postgres}@postgres/airflow")
    kept(folder / "broker_url", f"redis://:{redis}@redis:6379/0")
    kept(folder / "fernet_key", Fernet.generate_key().decode())
    kept(folder / "api_secret_key", secrets.token_hex(32))
    jwt = kept(folder / "jwt_secret", secrets.token_hex(32))
    kept(Path(sys.argv[2]) / "jwt_secret", "", jwt)
    # A person reads this one in a terminal; Airflow takes the others as they are, line ends included.
    admin = kept(folder / "admin_password", f"{secrets.token_urlsafe(12)}\n", chosen and f"{chosen}\n")
    # The form that Airflow's simple auth manager reads.
    kept(folder / "passwords.json", "", json.dumps({"admin": admin}))
    return 0


def chosen_password() -> str:
    """What the operator's file holds; empty where there is no file or nothing in it."""
    try:
        return CHOSEN.read_text().strip()
    except FileNotFoundError:
        return ""
    except PermissionError:
        sys.exit("the file of AIRFLOW_ADMIN_PASSWORD_FILE cannot be read: give it to the group 0, mode 0640")


def is_demo() -> bool:
    """Whether the stack was started with its embedded cloud and hosts."""
    return "demo" in os.environ.get("COMPOSE_PROFILES", "").split(",")


def kept(file: Path, new: str, wanted: str | None = None) -> str:
    """The secret in ``file``: ``wanted`` if that is given, else what is there, else ``new``."""
    if wanted or not file.exists():
        file.touch(MODE)
        file.write_text(wanted or new)
    return file.read_text().strip()


if __name__ == "__main__":
    sys.exit(main())
