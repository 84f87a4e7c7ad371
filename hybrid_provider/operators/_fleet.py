"""What the operators that look after a fleet share: their model is an asset of theirs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, cast

from airflow.sdk import Asset, BaseOperator

from hybrid_provider.fleet.assets import SCHEME, model_asset
from hybrid_provider.names import is_name

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class FleetOperator(BaseOperator):
    """An operator of one model's fleet, whose state it writes.

    ``hybrid://model/<model_name>`` becomes an outlet of the task by itself, or an inlet where the task's
    success is no news for those who wait for the model: both give it the asset's state, and only an outlet
    makes an event.

    Args:
        model_name: The model; known where the DAG is parsed, as Airflow registers assets there.
        kwargs: Of ``BaseOperator``.
    """

    announces: ClassVar[bool] = True

    def __init__(self, *, model_name: str, **kwargs: Any) -> None:  # noqa: ANN401 - BaseOperator's own
        super().__init__(**with_asset(kwargs, model_name, announces=self.announces))
        self.model_name = model_name

    @classmethod
    def partial(cls, **kwargs: Any) -> Any:  # noqa: ANN401 - BaseOperator's own
        """As of ``BaseOperator``: a mapped task has its assets from here, not from ``__init__``."""
        return super().partial(**with_asset(kwargs, kwargs.get("model_name"), announces=cls.announces))


def with_asset(kwargs: Mapping[str, Any], model_name: object, *, announces: bool) -> dict[str, Any]:
    """An operator's arguments with its model as an outlet or inlet; other models' outlets are not its own.

    A task that is mapped over models is given all of them in ``partial(outlets=…)``, so that Airflow knows
    them; each instance keeps the one it deploys.
    """
    if not isinstance(model_name, str) or not is_name(model_name):
        return dict(kwargs)
    asset = model_asset(model_name)
    outlets = [
        outlet for outlet in _listed(kwargs.get("outlets")) if not _is_model(outlet) or outlet == asset
    ]
    inlets = _listed(kwargs.get("inlets"))
    mine = outlets if announces else inlets
    if asset not in outlets and asset not in mine:
        mine.append(asset)
    return {**kwargs, "outlets": outlets, "inlets": inlets}


def _listed(assets: object) -> list[object]:
    if assets is None:
        return []
    return list(cast("Sequence[object]", assets)) if isinstance(assets, list | tuple | set) else [assets]


def _is_model(outlet: object) -> bool:
    return isinstance(outlet, Asset) and outlet.uri.startswith(f"{SCHEME}://")
