"""A release made live on an engine, on trial until it is committed."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from hybrid_provider.exceptions import TargetFailed
from hybrid_provider.targets.docker import containers
from hybrid_provider.targets.docker.container import home_network, serving_body, spec_of
from hybrid_provider.targets.docker.holdings import Role, Trial, labels_of, name_of
from hybrid_provider.targets.docker.survey import holdings_of
from hybrid_provider.targets.docker.switching import Switch, way_of
from hybrid_provider.targets.docker.volume import make_volume

if TYPE_CHECKING:
    from hybrid_provider.targets.docker.engine import Engine
    from hybrid_provider.targets.docker.holdings import Holdings, Lease
    from hybrid_provider.targets.docker.serving import Serving
    from hybrid_provider.targets.target import Order

# The engine's deadline is after the worker's, which so decides as long as it lives.
_GRACE: Final = timedelta(seconds=5)
# By which a clock that is put right in small steps may fall behind meanwhile.
_SLEW: Final = timedelta(seconds=5)


class Activations:
    """What one worker activates of one model on one engine, one after the other.

    Args:
        engine: The engine.
        serving: How the model is served.
        order: What the rollout asks.
        lease: Ours; its nonce tells what we activate from what anybody else does.
    """

    def __init__(self, engine: Engine, serving: Serving, order: Order, lease: Lease) -> None:
        self._engine = engine
        self._serving = serving
        self._order = order
        self._lease = lease
        self._count = 0
        self._way = way_of(engine, serving, order.model)

    async def heal(self, holdings: Holdings) -> str | None:
        """End what a dead worker began, forward where it was recorded, else back; what went back."""
        undone = None
        for trial in holdings.trials:
            if holdings.record is not None and holdings.record.token == trial.token:
                await self._settled(self._switch(holdings, trial))
                continue
            if self._serves(holdings, trial):
                undone = trial.release
            await self._undo(holdings, trial)
        return undone

    async def begin(self, release_id: str) -> None:
        """Make a release live.

        Raises:
            TargetFailed: It is not; what was live before is.
        """
        self._count += 1
        holdings = await self._holdings()
        self._check(holdings, release_id)
        spec = await self._spec()
        kept = self._kept(holdings, release_id, spec)
        name = kept or name_of(self._order.model, Role.SERVING, release_id, self._token)
        trial = await self._tried(holdings, release_id, name)
        try:
            if kept is None:
                await self._create(holdings, release_id, name, spec)
            await self._way.begin(self._switch(holdings, trial))
        except TargetFailed:
            await self._undo(await self._holdings(), trial)
            raise

    async def commit(self) -> None:
        """Keep what was activated last.

        Raises:
            TargetFailed: It has gone back, or does not run any more.
        """
        holdings = await self._holdings()
        trial = self._trial(holdings)
        if trial is None:
            if not self._committed(holdings):
                raise TargetFailed(self._engine.name, "what was activated is gone; somebody undid it")
            return
        if not self._serves(holdings, trial):
            raise TargetFailed(
                self._engine.name, f"the container of release {trial.release} does not run any more"
            )
        switch = self._switch(holdings, trial)
        await self._way.keep(switch)
        await self._recorded(holdings, trial)
        await self._settled(switch)

    async def revert(self) -> bool:
        """Undo what was activated last; False where it was committed."""
        holdings = await self._holdings()
        if self._committed(holdings):
            return False
        if (trial := self._trial(holdings)) is not None:
            await self._undo(holdings, trial)
        return True

    @property
    def _token(self) -> str:
        return f"{self._lease.epoch}-{self._lease.nonce}-{self._count}"

    async def _holdings(self) -> Holdings:
        return await holdings_of(self._engine, self._order.model)

    def _trial(self, holdings: Holdings) -> Trial | None:
        return next((trial for trial in holdings.trials if trial.token == self._token), None)

    def _committed(self, holdings: Holdings) -> bool:
        return holdings.record is not None and holdings.record.token == self._token

    @staticmethod
    def _serves(holdings: Holdings, trial: Trial) -> bool:
        tried = holdings.containers.get(trial.container)
        return tried is not None and tried.running

    def _check(self, holdings: Holdings, release_id: str) -> None:
        """A release that cannot go live is refused before anything is touched."""
        why = ""
        if release_id not in holdings.releases:
            why = f"release {release_id} is not here, whole; it was changed or pruned"
        elif holdings.pinned not in {None, release_id}:
            why = f"the target is pinned to release {holdings.pinned}"
        elif holdings.trials:
            why = f"the activation of {holdings.trials[0].release} is not undone yet"
        if why:
            raise TargetFailed(self._engine.name, why)

    async def _spec(self) -> str:
        image = await self._engine.ask("GET", f"/images/{quote(self._serving.image, safe='')}/json")
        return spec_of(self._serving, str(image["Id"]))

    def _kept(self, holdings: Holdings, release_id: str, spec: str) -> str | None:
        """The stopped container that served the release before: going back, it is started as it was."""
        kept = holdings.kept(release_id)
        if kept is None or kept.running:
            return None
        brought = self._order.release
        going_back = brought is None or release_id != brought.release_id
        return kept.name if going_back or kept.spec == spec else None

    async def _tried(self, holdings: Holdings, release_id: str, name: str) -> Trial:
        """Note what is begun before it is begun."""
        origin = holdings.settled
        trial = Trial(
            volume=name_of(self._order.model, Role.TRIAL, self._token),
            token=self._token,
            release=release_id,
            container=name,
            origin=origin.name if origin else None,
            begun=holdings.clock - _SLEW.total_seconds(),
            deadline=holdings.clock + (self._order.healthy_deadline + _GRACE).total_seconds(),
        )
        named: dict[str, str | float | None] = {
            "token": trial.token,
            "release": release_id,
            "container": name,
            "origin": trial.origin,
            "begun": trial.begun,
            "deadline": trial.deadline,
        }
        await make_volume(self._engine, trial.volume, labels_of(self._order.model, Role.TRIAL, **named))
        return trial

    async def _create(self, holdings: Holdings, release_id: str, name: str, spec: str) -> None:
        body = serving_body(
            self._serving,
            self._order.model,
            release_id,
            holdings.releases[release_id],
            name=name,
            rollout=self._order.rollout,
            spec=spec,
        )
        home = home_network(self._serving)
        more = [network for network in self._serving.networks if network != home]
        await self._way.prepare()
        await containers.create(self._engine, name, body, more)

    def _switch(self, holdings: Holdings, trial: Trial) -> Switch:
        return Switch(
            trial=trial,
            origin=holdings.containers.get(trial.origin or ""),
            drain=self._order.drain,
            limit=self._order.healthy_deadline,
        )

    async def _undo(self, holdings: Holdings, trial: Trial) -> None:
        """Back to what was before; a container that never was proved is not kept."""
        await self._way.back(self._switch(holdings, trial))
        if trial.container.endswith(f"..{trial.token}"):
            await containers.remove(self._engine, trial.container)
        await self._engine.remove(f"/volumes/{trial.volume}")

    async def _recorded(self, holdings: Holdings, trial: Trial) -> None:
        """The one commit point: the record of the highest number names what is proved."""
        model, last = self._order.model, holdings.record
        previous = (last.previous if last.release == trial.release else last.release) if last else None
        number = last.number + 1 if last else 1
        named: dict[str, str | float | None] = {
            "number": number,
            "release": trial.release,
            "digest": holdings.releases.get(trial.release, ""),
            "previous": previous,
            "container": trial.container,
            "rollout": self._order.rollout,
            "token": trial.token,
            "since": holdings.clock,
        }
        made = await make_volume(
            self._engine, name_of(model, Role.RECORD, number), labels_of(model, Role.RECORD, **named)
        )
        if made.get("hybrid.token") != trial.token:
            raise TargetFailed(self._engine.name, "superseded: another rollout committed in the meantime")

    async def _settled(self, switch: Switch) -> None:
        await self._way.retire(switch)
        await self._engine.remove(f"/volumes/{switch.trial.volume}")
