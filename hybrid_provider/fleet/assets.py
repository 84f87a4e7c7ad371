"""A model as an Airflow asset: ``hybrid://model/<name>``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hybrid_provider.names import is_name

if TYPE_CHECKING:
    from urllib.parse import SplitResult

    from airflow.sdk import Asset

SCHEME = "hybrid"
_KIND = "model"


def model_uri(model_name: str) -> str:
    """The URI of a model's asset, which is its name as well."""
    return f"{SCHEME}://{_KIND}/{model_name}"


def model_asset(model_name: str) -> Asset:
    """The asset of a model, for ``schedule``, ``inlets`` and ``outlets``.

    Raises:
        ValueError: The name is outside the grammar of :mod:`hybrid_provider.names`.
    """
    from airflow.sdk import Asset

    return Asset(model_uri(model_name))


def checked_uri(uri: SplitResult) -> SplitResult:
    """Airflow's handler for URIs of this scheme, called where a DAG makes an asset.

    Raises:
        ValueError: It names no model.
    """
    name = uri.path.strip("/")
    if uri.netloc != _KIND or not is_name(name) or uri.query:
        raise ValueError(f"{uri.geturl()!r} is no model's asset; it looks like {SCHEME}://{_KIND}/digits")
    return uri._replace(path=f"/{name}", fragment="")
