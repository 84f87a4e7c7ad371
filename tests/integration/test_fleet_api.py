"""What the page reads, asked of Airflow's own API server app with its own database, by who may and who may not."""

from __future__ import annotations

import importlib
import pkgutil

import pytest

from tests.fleets import ended, host, release_of, rollout, trained, write_events, write_state

OLD, NEW = release_of(2), release_of(16)
ROUTES = [
    "/models",
    "/models/digits",
    "/models/digits/history",
    "/models/digits/charts",
    "/static/v/fleet.js",
]


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    """Airflow's tables in a file of their own, with a model, another asset, and DAGs behind two buttons."""
    from airflow import settings
    from airflow.configuration import conf

    path = tmp_path_factory.mktemp("database") / "airflow.db"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", f"sqlite:///{path}")
        patch.setenv("AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS", "ada:admin,vera:viewer")
        patch.setenv("AIRFLOW__API_AUTH__JWT_SECRET", "a secret of these tests, long enough for HS512 " * 2)
        before = conf.get("database", "sql_alchemy_conn")
        settings.configure_vars()
        settings.configure_orm()
        _create_tables()
        yield path
        settings.dispose_orm()
        patch.setenv("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", before)
    settings.configure_vars()


def _create_tables():
    from airflow import models, settings
    from airflow.models.asset import AssetActive, AssetModel, TaskOutletAssetReference
    from airflow.models.base import Base
    from airflow.models.dag import DagModel, DagTag
    from airflow.models.dagbundle import DagBundleModel
    from airflow.utils.session import create_session

    models.import_all_models()
    Base.metadata.create_all(settings.engine)
    with create_session() as session:
        session.add(DagBundleModel(name="dags"))
        for name, uri in {
            "digits": "hybrid://model/digits",
            "prices": "s3://prices/",
            "spare": "hybrid://model/spare",
        }.items():
            asset = AssetModel(name=name, uri=uri)
            session.add(asset)
            session.flush()
            session.add(AssetActive.for_asset(asset))
        for dag_id, tag, paused in (
            ("hybrid_rollback_digits", "hybrid:rollback", False),
            ("hybrid_audit_digits", "hybrid:audit", True),
            ("someone_elses", "weekly", False),
        ):
            dag = DagModel(dag_id=dag_id, bundle_name="dags", is_paused=paused, is_stale=False)
            dag.tags = [DagTag(name=tag, dag_id=dag_id)]
            session.add(dag)
            session.flush()
            session.add(TaskOutletAssetReference(asset_id=1, dag_id=dag_id, task_id="work"))


@pytest.fixture(scope="module")
def server(database):
    """The whole app of the API server, the plugin mounted as Airflow mounts it."""
    from airflow.api_fastapi.app import create_app, purge_cached_app

    purge_cached_app()
    yield create_app(apps="core")
    purge_cached_app()


@pytest.fixture
def client(server):
    from fastapi.testclient import TestClient

    def client(name=None, role=None):
        from airflow.api_fastapi.app import get_auth_manager
        from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser

        headers = {}
        if name:
            token = get_auth_manager().generate_jwt(SimpleAuthManagerUser(username=name, role=role))
            headers = {"Authorization": f"Bearer {token}"}
        return TestClient(server, headers=headers)

    return client


@pytest.fixture
def admin(client):
    return client("ada", "admin")


@pytest.fixture
def digits(database):
    """A fleet of three hosts in the middle of a rollout, after two releases."""
    write_state(
        database,
        1,
        {
            "host/edge-01": host(NEW, previous=OLD),
            "host/edge-02": host(OLD, pinned=OLD, group="hall-2"),
            "host/edge-03": host(OLD, probe={"healthy": False, "detail": "connection refused", "at": None}),
            "rollout": rollout(NEW, [["edge-01"], ["edge-02", "edge-03"]], {"edge-01": "SUCCEEDED"}),
            "somebody-elses": {"kept": True},
        },
    )
    events = [
        {
            "job": "digits-1",
            "arn": "arn:1",
            "artifact": {},
            "metrics": {"accuracy": 0.9},
            "status": "Completed",
        },
        ended(OLD, {"SUCCEEDED": 3}, training=trained("digits-1", accuracy=0.9)),
        {"partition": "of another writer"},
        ended(
            NEW, {"SUCCEEDED": 1, "PENDING": 2}, state="PAUSED", training=trained("digits-2", accuracy=0.94)
        ),
    ]
    write_events(database, 1, events)
    yield
    write_state(database, 1, {})
    import sqlite3

    with sqlite3.connect(database) as connection:
        connection.execute("DELETE FROM asset_event")


