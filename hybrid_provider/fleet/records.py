"""Reads a fleet from Airflow's own tables: the state and the events of the assets ``hybrid://model/<name>``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, TypedDict

from airflow.models.asset import (
    AssetActive,
    AssetEvent,
    AssetModel,
    TaskInletAssetReference,
    TaskOutletAssetReference,
)
from airflow.models.asset_state_store import AssetStateStoreModel
from airflow.models.dag import DagModel, DagTag
from sqlalchemy import select

from hybrid_provider.fleet.summary import FAILED_KEY, HOST_KEY, ROLLOUT_KEY, change_of, host_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.orm import Session

    from hybrid_provider.fleet.summary import Change, Host

MODEL_URI = "hybrid://model/"
# A DAG is behind a button of the page if it has the model's asset as an outlet or inlet, and this tag.
ACTION_TAGS = {
    "hybrid:deploy": "deploy",
    "hybrid:rollback": "rollback",
    "hybrid:pin": "pin",
    "hybrid:audit": "audit",
}


class ActionDag(TypedDict):
    """A DAG that a button starts."""

    kind: str
    dag_id: str
    paused: bool


def models(session: Session, prefix: str = "") -> Iterator[tuple[int, str]]:
    """Id and name of each model whose name begins so and whose asset some DAG has now, by name."""
    query = (
        select(AssetModel.id, AssetModel.uri)
        .join(AssetActive, (AssetActive.name == AssetModel.name) & (AssetActive.uri == AssetModel.uri))
        .where(AssetModel.uri.startswith(MODEL_URI + prefix, autoescape=True))
        .order_by(AssetModel.uri)
    )
    for asset_id, uri in session.execute(query):
        yield asset_id, name_of(uri)


def asset_of(session: Session, name: str) -> int | None:
    """The id of a model's asset, None if no DAG has it now."""
    return next((asset_id for asset_id, found in models(session, name) if found == name), None)


def name_of(uri: str) -> str:
    """``digits`` of ``hybrid://model/digits``."""
    return uri.removeprefix(MODEL_URI).strip("/")


def hosts(session: Session, asset_id: int) -> list[Host]:
    """The hosts, by name."""
    return [host_of(key, value) for key, value in _state(session, asset_id, HOST_KEY) if key != HOST_KEY]


def rollout(session: Session, asset_id: int) -> dict[str, Any] | None:
    """The running or last rollout."""
    return next((value for key, value in _state(session, asset_id, ROLLOUT_KEY) if key == ROLLOUT_KEY), None)


def changes(
    session: Session, asset_id: int, limit: int, before: int | None = None
) -> tuple[list[Change], int | None]:
    """A page of events, the newest first, and where the next page begins; None after the last.

    Between them is what ended badly in that time, of which there is no event. ``before`` is where the page
    before ended.
    """
    query = select(AssetEvent).where(AssetEvent.asset_id == asset_id).order_by(AssetEvent.id.desc())
    if before is not None:
        query = query.where(AssetEvent.id < before)
    events = session.scalars(query.limit(limit)).all()
    more = events[-1].id if len(events) == limit else None
    since = events[-1].timestamp.isoformat() if more is not None else ""
    until = _time(session, before) if before is not None else "~"
    found = [_change(event) for event in events]
    found += [change for change in _failed(session, asset_id) if since <= change["at"] < until]
    told = [change for change in found if change is not None]
    return sorted(told, key=lambda change: change["at"], reverse=True), more


def _time(session: Session, event_id: int) -> str:
    at = session.scalar(select(AssetEvent.timestamp).where(AssetEvent.id == event_id))
    return at.isoformat() if at else ""


def _failed(session: Session, asset_id: int) -> list[Change]:
    rows = [value for key, value in _state(session, asset_id, FAILED_KEY) if key == FAILED_KEY]
    failed = rows[0].get("rollouts", []) if rows else []
    found = [change_of(f"failed/{one['rollout']}", one["at"], one, one) for one in failed]
    return [change for change in found if change is not None]


def _change(event: AssetEvent) -> Change | None:
    source = {
        "dag_id": event.source_dag_id,
        "run_id": event.source_run_id,
        "task_id": event.source_task_id,
    }
    return change_of(event.id, event.timestamp.isoformat(), event.extra or {}, source)


def action_dags(session: Session, asset_id: int) -> list[ActionDag]:
    """The DAGs behind the buttons: those that have the model's asset and one of the tags."""
    outlets, inlets = (
        select(reference.dag_id).where(reference.asset_id == asset_id)
        for reference in (TaskOutletAssetReference, TaskInletAssetReference)
    )
    query = (
        select(DagTag.name, DagModel.dag_id, DagModel.is_paused)
        .join(DagModel, DagModel.dag_id == DagTag.dag_id)
        .where(DagModel.dag_id.in_(outlets) | DagModel.dag_id.in_(inlets))
        .where(DagTag.name.in_(ACTION_TAGS), ~DagModel.is_stale)
        .distinct()
        .order_by(DagModel.dag_id)
    )
    return [
        {"kind": ACTION_TAGS[tag], "dag_id": dag_id, "paused": bool(paused)}
        for tag, dag_id, paused in session.execute(query)
    ]


def _state(session: Session, asset_id: int, prefix: str) -> Iterator[tuple[str, Any]]:
    query = (
        select(AssetStateStoreModel.key, AssetStateStoreModel.value)
        .where(AssetStateStoreModel.asset_id == asset_id, AssetStateStoreModel.key.startswith(prefix))
        .order_by(AssetStateStoreModel.key)
    )
    for key, value in session.execute(query):
        state = json.loads(value)
        if isinstance(state, dict):
            yield key, state
