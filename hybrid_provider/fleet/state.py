"""Writes what becomes of a fleet into the asset state of its model, while it moves.

Truth lives on the targets and these rows are a cache of it, so nothing here fails or delays a rollout: rows
are written by a thread of their own, only the newest of each key, and what cannot be written is a warning in
the log. An audit writes them again.
"""

from __future__ import annotations

import logging
import threading
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, cast

from hybrid_provider.fleet.assets import model_asset
from hybrid_provider.fleet.metrics import count_rollout
from hybrid_provider.fleet.rows import (
    FAILED_KEY,
    ROLLOUT_KEY,
    RUNNING,
    Change,
    HostRow,
    Kind,
    Origin,
    RolloutRow,
    event_extra,
    failed_row,
    failures_in,
    host_key,
    host_row,
    is_end,
    live_after,
)
from hybrid_provider.fleet.told import packed
from hybrid_provider.rollout.states import RolloutState, TargetState

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import TracebackType
    from typing import Self

    from airflow.sdk import Context

    from hybrid_provider.evidence.chain import Head
    from hybrid_provider.fleet.rows import EventExtra
    from hybrid_provider.rollout.result import JournalEntry, RolloutResult, TargetResult

_log = logging.getLogger(__name__)
# The row of a running rollout changes with each transition of each target; a person looks once a second.
_INTERVAL: Final = timedelta(seconds=1)
# A local API takes some milliseconds for a row, so that this is enough for thousands of targets.
_PATIENCE: Final = timedelta(seconds=60)
# Airflow's client has retried each of them already.
_FAILURES: Final = 3
# What a target's row tells at once; the rest is for the end, when the target's own word is known.
_SWITCHED: Final = frozenset({TargetState.SUCCEEDED, TargetState.ALREADY_CURRENT})


def origin_of(context: Context) -> Origin:
    """The task instance of a context."""
    ti = context["ti"]
    map_index = getattr(ti, "map_index", None)
    return Origin(
        dag_id=ti.dag_id,
        run_id=str(ti.run_id),
        task_id=ti.task_id,
        map_index=map_index if isinstance(map_index, int) else -1,
    )


class StateRows:
    """The asset state of one model: what cannot be read is None, and what cannot be written is a warning."""

    def __init__(self, context: Context, model: str) -> None:
        self._model = model
        self._failures = 0
        try:
            self._store: Any = cast("Any", context)["asset_state_store"][model_asset(model)]
        except Exception as error:  # noqa: BLE001 - a cache that is not there fails no rollout
            self._store = None
            _log.debug("No asset state for model %s: %s", model, error)

    def get(self, key: str) -> Any:  # noqa: ANN401 - whatever JSON was set
        """The row of a key, None where there is none."""
        return self._tried(key, lambda store: store.get(key))

    def set(self, key: str, row: Mapping[str, Any]) -> None:
        """Write the row of a key."""
        self._tried(key, lambda store: store.set(key, dict(row)))

    def _tried(self, key: str, call: Callable[[Any], Any]) -> Any:  # noqa: ANN401 - as get
        if self._store is None or self._failures >= _FAILURES:
            return None
        try:
            found = call(self._store)
        except Exception as error:  # noqa: BLE001 - whatever the API or its backend raises
            self._failures += 1
            last = "; no more is tried, and an audit writes it again" if self._failures >= _FAILURES else ""
            _log.warning("The fleet state %s of model %s: %s%s", key, self._model, error, last)
            return None
        self._failures = 0
        return found


class RowWriter:
    """Does pieces of work in a thread, of each key only the newest that waits."""

    def __init__(self, interval: timedelta = _INTERVAL) -> None:
        self._interval = interval
        self._waiting: dict[str, Callable[[], None]] = {}
        self._changed = threading.Condition()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._work, name="fleet-state", daemon=True)
        self._thread.start()

    def put(self, key: str, work: Callable[[], None]) -> None:
        """Leave a piece of work to the thread; returns at once."""
        with self._changed:
            self._waiting[key] = work
            self._changed.notify()

    def close(self, patience: timedelta = _PATIENCE) -> int:
        """Wait until all is done; returns how many pieces were given up."""
        with self._changed:
            self._closing.set()
            self._changed.notify()
        self._thread.join(patience.total_seconds())
        with self._changed:
            left, self._waiting = len(self._waiting), {}
        return left

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._waiting and not self._closing.is_set():
                    self._changed.wait()
                if not self._waiting:
                    return
                key = next(iter(self._waiting))
                work = self._waiting.pop(key)
            work()
            # The rollout's own row changes most; the rows of the targets do not wait for it.
            if key == ROLLOUT_KEY and not self._others_wait():
                self._closing.wait(self._interval.total_seconds())

    def _others_wait(self) -> bool:
        with self._changed:
            return any(key != ROLLOUT_KEY for key in self._waiting)