@pytest.mark.parametrize("route", ROUTES)
def test_who_is_not_logged_in_gets_401_from_every_route(client, route):
    assert client().get(f"/hybrid_fleet{route}").status_code == 401


@pytest.mark.parametrize("route", ROUTES)
def test_who_may_not_read_assets_gets_403_from_every_route(client, route):
    assert client("eve").get(f"/hybrid_fleet{route}").status_code == 403


def test_the_routes_that_are_tested_are_all_that_there_are():
    from hybrid_provider.fleet.api import app

    paths = {route.path for route in app.routes}
    assert paths == {
        "/models", "/models/{name}", "/models/{name}/history", "/models/{name}/charts", "/static/{version}/{name}",
    }  # fmt: skip


def test_no_table_of_airflow_s_database_is_ours(database):
    from airflow.models.base import Base

    from hybrid_provider import fleet

    for module in pkgutil.iter_modules(fleet.__path__, "hybrid_provider.fleet."):
        importlib.import_module(module.name)
    mapped = [mapper.class_.__module__ for mapper in Base.registry.mappers]
    assert len(mapped) > 50
    assert not [module for module in mapped if module.startswith("hybrid_provider")]


def test_the_list_shows_models_only_each_at_one_look(admin, digits):
    models = admin.get("/hybrid_fleet/models").json()["models"]

    assert [model["name"] for model in models] == ["digits", "spare"]
    assert models[0]["summary"] == {
        "hosts": 3, "healthy": 2, "unhealthy": 1, "unknown": 0, "pinned": 1,
        "releases": [{"release": OLD, "hosts": 2}, {"release": NEW, "hosts": 1}],
    }  # fmt: skip
    assert models[0]["rollout"]["running"]
    assert models[1]["summary"]["hosts"] == 0
    assert models[1]["rollout"] is None


def test_a_model_shows_each_host_and_the_rollout(admin, digits):
    fleet = admin.get("/hybrid_fleet/models/digits").json()

    assert [(row["target"], row["release"], row["healthy"]) for row in fleet["hosts"]] == [
        ("edge-01", NEW, True), ("edge-02", OLD, True), ("edge-03", OLD, False),
    ]  # fmt: skip
    assert fleet["hosts"][1]["pinned"] == OLD
    assert fleet["hosts"][1]["group"] == "hall-2"
    assert fleet["hosts"][2]["probe"] == "connection refused"
    assert fleet["rollout"]["waves"] == [["edge-01"], ["edge-02", "edge-03"]]
    assert fleet["rollout"]["running"]


def test_nothing_new_is_answered_without_a_body(admin, digits, database):
    first = admin.get("/hybrid_fleet/models/digits")
    again = admin.get("/hybrid_fleet/models/digits", headers={"If-None-Match": first.headers["etag"]})
    write_state(database, 1, {"host/edge-01": host(OLD)})
    changed = admin.get("/hybrid_fleet/models/digits", headers={"If-None-Match": first.headers["etag"]})

    assert (again.status_code, again.content) == (304, b"")
    assert changed.status_code == 200
    assert len(changed.json()["hosts"]) == 1


def test_the_buttons_are_dags_with_the_model_as_outlet_and_a_tag(admin, digits):
    actions = {
        action["kind"]: action for action in admin.get("/hybrid_fleet/models/digits").json()["actions"]
    }

    assert actions.keys() == {"rollback", "audit"}
    assert actions["rollback"]["dag_id"] == "hybrid_rollback_digits"
    assert actions["rollback"]["allowed"]
    assert not actions["audit"]["allowed"]
    assert "unpause" in actions["audit"]["reason"]


def test_a_viewer_sees_the_fleet_and_is_told_why_there_is_nothing_to_press(client, digits):
    fleet = client("vera", "viewer").get("/hybrid_fleet/models/digits").json()

    assert len(fleet["hosts"]) == 3
    assert [action["allowed"] for action in fleet["actions"]] == [False, False]
    assert "hybrid_rollback_digits" in str([action["reason"] for action in fleet["actions"]])


def test_the_server_refuses_a_viewer_s_run_whatever_the_page_shows(client, digits):
    asked = client("vera", "viewer").post(
        "/api/v2/dags/hybrid_rollback_digits/dagRuns", json={"logical_date": None, "conf": {}}
    )

    assert asked.status_code == 403


