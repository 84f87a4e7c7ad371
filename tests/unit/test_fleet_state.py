"""What a deploy writes into the asset state of its model, without Airflow's database."""

from __future__ import annotations

import json
import logging
import threading
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from airflow.sdk import DAG, Asset, TaskGroup

from hybrid_provider.exceptions import ConfigurationError
from hybrid_provider.fleet.assets import model_asset
from hybrid_provider.fleet.rows import Change, Origin, host_row
from hybrid_provider.fleet.state import FleetState, RowWriter
from hybrid_provider.fleet.told import rows_told
from hybrid_provider.operators.deploy import OnPremDeployOperator
from hybrid_provider.operators.fleet import with_asset
from hybrid_provider.operators.gate import ModelGateOperator
from hybrid_provider.operators.pin import OnPremPinOperator
from hybrid_provider.operators.preflight import FleetPreflightOperator
from hybrid_provider.rollout.result import JournalEntry, RolloutResult, TargetResult
from hybrid_provider.rollout.result import Kind as ResultKind
from hybrid_provider.rollout.states import RolloutState, TargetState
from tests.integration.airflow_task import AssetStores, OutletEvents

ORIGIN = Origin(dag_id="retrain", run_id="r", task_id="deploy", map_index=-1)
NEW, OLD, OLDER = "new-1", "old-1", "older-1"
DIGEST = "d" * 64


def change(state, **more):
    facts = {"release": NEW, "digest": DIGEST, "rollout": "r-2", "at": "2026-11-24T06:00:00+00:00"}
    return Change(state=state, **{**facts, **more})


BEFORE = host_row(None, change(TargetState.SUCCEEDED, release=OLD, came_from=OLDER, rollout="r-1"), ORIGIN)
LATER = "2026-11-25T06:00:00+00:00"


def test_a_host_that_moved_has_the_release_and_the_one_before():
    row = host_row(BEFORE, change(TargetState.SUCCEEDED, at=LATER), ORIGIN)

    assert (row["release"], row["previous"], row["since"]) == (NEW, OLD, LATER)
    assert row["probe"] == {"healthy": True, "detail": "", "at": LATER}


def test_a_host_that_had_it_already_keeps_its_date_and_its_previous():
    moved = host_row(BEFORE, change(TargetState.SUCCEEDED), ORIGIN)
    row = host_row(moved, change(TargetState.ALREADY_CURRENT, at=LATER, came_from=NEW), ORIGIN)

    assert (row["release"], row["previous"], row["since"]) == (NEW, OLD, moved["since"])
    assert row["probe"]["at"] == LATER


@pytest.mark.parametrize(
    "state", [TargetState.REVERTED, TargetState.UNREACHABLE, TargetState.FAILED_NO_CHANGE]
)
def test_a_host_that_did_not_take_it_says_why_and_keeps_what_it_has(state):
    row = host_row(BEFORE, change(state, error="HTTP 500", at=LATER), ORIGIN)

    kept = ("release", "digest", "since", "previous", "probe")
    assert {name: row[name] for name in kept} == {name: BEFORE[name] for name in kept}
    assert (row["state"], row["error"], row["rollout"]) == (state.value, "HTTP 500", "r-2")


def test_what_the_target_says_goes_before_what_was_written():
    told = {"came_from": OLDER, "known": True, "live": OLDER, "pinned": OLDER}
    row = host_row(BEFORE, change(TargetState.REVERTED, at=LATER, **told), ORIGIN)

    assert (row["release"], row["digest"], row["pinned"]) == (OLDER, None, OLDER)


def context(stores=None):
    ti = SimpleNamespace(dag_id="retrain", task_id="deploy", run_id="r", map_index=-1)
    return {"ti": ti, "asset_state_store": stores or AssetStores(), "outlet_events": OutletEvents()}


def fleet_state(context, names=("edge-1", "edge-2"), rollout="r-2", continues=None, **more):
    facts = {"kind": "deploy", "release": NEW, "digests": {NEW: DIGEST}}
    return FleetState(
        context,
        rollout=rollout,
        model="digits",
        groups=dict.fromkeys(names, "munich"),
        max_failures=0,
        continues=continues,
        **{**facts, **more},
    )


def entry(target, state, detail="", seconds=1.0):
    return JournalEntry(seconds=seconds, target=target, state=state, detail=detail)