class FleetState:
    """Keeps the rows of one rollout; a context manager that writes what is left at its end.

    Args:
        context: Of the task, which has the model's asset as an inlet or outlet.
        kind: What moves the fleet.
        rollout: The rollout's id.
        model: The model.
        release: What the fleet moves to; None in a rollback, where each target has its own.
        digests: Of that release, or of those that a rollback may lead to, by id.
        groups: The site or rack of each target, in the fleet's order.
        max_failures: How many targets may fail.
        continues: When the rollout began that this continues; None where it begins now.
        approved_by: Who allowed it, where somebody was asked.

    Attributes:
        before: The row of the rollout before, or of an earlier try of this one.
    """

    def __init__(
        self,
        context: Context,
        *,
        kind: Kind,
        rollout: str,
        model: str,
        release: str | None,
        digests: Mapping[str, str],
        groups: Mapping[str, str | None],
        max_failures: int,
        continues: datetime | None = None,
        approved_by: str | None = None,
    ) -> None:
        self._context = context
        self._origin = origin_of(context)
        self._rows = StateRows(context, model)
        self._digests = digests
        self._groups = groups
        self._before: dict[str, HostRow | None] = {}
        self._written: dict[str, HostRow] = {}
        now = _now()
        self.before: RolloutRow | None = self._rows.get(ROLLOUT_KEY)
        self._again = again = self.before is not None and self.before["rollout"] == rollout
        self._row: RolloutRow = {
            "rollout": rollout,
            "kind": kind,
            "model": model,
            "release": release,
            "digest": digests.get(release or ""),
            "state": RolloutState.PENDING.value,
            "waves": [],
            "targets": dict.fromkeys(groups, TargetState.PENDING.value),
            "failures": 0,
            "max_failures": max_failures,
            "began": continues.isoformat() if continues else now,
            "updated": now,
            "seconds": 0.0,
            "dag_id": self._origin.dag_id,
            "run_id": self._origin.run_id,
            "task_id": self._origin.task_id,
            "map_index": self._origin.map_index,
            "approved_by": approved_by,
            "closed": None,
        }
        self._left = self.before if self.before and not again and self.before["state"] in RUNNING else None
        # A rollout that was begun before another one has no say in the row of that one.
        self._outrun = bool(
            continues and self.before and not again and self.before["began"] > continues.isoformat()
        )
        if self._outrun:
            self._left = None

    def __enter__(self) -> Self:
        self._writer = RowWriter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if left := self._writer.close():
            _log.warning("%d rows of the fleet state were not written in time; an audit writes them", left)

    def planned(self, waves: Sequence[Sequence[str]]) -> None:
        """The waves are known."""
        self._row["waves"] = [list(wave) for wave in waves]

    def entered(self, entry: JournalEntry) -> None:
        """A transition; an entry of the rollout's journal."""
        if entry.target is None:
            self._row["state"] = entry.state.value
            if entry.state not in {RolloutState.PENDING, RolloutState.PREFLIGHT}:
                self._close_left()
        else:
            self._row["targets"][entry.target] = entry.state.value
            # In a rollback each target has a release of its own, which only the result tells.
            if entry.state in _SWITCHED and self._row["release"] is not None:
                self._put_host(entry.target, self._change(entry))
        self._row["seconds"] = round(entry.seconds, 3)
        self._put_rollout()

    def ended(self, result: RolloutResult) -> None:
        """The rollout's end, and what its targets said; this goes before what the journal told."""
        if result.state is not RolloutState.BAKING:
            count_rollout(self._row["kind"], result.to_dict())
            self._put_failed(result)
        self._row["state"] = result.state.value
        self._row["release"] = live_after(result)
        self._row["digest"] = self._digests.get(self._row["release"] or "")
        self._row["seconds"] = round(result.seconds, 3)
        for target in result.targets:
            self._row["targets"][target.name] = target.state.value
            if is_end(target.state) and target.state is not TargetState.SKIPPED:
                self._put_host(target.name, self._change_of(target))
        self._put_rollout()

    def announce(
        self, result: RolloutResult, training: Mapping[str, Any] | None, head: Head | None = None
    ) -> None:
        """Put the rollout into the asset's event, which Airflow emits when the task has succeeded.

        Args:
            result: What became of it.
            training: What trained the release.
            head: Of the store's evidence, so that its end cannot be cut off unseen.
        """
        row = self._row
        extra = self._extra(result, training, head)
        if not self._outrun:
            extra["rows"] = {ROLLOUT_KEY: packed(row)}
        try:
            self._context["outlet_events"][model_asset(self._row["model"])].extra = cast("Any", dict(extra))
        except Exception as error:  # noqa: BLE001 - an event fails no rollout
            _log.warning("The event of model %s carries nothing: %s", self._row["model"], error)

    def _extra(
        self,
        result: RolloutResult,
        training: Mapping[str, Any] | None = None,
        head: Head | None = None,
    ) -> EventExtra:
        return event_extra(
            self._row["kind"],
            result,
            self._digests,
            self._origin,
            training=training,
            head=head,
            approved_by=self._row["approved_by"],
        )

    def _close_left(self) -> None:
        """The rollout before was left running, and this one has its targets: nobody goes on with that one."""
        if self._left is None:
            return
        left, self._left = self._left, None
        self._row["closed"] = {"rollout": left["rollout"], "state": RolloutState.ABORTED.value}
        _log.warning(
            "Rollout %s of task %s in run %s of DAG %s was left in %s; it is closed as ABORTED",
            left["rollout"],
            left["task_id"],
            left["run_id"],
            left["dag_id"],
            left["state"],
        )

    def _put_rollout(self) -> None:
        if self._outrun:
            return
        self._row["updated"] = _now()
        self._row["failures"] = failures_in(list(self._row["targets"].values()))
        row = cast("RolloutRow", {**self._row, "targets": dict(self._row["targets"])})
        self._writer.put(ROLLOUT_KEY, lambda: self._rows.set(ROLLOUT_KEY, row))

    def _put_failed(self, result: RolloutResult) -> None:
        """Airflow emits no event of a task that failed; the history is to have it all the same."""
        if result.well and not self._again:
            return
        ended = None if result.well else self._extra(result)

        def write() -> None:
            before = self._rows.get(FAILED_KEY)
            row = failed_row(before, result.rollout, ended, _now(), self._origin.task_id)
            if row != before:
                self._rows.set(FAILED_KEY, row)

        self._writer.put(FAILED_KEY, write)

    def _put_host(self, name: str, change: Change) -> None:
        self._writer.put(host_key(name), lambda: self._write_host(name, change))

    def _change(self, entry: JournalEntry) -> Change:
        """What the journal tells of one target while the rollout runs."""
        return Change(
            state=TargetState(entry.state),
            release=self._row["release"],
            digest=self._row["digest"],
            rollout=self._row["rollout"],
            at=_now(),
            group=self._groups.get(str(entry.target)),
        )

    def _change_of(self, target: TargetResult) -> Change:
        """What the result tells of it."""
        return Change(
            state=target.state,
            release=target.to_release,
            digest=self._digests.get(target.to_release or ""),
            rollout=self._row["rollout"],
            at=_now(),
            group=self._groups.get(target.name),
            error=target.error,
            came_from=target.from_release,
            known=target.state is not TargetState.UNREACHABLE,
            live=target.live,
            earlier=target.previous,
            pinned=target.pinned,
        )

    def _write_host(self, name: str, change: Change) -> None:
        if name not in self._before:
            self._before[name] = self._rows.get(host_key(name))
        row = host_row(self._before[name], change, self._origin)
        if earlier := self._written.get(name):
            row = _unless_only_later(earlier, row)
        if row != earlier:
            self._rows.set(host_key(name), row)
            self._written[name] = row


def _unless_only_later(earlier: HostRow, row: HostRow) -> HostRow:
    """The row with the earlier one's times, where both say the same: then it need not be written again."""
    if (earlier["release"], earlier["state"]) != (row["release"], row["state"]):
        return row
    return cast("HostRow", {**row, "since": earlier["since"], "probe": earlier["probe"]})


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
