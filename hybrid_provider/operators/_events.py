"""What Airflow is told of a task besides its result, whatever the task does: the model's event, lineage."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from airflow.sdk import Asset

from hybrid_provider.fleet.assets import model_uri

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow.providers.common.compat.openlineage.facet import Dataset, RunFacet
    from airflow.providers.openlineage.extractors import OperatorLineage
    from airflow.sdk import BaseOperator, Context

    Lineage = OperatorLineage[Dataset, RunFacet]


def announce(context: Context, operator: BaseOperator, model_name: str, extra: Mapping[str, Any]) -> None:
    """Put ``extra`` into the event of ``hybrid://model/<name>``, if that is an outlet of the task."""
    for outlet in operator.outlets:
        if isinstance(outlet, Asset) and outlet.uri.rstrip("/") == model_uri(model_name):
            context["outlet_events"][outlet].extra = dict(extra)


def dataset(uri: str) -> Dataset:
    """A URI as OpenLineage names it: a bucket or container with its key, or a file by its path."""
    from airflow.providers.common.compat.openlineage.facet import Dataset

    place = urlsplit(uri)
    if place.scheme == "file":
        return Dataset(namespace="file", name=place.path)
    return Dataset(namespace=f"{place.scheme}://{place.netloc}", name=place.path.lstrip("/") or "/")
