"""Rows in events, and back."""

from __future__ import annotations

import json

from hybrid_provider.fleet.told import packed, rows_told, rows_untold, unpacked
from tests.fleets import ended, release_of, rollout

NEW, OLD = release_of(16), release_of(2)


def row(targets, **changed):
    names = list(targets)
    return rollout(NEW, [names[:1], names[1:]], targets, approved_by=None, closed=None, **changed)


def failed(rollout_id):
    return ended(NEW, {"REVERTED": 1}, state="FAILED", rollout=rollout_id, at="", task_id="deploy")


def test_a_row_is_the_same_when_it_comes_out_of_an_event():
    targets = {"a": "SUCCEEDED", "b": "REVERTED", "c": "SUCCEEDED"}
    kept = row(targets)
    skipped = {**kept, "targets": {**targets, "of no wave": "SUCCEEDED"}}

    for one in (kept, skipped, row({})):
        assert unpacked(json.loads(json.dumps(packed(one)))) == one


def test_a_thousand_hosts_that_went_well_are_named_once():
    names = {f"edge-{number:04}": "SUCCEEDED" for number in range(1000)}
    assert len(json.dumps(packed(row(names)))) < 15_000


def test_the_newest_event_that_tells_a_row_is_believed():
    old, new = row({"a": "SUCCEEDED"}), row({"a": "REVERTED"}, state="PAUSED")
    first, second = ({"rollout": "r", "rows": {"rollout": packed(one)}} for one in (old, new))
    assert rows_told([{"artifact": {}}, second, first]) == {"rollout": new}
    assert rows_told([]) == {}


def test_what_failed_and_ended_well_by_a_retry_has_not_failed():
    audit = {"kind": "audit", "rollout": "", "rows": {"failed": {"rollouts": [failed("r-1"), failed("r-2")]}}}
    retried = ended(NEW, {"SUCCEEDED": 1}, rollout="r-1")
    assert rows_told([retried, audit]) == {"failed": {"rollouts": [failed("r-2")]}}
    assert rows_told([audit, retried])["failed"]["rollouts"] == [failed("r-1"), failed("r-2")]


def test_only_what_no_event_tells_is_told():
    mine, other = row({"a": "SUCCEEDED"}), row({"a": "REVERTED"})
    known = rows_told([{"rows": {"rollout": packed(mine)}}])
    rows = {"rollout": mine, "failed": None}
    assert rows_untold(rows, known) == {}
    assert rows_untold(rows | {"rollout": other}, known) == {"rollout": packed(other)}