def result(states, error=None, **more):
    targets = tuple(
        TargetResult(
            name=name,
            state=TargetState(state),
            from_release=OLD,
            to_release=NEW,
            seconds=1.0,
            bytes_sent=1,
            bytes_linked=1,
            error=error,
            live=NEW,
        )
        for name, state in states.items()
    )
    facts = {
        "kind": ResultKind.DEPLOY,
        "release_id": NEW,
        "digest": DIGEST,
        "state": RolloutState.SUCCEEDED,
        "waves": (("edge-1",), ("edge-2",)),
    }
    return RolloutResult(rollout="r-2", model="digits", targets=targets, seconds=3.0, **{**facts, **more})


def test_a_rollout_and_its_hosts_are_in_the_asset_s_state_and_its_event():
    task = context()
    with fleet_state(task) as state:
        state.planned([["edge-1"], ["edge-2"]])
        state.entered(entry(None, RolloutState.CANARY))
        state.entered(entry("edge-1", TargetState.SUCCEEDED))
        state.ended(result({"edge-1": "SUCCEEDED", "edge-2": "SUCCEEDED"}))
        state.announce(
            result({"edge-1": "SUCCEEDED", "edge-2": "SUCCEEDED"}),
            {"job": "j", "billable_seconds": 9},
        )

    rows = task["asset_state_store"].of()
    assert rows.get("host/edge-2") | {"since": None, "probe": None} == {
        "release": NEW,
        "digest": DIGEST,
        "state": "SUCCEEDED",
        "since": None,
        "rollout": "r-2",
        "previous": OLD,
        "pinned": None,
        "group": "munich",
        "probe": None,
        "error": None,
        "dag_id": "retrain",
        "run_id": "r",
    }
    rollout = rows.get("rollout")
    assert (rollout["state"], rollout["kind"], rollout["waves"]) == (
        "SUCCEEDED",
        "deploy",
        [["edge-1"], ["edge-2"]],
    )
    assert rollout["targets"] == {"edge-1": "SUCCEEDED", "edge-2": "SUCCEEDED"}
    assert (rollout["dag_id"], rollout["task_id"], rollout["map_index"]) == ("retrain", "deploy", -1)
    extra = task["outlet_events"][model_asset("digits")].extra
    assert json.loads(json.dumps(extra)) == extra
    assert extra["targets"] == {"SUCCEEDED": 2}
    assert extra["training"] == {"job": "j", "arn": None, "metrics": None, "billable_seconds": 9}
    assert rows_told([extra]) == {"rollout": rollout}


def test_a_failure_counts_where_the_rollout_is():
    task = context()
    with fleet_state(task) as state:
        state.entered(entry("edge-1", TargetState.UNREACHABLE, "no route"))
        state.ended(result({"edge-1": "UNREACHABLE"}, error="no route"))

    rows = task["asset_state_store"].of()
    assert rows.get("rollout")["failures"] == 1
    assert rows.get("host/edge-1")["error"] == "no route"


def test_a_rollback_tells_the_release_that_most_hosts_have_now():
    task = context()
    back = {"kind": ResultKind.ROLLBACK, "release_id": None, "digest": None}
    ended = result({"edge-1": "SUCCEEDED"}, **back, state=RolloutState.ROLLED_BACK)
    with fleet_state(task, kind="rollback", release=None) as state:
        state.ended(ended)
        state.announce(ended, training=None)

    extra = task["outlet_events"][model_asset("digits")].extra
    assert (extra["release"], extra["digest"]) == (NEW, DIGEST)
    rows = task["asset_state_store"].of()
    assert (rows.get("rollout")["release"], rows.get("host/edge-1")["digest"]) == (NEW, DIGEST)


def test_a_rollout_that_failed_is_kept_for_the_history_until_a_retry_has_put_it_right():
    stores = AssetStores()
    with fleet_state(context(stores)) as state:
        state.entered(entry(None, RolloutState.WAVE))
        state.ended(result({"edge-1": "REVERTED"}, error="HTTP 500", state=RolloutState.PAUSED))
    (failed,) = stores.of().get("failed")["rollouts"]
    told = (failed["rollout"], failed["state"], failed["targets"], failed["run_id"])
    assert told == ("r-2", "PAUSED", {"REVERTED": 1}, "r")

    with fleet_state(context(stores), continues=datetime.now(UTC)) as state:
        state.ended(result({"edge-1": "SUCCEEDED"}))
    assert stores.of().get("failed") == {"rollouts": []}


