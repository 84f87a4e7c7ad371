"""What Airflow learns about this provider before importing any of it."""

from __future__ import annotations

from typing import Any

from hybrid_provider import __version__


def get_provider_info() -> dict[str, Any]:
    """The provider's metadata in the form of Airflow's ``provider_info.schema.json``."""
    return {
        "package-name": "airflow-provider-hybrid",
        "name": "Hybrid",
        "description": "Train in the cloud once, bring the model on-premises, put it live on your own hosts.",
        "versions": [__version__],
        "asset-uris": [{"schemes": ["hybrid"], "handler": "hybrid_provider.fleet.assets.checked_uri"}],
        "notifications": ["hybrid_provider.notifications.hybrid.HybridNotifier"],
        "extra-links": [
            "hybrid_provider.links.training.TrainingJobLink",
            "hybrid_provider.links.training.TrainingLogLink",
        ],
        "connection-types": [
            {
                "connection-type": "docker_engine",
                "hook-class-name": "hybrid_provider.hooks.docker_engine.DockerEngineHook",
                "hook-name": "Docker Engine (hybrid)",
                "ui-field-behaviour": {
                    "hidden-fields": ["schema", "login", "password", "port"],
                    "relabeling": {"host": "Engine URL"},
                    "placeholders": {"host": "unix:///var/run/docker.sock or tcp://edge-07:2376"},
                },
                "conn-fields": {
                    "ssh_conn_id": {
                        "label": "SSH connection",
                        "schema": {"type": ["string", "null"]},
                        "description": "Reach the engine's socket through this ssh connection",
                    },
                    "ca_cert": {"label": "CA certificate (file)", "schema": {"type": ["string", "null"]}},
                    "client_cert": {
                        "label": "Client certificate (file)",
                        "schema": {"type": ["string", "null"]},
                    },
                    "client_key": {"label": "Client key (file)", "schema": {"type": ["string", "null"]}},
                },
            },
        ],
        "config": {
            "hybrid": {
                "description": "Settings of the hybrid provider.",
                "options": {
                    "store_root": {
                        "description": "The on-prem folder of releases, where workers sync and deploy.",
                        "version_added": "0.1.0",
                        "type": "string",
                        "example": "/srv/models",
                        "default": "/var/lib/hybrid/store",
                    },
                    "direction_policy": {
                        "description": "A YAML file on the worker: which sources may go to which groups of "
                        "targets. Empty: every source may go to every target.",
                        "version_added": "0.1.0",
                        "type": "string",
                        "example": "/etc/airflow/directions.yml",
                        "default": "",
                    },
                    "site_queues": {
                        "description": "Queues whose workers stand on a site, comma separated, with * and ?. "
                        "A task there never defers: a triggerer elsewhere may not reach what it waits for. "
                        "Edge workers' queues need not be listed.",
                        "version_added": "0.1.0",
                        "type": "string",
                        "example": "onprem, site-*",
                        "default": "",
                    },
                    "installation_id": {
                        "description": "Tells this Airflow from another that trains in the same AWS account. "
                        "Empty: a random id, kept as the Airflow Variable hybrid_installation_id.",
                        "version_added": "0.1.0",
                        "type": "string",
                        "example": "factory-munich",
                        "default": "",
                    },
                },
            },
        },
    }