def test_the_history_has_rollouts_and_trainings_newest_first_in_pages(admin, digits):
    first = admin.get("/hybrid_fleet/models/digits/history", params={"limit": 2}).json()
    second = admin.get(
        "/hybrid_fleet/models/digits/history", params={"limit": 2, "before": first["next"]}
    ).json()
    third = admin.get(
        "/hybrid_fleet/models/digits/history", params={"limit": 2, "before": second["next"]}
    ).json()

    shown = [
        (row["kind"], row["release"], row["state"]) for page in (first, second) for row in page["changes"]
    ]
    assert shown == [("deploy", NEW, "PAUSED"), ("deploy", OLD, "SUCCEEDED"), ("training", None, "Completed")]
    assert first["changes"][0]["training"]["metrics"] == {"accuracy": 0.94}
    assert third == {"changes": [], "next": None}


def test_a_rollout_that_failed_is_in_the_history_where_it_belongs(admin, digits, database):
    newest, _ = admin.get("/hybrid_fleet/models/digits/history").json()["changes"][:2]
    failed = ended(NEW, {"REVERTED": 1}, state="FAILED", rollout="r-9") | {"task_id": "deploy"}
    rows = [
        {**failed, "at": "2026-11-23T23:00:00.000+00:00"},
        {**failed, "at": "2026-11-01T00:00:00.000+00:00"},
    ]
    write_state(database, 1, {"failed": {"rollouts": rows}})

    changes = admin.get("/hybrid_fleet/models/digits/history").json()["changes"]
    assert [change["state"] for change in changes][:3] == [newest["state"], "FAILED", "SUCCEEDED"]
    assert changes[-1]["state"] == "FAILED"
    page = admin.get("/hybrid_fleet/models/digits/history?limit=1").json()
    assert [change["state"] for change in page["changes"]] == [newest["state"]]
    older = admin.get(f"/hybrid_fleet/models/digits/history?limit=2&before={page['next']}").json()
    assert [change["state"] for change in older["changes"]] == ["FAILED", "SUCCEEDED"]


def test_the_charts_have_a_metric_per_release_and_hosts_per_release(admin, digits):
    charts = admin.get("/hybrid_fleet/models/digits/charts").json()

    assert [(point["release"], point["value"]) for point in charts["metrics"]["accuracy"]] == [
        (OLD, 0.9),
        (NEW, 0.94),
    ]
    assert [step["releases"] for step in charts["census"]] == [{OLD: 3}, {OLD: 2, NEW: 1}]


@pytest.mark.parametrize("name", ["unheard-of", "digit", "digits_", "%", "orders"])
def test_what_is_no_model_is_not_shown(admin, name):
    for route in ("", "/history", "/charts"):
        answer = admin.get(f"/hybrid_fleet/models/{name}{route}")
        assert answer.status_code == 404
        assert "no DAG has the asset" in answer.json()["detail"]


def test_a_model_that_one_may_not_read_is_neither_listed_nor_shown(admin, digits, monkeypatch):
    from airflow.api_fastapi.app import get_auth_manager

    def all_but_digits(*, method, user, details=None):
        return details is None or details.id != "1"

    monkeypatch.setattr(get_auth_manager(), "is_authorized_asset", all_but_digits)
    assert [model["name"] for model in admin.get("/hybrid_fleet/models").json()["models"]] == ["spare"]
    for route in ("", "/history", "/charts"):
        assert admin.get(f"/hybrid_fleet/models/digits{route}").status_code == 403


def test_only_the_page_s_own_modules_are_served_and_a_browser_keeps_those_of_this_version(admin):
    from hybrid_provider.fleet.plugin import HybridPlugin

    bundle = HybridPlugin.react_apps[0]["bundle_url"].removeprefix(".")
    module = admin.get(bundle)

    assert module.headers["content-type"].startswith("text/javascript")
    assert "immutable" in module.headers["cache-control"]
    other = admin.get("/hybrid_fleet/static/of-another-version/fleet.js")
    assert (other.text, other.headers["cache-control"]) == (module.text, "no-cache")
    assert admin.get("/hybrid_fleet/static/v/..%2Fapi.py").status_code == 404
    assert admin.get("/hybrid_fleet/static/v/other.js").status_code == 404


def test_nothing_is_written_through_a_route_of_ours(admin):
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        assert admin.request(method, "/hybrid_fleet/models/digits").status_code == 405