def test_a_try_that_continues_a_rollout_keeps_when_it_began():
    stores = AssetStores()
    with fleet_state(context(stores)) as state:
        state.entered(entry(None, RolloutState.BAKING))
    began = stores.of().get("rollout")["began"]
    with fleet_state(context(stores), continues=datetime.fromisoformat(began)) as state:
        state.entered(entry(None, RolloutState.WAVE))
    assert stores.of().get("rollout")["began"] == datetime.fromisoformat(began).isoformat()
    assert state.before["state"] == "BAKING"


def test_a_rollout_that_was_left_running_is_closed_by_the_next(caplog):
    stores = AssetStores()
    with fleet_state(context(stores), rollout="r-1") as state:
        state.entered(entry(None, RolloutState.BAKING))
    with caplog.at_level(logging.WARNING), fleet_state(context(stores), rollout="r-2") as state:
        state.entered(entry(None, RolloutState.PREFLIGHT))
        state.entered(entry(None, RolloutState.STAGING))
    assert stores.of().get("rollout")["closed"] == {"rollout": "r-1", "state": "ABORTED"}
    assert "Rollout r-1 of task deploy in run r of DAG retrain was left in BAKING" in caplog.text


def test_a_rollout_that_a_newer_one_overtook_leaves_the_newer_one_s_row():
    stores = AssetStores()
    with fleet_state(context(stores), rollout="r-2") as state:
        state.entered(entry(None, RolloutState.WAVE))
    long_ago = datetime(2026, 1, 1, tzinfo=UTC)
    with fleet_state(context(stores), rollout="r-1", continues=long_ago) as state:
        state.entered(entry(None, RolloutState.SUPERSEDED))
    assert stores.of().get("rollout")["rollout"] == "r-2"


class Counting(AssetStores):
    def __init__(self):
        super().__init__()
        self.calls = []
        counted = self

        class Store:
            def get(self, key):
                counted.calls.append(("get", key))

            def set(self, key, row):
                counted.calls.append(("set", key))

        self.stores["hybrid://model/digits"] = Store()


def test_a_thousand_hosts_cost_one_read_and_one_write_each_and_no_wait():
    stores = Counting()
    names = [f"edge-{n}" for n in range(1000)]
    with fleet_state(context(stores), names) as state:
        for name in names:
            for target_state in (
                TargetState.STAGING,
                TargetState.VERIFIED,
                TargetState.SOAKING,
                TargetState.SUCCEEDED,
            ):
                state.entered(entry(name, target_state))
        state.ended(result(dict.fromkeys(names, "SUCCEEDED")))

    assert sum(call == "get" for call, _ in stores.calls) <= 1001
    assert len({key for call, key in stores.calls if call == "set"}) == 1001
    assert len(stores.calls) < 3100


class Broken:
    def __getitem__(self, asset):
        return self

    def get(self, key):
        raise RuntimeError("the API server is away")

    set = get


@pytest.mark.parametrize("stores", [Broken(), None])
def test_a_state_that_cannot_be_written_is_a_warning_and_no_failure(stores, caplog):
    task = context() | {"asset_state_store": stores}
    with caplog.at_level(logging.WARNING), fleet_state(task) as state:
        for _ in range(10):
            state.entered(entry(None, RolloutState.CANARY))
            state.entered(entry("edge-1", TargetState.SUCCEEDED))
        state.ended(result({"edge-1": "SUCCEEDED"}))
    assert len(caplog.records) <= 3


def test_a_state_that_hangs_is_given_up_and_counted():
    never = threading.Event()
    writer = RowWriter()
    writer.put("host/a", never.wait)
    writer.put("host/b", lambda: None)
    writer.put("host/b", lambda: None)
    assert writer.close(timedelta(seconds=0.05)) <= 2
    never.set()


def test_a_deploy_has_its_model_as_an_outlet_and_so_has_a_mapped_one():
    asset = Asset("hybrid://model/digits")
    single = OnPremDeployOperator(task_id="t", model_name="digits", release="latest", targets=["a"])
    mapped = OnPremDeployOperator.partial(task_id="m", model_name="digits", release="latest").expand(
        targets=[["a"]]
    )
    assert single.outlets == [asset]
    assert mapped.outlets == [asset]


