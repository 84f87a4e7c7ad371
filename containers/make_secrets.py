"""Makes the secrets of one installation, each at random, once: what is there is kept.

``make_secrets.py FOLDER SITE_FOLDER``: all of them in the first, and in the second a copy of the one that a
site's worker needs, the secret that it signs its questions to the API server with.

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


def main() -> int:
    """Make what is missing."""
    folder = Path(sys.argv[1])
    os.umask(0o027)
    # Letters and digits only: they stand in URLs.
    postgres = kept(folder / "postgres_password", secrets.token_hex(24))
    redis = kept(folder / "redis_password", secrets.token_hex(24))
    kept(folder / "sql_alchemy_conn", f"postgresql+psycopg2://airflow:{postgres}@postgres/airflow")
    kept(folder / "broker_url", f"redis://:{redis}@redis:6379/0")
    kept(folder / "fernet_key", Fernet.generate_key().decode())
    kept(folder / "api_secret_key", secrets.token_hex(32))
    jwt = kept(folder / "jwt_secret", secrets.token_hex(32))
    kept(Path(sys.argv[2]) / "jwt_secret", "", jwt)
    wanted = os.environ.get("AIRFLOW_ADMIN_PASSWORD")
    # A person reads this one in a terminal; Airflow takes the others as they are, line ends included.
    admin = kept(folder / "admin_password", f"{secrets.token_urlsafe(12)}\n", wanted and f"{wanted}\n")
    # The form that Airflow's simple auth manager reads.
    kept(folder / "passwords.json", "", json.dumps({"admin": admin}))
    return 0


def kept(file: Path, new: str, wanted: str | None = None) -> str:
    """The secret in ``file``: ``wanted`` if that is given, else what is there, else ``new``."""
    if wanted or not file.exists():
        file.touch(MODE)
        file.write_text(wanted or new)
    return file.read_text().strip()


if __name__ == "__main__":
    sys.exit(main())
