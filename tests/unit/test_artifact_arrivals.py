"""Which artifacts fire: each once, when it stands still, and of history only the newest."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from hybrid_provider.artifacts.arrival import Arrivals
from hybrid_provider.artifacts.artifact import Artifact


def artifact(name, etag="1"):
    return Artifact(
        uri=f"s3://models/{name}",
        size_bytes=1,
        etag=etag,
        version_id=None,
        last_modified=datetime(2026, 11, 23, tzinfo=UTC),
    )


A, B, C = artifact("a"), artifact("b"), artifact("c")


def fired(arrivals, *looks):
    return [[found.uri[-1] for found in arrivals.new(look)] for look in looks]


def test_of_what_is_there_at_the_beginning_only_the_newest_fires():
    assert fired(Arrivals(None), [A, B, C], [A, B, C], [A, B, C]) == [[], ["c"], []]


def test_what_arrives_fires_once_when_two_looks_saw_it():
    assert fired(Arrivals(None), [], [A], [A], [A]) == [[], [], ["a"], []]


def test_several_that_arrive_at_once_fire_each():
    assert fired(Arrivals(frozenset()), [A, B], [A, B]) == [[], ["a", "b"]]


def test_one_that_is_still_written_fires_when_it_stands_still():
    one, two = replace(A, etag="1"), replace(A, etag="2")
    assert fired(Arrivals(frozenset()), [one], [two], [two]) == [[], [], ["a"]]


def test_a_replaced_artifact_is_a_new_one():
    arrivals = Arrivals(frozenset())
    assert fired(arrivals, [A], [A]) == [[], ["a"]]
    replaced = replace(A, etag="2")
    assert fired(arrivals, [replaced], [replaced]) == [[], ["a"]]


def test_a_watch_that_starts_again_with_what_it_kept_fires_only_what_is_new():
    before = Arrivals(None)
    fired(before, [A], [A])
    after = Arrivals(before.fired)
    assert fired(after, [A, B], [A, B], [A, B]) == [[], ["b"], []]


def test_an_artifact_that_arrived_while_nobody_watched_fires_though_a_newer_one_is_there():
    assert fired(Arrivals(frozenset()), [A, B], [A, B]) == [[], ["a", "b"]]


def test_what_was_removed_is_forgotten():
    arrivals = Arrivals(frozenset())
    fired(arrivals, [A], [A])
    assert len(arrivals.fired) == 1
    fired(arrivals, [])
    assert arrivals.fired == frozenset()


def test_there_is_something_to_write_down_only_after_a_change():
    arrivals = Arrivals(frozenset())
    fired(arrivals, [], [A])
    assert not arrivals.changed
    fired(arrivals, [A])
    assert arrivals.changed
