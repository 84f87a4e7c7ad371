"""The provider's entry into Airflow's UI and API server."""

from __future__ import annotations

from airflow.sdk.plugins_manager import AirflowPlugin


class HybridPlugin(AirflowPlugin):
    """Registers the provider with Airflow's plugins manager, so that `airflow plugins` lists it."""

    name = "hybrid"
