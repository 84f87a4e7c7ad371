"""What an audit writes into the asset state of a model: every row anew, from what the targets say."""

from __future__ import annotations

import logging
from collections import Counter
from datetime import UTC, datetime
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Final, cast

from hybrid_provider.fleet.assets import model_asset
from hybrid_provider.fleet.rows import (
    AUDIT_KEY,
    FAILED_KEY,
    ROLLOUT_KEY,
    RUNNING,
    AuditRow,
    EventExtra,
    ProbeRow,
    RolloutRow,
    host_key,
    inspected_row,
    unheard_row,
)
from hybrid_provider.fleet.state import RowWriter, StateRows, origin_of
from hybrid_provider.fleet.told import rows_told, rows_untold
from hybrid_provider.rollout.audit import state_of
from hybrid_provider.rollout.states import RolloutState, TargetState

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow.sdk import Context

    from hybrid_provider.evidence.chain import Head
    from hybrid_provider.fleet.rows import HostRow, Run
    from hybrid_provider.rollout.audit import Audited

# As many events as the run behind a host's rollout, and the rows that no target tells, are looked for in.
_EVENTS: Final = 200
_log = logging.getLogger(__name__)
# In any other state of its task instance nobody goes on with a rollout.
_ALIVE: Final = frozenset(
    {"running", "deferred", "queued", "scheduled", "restarting", "up_for_retry", "up_for_reschedule"}
)


class AuditState:
    """The rows of one model, as an audit of its fleet writes them."""

    def __init__(self, context: Context, model: str) -> None:
        self._context = context
        self._model = model
        self._origin = origin_of(context)
        self._rows = StateRows(context, model)

    def close_dead(self, audited: Sequence[Audited]) -> str | None:
        """Close the rollout that the rows show as running and that nobody runs any more; returns its id."""
        row: RolloutRow | None = self._rows.get(ROLLOUT_KEY)
        if row is None or row["state"] not in RUNNING:
            return None
        held = [one.name for one in audited if one.inspection and one.inspection.holder == row["rollout"]]
        if held or self._is_alive(row):
            return None
        closed = {**row, "state": RolloutState.ABORTED.value, "updated": _now()}
        self._rows.set(ROLLOUT_KEY, closed)
        _log.warning(
            "Rollout %s of task %s in run %s of DAG %s was left in %s and nobody runs it; it is closed as "
            "ABORTED",
            row["rollout"],
            row["task_id"],
            row["run_id"],
            row["dag_id"],
            row["state"],
        )
        return row["rollout"]

    def write(self, audited: Sequence[Audited], release_id: str | None) -> None:
        """Every row: the targets', what the events tell, and the audit's own; this waits for the thread."""
        runs = self._runs()
        writer = RowWriter()
        for key, told in rows_told(self._extras).items():
            if self._rows.get(key) is None:
                writer.put(key, partial(self._rows.set, key, told))
        for one in audited:
            writer.put(host_key(one.name), partial(self._write_host, one, runs))
        row: AuditRow = {
            "at": _now(),
            "model": self._model,
            "release": release_id,
            "targets": len(audited),
            "drift": [finding.to_dict() for one in audited for finding in one.findings],
            "dag_id": self._origin.dag_id,
            "run_id": self._origin.run_id,
            "task_id": self._origin.task_id,
        }
        writer.put(AUDIT_KEY, lambda: self._rows.set(AUDIT_KEY, row))
        if left := writer.close():
            _log.warning("%d rows of the fleet state were not written in time", left)

    def announce(
        self,
        audited: Sequence[Audited],
        release_id: str | None,
        digest: str | None,
        head: Head | None = None,
    ) -> None:
        """Put what was found, and the head of the store's evidence, into the asset's event."""
        extra: EventExtra = {
            "kind": "audit",
            "rollout": "",
            "release": release_id,
            "digest": digest,
            "state": RolloutState.SUCCEEDED.value
            if not any(one.findings for one in audited)
            else RolloutState.FAILED.value,
            "targets": dict(Counter(state_of(one).value for one in audited)),
            "seconds": 0.0,
            "training": None,
            "evidence": head.to_dict() if head else None,
            "approved_by": None,
            "dag_id": self._origin.dag_id,
            "run_id": self._origin.run_id,
            "rows": rows_untold(
                {key: self._rows.get(key) for key in (ROLLOUT_KEY, FAILED_KEY)}, rows_told(self._extras)
            ),
        }
        try:
            self._context["outlet_events"][model_asset(self._model)].extra = cast("Any", dict(extra))
        except Exception as error:  # noqa: BLE001 - an event fails no audit
            _log.warning("The event of model %s carries nothing: %s", self._model, error)

    def _is_alive(self, row: RolloutRow) -> bool:
        """Whether a task still goes on with it; where Airflow does not say, it does."""
        key = row["task_id"] if row["map_index"] < 0 else f"{row['task_id']}_{row['map_index']}"
        try:
            states = cast("Any", self._context["ti"]).get_task_states(
                dag_id=row["dag_id"], task_ids=[row["task_id"]], run_ids=[row["run_id"]]
            )
        except Exception as error:  # noqa: BLE001 - whatever the API raises, it did not say
            _log.debug("The state of task %s is not known: %s", row["task_id"], error)
            return True
        return states.get(row["run_id"], {}).get(key) in _ALIVE

    @cached_property
    def _extras(self) -> Sequence[Mapping[str, Any]]:
        """Of the events of the model's asset, the newest first."""
        try:
            events = cast("Any", self._context)["inlet_events"][model_asset(self._model)]
            return [event.extra or {} for event in events.ascending(ascending=False).limit(_EVENTS)]
        except Exception as error:  # noqa: BLE001 - then the rows name no run
            _log.debug("The events of model %s cannot be read: %s", self._model, error)
            return []

    def _runs(self) -> Mapping[str, Run]:
        """The run behind each rollout, by the events of the model's asset."""
        return {
            extra["rollout"]: (extra["dag_id"], extra["run_id"])
            for extra in self._extras
            if extra.get("rollout") and "run_id" in extra
        }

    def _write_host(self, one: Audited, runs: Mapping[str, Run]) -> None:
        before: HostRow | None = self._rows.get(host_key(one.name))
        error = "; ".join(f"{finding.kind}: {finding.detail}" for finding in one.findings) or None
        if one.inspection is None:
            self._rows.set(host_key(one.name), unheard_row(before, one.group, error))
            return
        probe: ProbeRow | None = None
        if one.answer is not None:
            probe = {"healthy": one.answer.healthy, "detail": one.answer.fault, "at": _now()}
        rollout = one.inspection.rollout
        if before is not None and before["rollout"] == rollout:
            run = (before["dag_id"], before["run_id"])
        else:
            run = runs.get(rollout or "", ("", ""))
        state = state_of(one)
        if state is TargetState.ALREADY_CURRENT:
            # Of the rollout that the row names: it is what left the target so.
            state = TargetState.SUCCEEDED
        row = inspected_row(one.inspection, state.value, group=one.group, probe=probe, error=error, run=run)
        self._rows.set(host_key(one.name), row)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
