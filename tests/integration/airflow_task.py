"""What an operator sees of Airflow when it runs: a context, and connections from the environment."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.integration.s3bucket import Bucket


class StateStore:
    """``context["task_state_store"]``: it outlives the operator object."""

    def __init__(self) -> None:
        self.values: dict[str, str] = {}

    def get(self, key, default=None):
        return json.loads(self.values[key]) if key in self.values else default

    def set(self, key, value, *, retention=None):
        self.values[key] = json.dumps(value)


class AssetStores:
    """``context["asset_state_store"]``: one store for each asset; it outlives a run."""

    def __init__(self) -> None:
        self.stores: dict[str, StateStore] = {}

    def __getitem__(self, asset):
        return self.stores.setdefault(asset.uri, StateStore())

    def of(self, model="digits") -> StateStore:
        return self.stores[f"hybrid://model/{model}"]


class OutletEvents(dict):
    """``context["outlet_events"]``."""

    def __missing__(self, asset):
        return self.setdefault(asset, SimpleNamespace(extra={}))


def task_context(**more) -> dict[str, object]:
    ti = SimpleNamespace(dag_id="retrain", task_id="sync", run_id="manual", stats_tags={})
    return {
        "ti": ti,
        "task_state_store": StateStore(),
        "asset_state_store": AssetStores(),
        "outlet_events": OutletEvents(),
        **more,
    }


def aws_connection(bucket: Bucket) -> str:
    """An ``aws`` connection to the bucket, as ``AIRFLOW_CONN_AWS_DEFAULT`` carries it."""
    extra = {"region_name": "eu-central-1", "service_config": {"s3": {"endpoint_url": bucket.endpoint}}}
    return json.dumps(
        {"conn_type": "aws", "login": bucket.access_key, "password": bucket.secret_key, "extra": extra}
    )
