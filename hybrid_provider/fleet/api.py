"""What the page reads: routes of Airflow's API server that only read, each for those who may read assets.

Nothing is written here: a button of the page asks Airflow's own REST API for a run of a DAG.
"""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any, Final

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.models.resource_details import (
    AssetDetails,
    DagAccessEntity,
    DagDetails,
)
from airflow.api_fastapi.common.db.common import SessionDep  # noqa: TC002 - FastAPI reads it
from airflow.api_fastapi.core_api.security import GetUserDep, requires_access_asset
from airflow.models.dag import DagModel
from fastapi import Depends, FastAPI, Header, HTTPException, Query, Response
from fastapi.responses import FileResponse

from hybrid_provider.fleet import records
from hybrid_provider.fleet.plugin import STATIC, version_of_page
from hybrid_provider.fleet.summary import census, is_running, metric_series, summary_of

# Enough for the charts of some years of weekly releases.
CHARTED: Final = 400

# Without the documentation pages of FastAPI, which would be public.
app = FastAPI(
    title="Model fleet",
    openapi_url=None,
    dependencies=[Depends(requires_access_asset("GET"))],
)


def _asset(name: str, session: SessionDep, user: GetUserDep) -> int:
    """The id of a model's asset, for who may read that one."""
    asset_id = records.asset_of(session, name)
    if asset_id is None:
        raise HTTPException(404, f"no DAG has the asset of a model {name!r} now")
    if not _may_read(asset_id, user):
        raise HTTPException(403, f"you may not read the asset of model {name!r}")
    return asset_id


def _may_read(asset_id: int, user: GetUserDep) -> bool:
    details = AssetDetails(id=str(asset_id))
    return get_auth_manager().is_authorized_asset(method="GET", details=details, user=user)


AssetDep = Annotated[int, Depends(_asset)]


@app.get("/static/{version}/{name}")
def script(version: str, name: str) -> FileResponse:
    """One of the page's modules, which a browser keeps as long as the address names their version."""
    if name not in {path.name for path in STATIC.glob("*.js")}:
        raise HTTPException(404, f"the page has no file {name!r}")
    # While servers are upgraded one by one, another one's modules are asked for here.
    kept = "private, max-age=31536000, immutable" if version == version_of_page() else "no-cache"
    return FileResponse(STATIC / name, media_type="text/javascript", headers={"Cache-Control": kept})


@app.get("/models")
def models(session: SessionDep, user: GetUserDep) -> dict[str, Any]:
    """Every model that the user may read, each fleet at one look."""
    found = []
    for asset_id, name in records.models(session):
        if not _may_read(asset_id, user):
            continue
        rollout = records.rollout(session, asset_id)
        found.append(
            {
                "name": name,
                "summary": summary_of(records.hosts(session, asset_id)),
                "rollout": _headline(rollout),
            }
        )
    return {"models": found}


@app.get("/models/{name}")
def fleet(
    asset_id: AssetDep,
    name: str,
    session: SessionDep,
    user: GetUserDep,
    if_none_match: Annotated[str | None, Header()] = None,
) -> Response:
    """One model: its hosts, the running or last rollout, and what the user may do about it."""
    hosts = records.hosts(session, asset_id)
    rollout = records.rollout(session, asset_id)
    body = json.dumps(
        {
            "name": name,
            "summary": summary_of(hosts),
            "hosts": hosts,
            "rollout": None if rollout is None else {**rollout, "running": is_running(rollout)},
            "actions": [_action(dag, user) for dag in records.action_dags(session, asset_id)],
        }
    ).encode()
    # The page asks every few seconds, and mostly nothing has changed.
    tag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    headers = {"ETag": tag, "Cache-Control": "no-cache"}
    if if_none_match is not None and tag in if_none_match:
        return Response(status_code=304, headers=headers)
    return Response(body, media_type="application/json", headers=headers)


@app.get("/models/{name}/history")
def history(
    asset_id: AssetDep,
    session: SessionDep,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
    before: int | None = None,
) -> dict[str, Any]:
    """The newest rollouts and trainings first, a page of them; ``next`` asks for the older ones."""
    changes, more = records.changes(session, asset_id, limit, before)
    return {"changes": changes, "next": more}


@app.get("/models/{name}/charts")
def charts(asset_id: AssetDep, session: SessionDep) -> dict[str, Any]:
    """Metrics per release, and hosts per release over time."""
    changes, _ = records.changes(session, asset_id, CHARTED)
    return {
        "metrics": metric_series(changes),
        "census": census(changes, records.hosts(session, asset_id)),
    }


def _headline(rollout: dict[str, Any] | None) -> dict[str, Any] | None:
    if rollout is None:
        return None
    keys = ("rollout", "kind", "release", "state", "began", "updated")
    return {**{key: rollout.get(key) for key in keys}, "running": is_running(rollout)}


def _action(dag: records.ActionDag, user: GetUserDep) -> dict[str, Any]:
    """A button: the DAG that it starts, and if this user cannot, why."""
    details = DagDetails(id=dag["dag_id"], team_name=DagModel.get_team_name(dag["dag_id"]))
    allowed = get_auth_manager().is_authorized_dag(
        method="POST", access_entity=DagAccessEntity.RUN, details=details, user=user
    )
    reason = None
    if not allowed:
        reason = f"You may look, but not start runs of {dag['dag_id']}; ask an administrator for that"
    elif dag["paused"]:
        reason = f"A run of {dag['dag_id']} would wait, because the DAG is paused; unpause it first"
    return {**dag, "allowed": reason is None, "reason": reason}
