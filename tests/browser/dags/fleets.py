"""Models whose fleets the tests write themselves, and the DAGs behind the buttons of one of them."""

from __future__ import annotations

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG, Param

from hybrid_provider.fleet.assets import model_asset

with DAG("models", schedule=None):
    EmptyOperator(task_id="prices", outlets=[model_asset("prices")])
    EmptyOperator(task_id="spare", outlets=[model_asset("spare")])

for kind in ("deploy", "rollback", "pin", "audit"):
    with DAG(
        f"hybrid_{kind}_prints",
        schedule=None,
        tags=[f"hybrid:{kind}"],
        # The page's fleet is larger, so that Airflow refuses what the page asks for.
        params={"hosts": Param(["line-01"], type="array", maxItems=10)},
    ):
        EmptyOperator(task_id="work", outlets=[model_asset("prints")])
