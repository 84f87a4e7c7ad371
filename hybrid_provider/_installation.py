"""Which Airflow installation this is, as seen from a worker that cannot reach the metadata database."""

from __future__ import annotations

import secrets

from airflow.sdk import Variable, conf

VARIABLE = "hybrid_installation_id"


def installation_id() -> str:
    """``[hybrid] installation_id``, else a random id kept as an Airflow Variable from its first use on.

    The Variable lives in the metadata database, so every worker of an installation reads the same one and
    no other installation has it.
    """
    configured = conf.get("hybrid", "installation_id", fallback="")
    if configured:
        return str(configured)
    kept = Variable.get(VARIABLE, default=None)
    if kept is None:
        Variable.set(
            VARIABLE,
            secrets.token_hex(8),
            description="Tells this Airflow from others in the same AWS account",
        )
        # Read again: of two workers that came here at once, the later one has written the id that stays.
        kept = Variable.get(VARIABLE)
    return str(kept)
