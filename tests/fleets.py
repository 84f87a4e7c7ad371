"""Fleets for tests of the page: their state and events as the operators leave them in Airflow's tables."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from datetime import UTC, datetime, timedelta

NOW = datetime(2026, 11, 24, 3, 0, tzinfo=UTC)
SERVING = "SUCCEEDED"


def digest_of(name):
    return hashlib.sha256(name.encode()).hexdigest()


def release_of(day):
    """The id of the release of a day in November."""
    created = datetime(2026, 11, day, 4, 30, tzinfo=UTC)
    return f"{created:%Y%m%dT%H%M%SZ}-{digest_of(str(day))[:12]}"


def host(release, **changed):
    """The state of a host that serves a release."""
    return {
        "release": release,
        "digest": digest_of(release),
        "state": SERVING,
        "since": (NOW - timedelta(hours=5)).isoformat(),
        "rollout": "hybrid-deploy-a1b2c3",
        "previous": release_of(2),
        "pinned": None,
        "group": None,
        "probe": {
            "healthy": True,
            "detail": f"200, release {release}",
            "at": (NOW - timedelta(minutes=2)).isoformat(),
        },
        "error": None,
        "dag_id": "hybrid_deploy",
        "run_id": "manual__2026-11-23",
        **changed,
    }


def rollout(release, waves, targets, **changed):
    """The state of a rollout."""
    return {
        "rollout": "hybrid-deploy-a1b2c3",
        "kind": "deploy",
        "model": "digits",
        "release": release,
        "digest": digest_of(release),
        "state": "WAVE",
        "waves": waves,
        "targets": targets,
        "failures": 0,
        "max_failures": 1,
        "began": (NOW - timedelta(minutes=6)).isoformat(),
        "updated": NOW.isoformat(),
        "seconds": 360.0,
        "dag_id": "hybrid_deploy",
        "run_id": "manual__2026-11-24",
        "task_id": "deploy",
        "map_index": -1,
        **changed,
    }


def ended(release, targets, **changed):
    """The extra of the event of a rollout that ended."""
    return {
        "kind": "deploy",
        "rollout": "hybrid-deploy-a1b2c3",
        "release": release,
        "digest": digest_of(release),
        "state": SERVING,
        "targets": targets,
        "seconds": 184.2,
        "training": None,
        "dag_id": "hybrid_deploy",
        "run_id": "manual__2026-11-23",
        **changed,
    }


def trained(job, **metrics):
    """The training part of such an extra."""
    return {
        "job": job,
        "arn": f"arn:aws:sagemaker:eu-central-1:123456789012:training-job/{job}",
        "metrics": metrics,
        "billable_seconds": 412,
    }


def read_state(database, asset_id):
    """The asset's state by key."""
    with sqlite3.connect(database, timeout=30) as connection:
        query = "SELECT key, value FROM asset_state_store WHERE asset_id = ?"
        return {key: json.loads(value) for key, value in connection.execute(query, (asset_id,))}


def write_state(database, asset_id, state):
    """Put the asset's state into the SQLite file of Airflow's tables, in place of what was there."""
    with sqlite3.connect(database, timeout=30) as connection:
        connection.execute("DELETE FROM asset_state_store WHERE asset_id = ?", (asset_id,))
        connection.executemany(
            "INSERT INTO asset_state_store (asset_id, key, value, updated_at) VALUES (?, ?, ?, ?)",
            [(asset_id, key, json.dumps(value), NOW.replace(tzinfo=None)) for key, value in state.items()],
        )


def write_events(database, asset_id, extras, *, every=timedelta(days=3)):
    """Add events to the asset, the last of them now."""
    with sqlite3.connect(database, timeout=30) as connection:
        connection.executemany(
            "INSERT INTO asset_event (asset_id, extra, source_dag_id, source_run_id, source_task_id, timestamp) "
            "VALUES (?, ?, ?, ?, ?, ?)",
            [
                (
                    asset_id,
                    json.dumps(extra),
                    extra.get("dag_id", "hybrid_retrain"),
                    extra.get("run_id", "manual"),
                    "deploy",
                    str((NOW - every * (len(extras) - 1 - number)).replace(tzinfo=None)),
                )
                for number, extra in enumerate(extras)
            ],
        )