def test_a_mapped_deploy_has_its_model_from_the_default_args_of_its_dag_or_task_group():
    settings = {"release": "latest"}
    with DAG("sites", schedule=None, default_args={"model_name": "digits"}) as dag:
        OnPremDeployOperator.partial(task_id="one", **settings).expand(targets=[["a"]])
        OnPremDeployOperator.partial(task_id="two", model_name="faces", **settings).expand(targets=[["a"]])
        canary = {"stop_after": "canary", "default_args": {"owner": "site"}, **settings}
        with TaskGroup("site", default_args={"model_name": "voices"}), TaskGroup("rack"):
            OnPremDeployOperator.partial(task_id="three", **canary).expand(targets=[["a"]])
    digits, faces, voices = map(model_asset, ("digits", "faces", "voices"))
    told = {name: (task.outlets, task.inlets) for name, task in dag.task_dict.items()}
    assert told == {"one": ([digits], []), "two": ([faces], []), "site.rack.three": ([], [voices])}
    models = {name: task.unmap({"targets": ["a"]}).model_name for name, task in dag.task_dict.items()}
    assert models == {"one": "digits", "two": "faces", "site.rack.three": "voices"}


def test_a_mapped_gate_reads_the_model_of_its_dag_s_default_args():
    with DAG("gates", schedule=None, default_args={"model_name": "digits"}):
        mapped = ModelGateOperator.partial(task_id="gate").expand(candidate=[{"accuracy": 1}])
    assert mapped.inlets == [model_asset("digits")]


def test_a_task_mapped_over_models_keeps_their_assets_whatever_the_default_model_is():
    names = ("faces", "voices")
    with DAG("models", schedule=None, default_args={"model_name": "digits"}):
        mapped = OnPremDeployOperator.partial(
            task_id="m", release="latest", targets=["a"], outlets=[model_asset(name) for name in names]
        ).expand(model_name=names)
    assert mapped.outlets == [model_asset(name) for name in names]


def test_an_instance_whose_model_was_left_out_of_the_assets_is_refused_before_anything_is_done():
    with DAG("models", schedule=None):
        mapped = OnPremDeployOperator.partial(
            task_id="m", release="latest", targets=["edge_01"], outlets=[model_asset("digits")]
        ).expand(model_name=["digits", "faces"])
    with pytest.raises(ConfigurationError, match=r"of faces: m is mapped.*partial\(outlets=\[model_asset"):
        mapped.unmap({"model_name": "faces"})._fleet()


def test_a_model_that_airflow_would_forget_before_the_task_runs_is_refused():
    """It forgets ``default_args`` of a partial task, and the deploy would be one of the DAG's model."""
    with (
        DAG("forgotten", schedule=None, default_args={"model_name": "digits"}),
        pytest.raises(ConfigurationError, match=r"m has model_name in .*give partial\(model_name=…\)"),
    ):
        OnPremDeployOperator.partial(task_id="m", release="latest", default_args={"model_name": "faces"})


@pytest.mark.parametrize("operator", [OnPremPinOperator, FleetPreflightOperator])
def test_what_is_no_news_of_the_model_makes_no_event_of_it_mapped_or_not(operator):
    asset = Asset("hybrid://model/digits")
    single = operator(task_id="t", model_name="digits", targets=["a"])
    mapped = operator.partial(task_id="m", model_name="digits").expand(targets=[["a"]])
    for task in (single, mapped):
        assert (task.inlets, task.outlets) == ([asset], [])


@pytest.mark.parametrize(
    ("operator", "settings", "where"),
    [
        (OnPremDeployOperator, {"release": "latest"}, "outlets"),
        (OnPremDeployOperator, {"release": "latest", "stop_after": "canary"}, "inlets"),
        (OnPremPinOperator, {}, "inlets"),
    ],
)
def test_a_task_mapped_over_models_is_given_their_assets_or_the_dag_says_so(operator, settings, where):
    models = [{"model_name": name, "targets": ["a"]} for name in ("digits", "faces")]
    with pytest.raises(
        ConfigurationError, match=rf"m is mapped over model_name.*partial\({where}=\[model_asset"
    ):
        operator.partial(task_id="m", **settings)
    assets = [model_asset(each["model_name"]) for each in models]
    mapped = operator.partial(task_id="m", **{where: assets}, **settings).expand_kwargs(models)
    assert getattr(mapped, where) == assets


def test_an_instance_mapped_over_models_announces_its_own_alone():
    given = [model_asset("digits"), model_asset("faces"), Asset("s3://elsewhere")]
    kept = with_asset({"outlets": given}, "faces", announces=True)["outlets"]
    assert kept == [model_asset("faces"), Asset("s3://elsewhere")]


@pytest.mark.parametrize(
    "uri", ["hybrid://model/../etc", "hybrid://host/a", "hybrid://model/a/b", "hybrid://model/"]
)
def test_an_asset_that_is_no_model_is_refused_where_it_is_made(uri):
    with pytest.raises(ValueError, match="it looks like hybrid://model/digits"):
        Asset(uri)
