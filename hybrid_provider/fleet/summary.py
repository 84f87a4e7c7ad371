"""What a page shows of a fleet, worked out from its state and events; plain values in, plain values out."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, TypedDict

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

HOST_KEY = "host/"
ROLLOUT_KEY = "rollout"
FAILED_KEY = "failed"

# In these a rollout is over; a state that is not among them is shown as running.
ENDED = frozenset(
    {"SUCCEEDED", "PAUSED", "FAILED", "ABORTED", "SUPERSEDED", "ROLLED_BACK", "ROLLBACK_PAUSED"}
)
_SERVING = ("SUCCEEDED", "ALREADY_CURRENT")


class Host(TypedDict):
    """One host's row."""

    target: str
    release: str | None
    digest: str | None
    state: str | None
    since: str | None
    rollout: str | None
    previous: str | None
    pinned: str | None
    group: str | None
    healthy: bool | None
    probe: str | None
    probed: str | None
    error: str | None
    dag_id: str | None
    run_id: str | None


class Released(TypedDict):
    """How many hosts have a release."""

    release: str | None
    hosts: int


class Summary(TypedDict):
    """A fleet at one look."""

    hosts: int
    healthy: int
    unhealthy: int
    unknown: int
    pinned: int
    releases: list[Released]


class Change(TypedDict):
    """One event of a model: a rollout that ended, or a training."""

    id: int | str
    at: str
    kind: str
    rollout: str | None
    release: str | None
    digest: str | None
    state: str | None
    targets: dict[str, int]
    seconds: float | None
    training: dict[str, Any] | None
    approved_by: str | None
    dag_id: str | None
    run_id: str | None
    task_id: str | None


class Point(TypedDict):
    """A metric of one release."""

    release: str
    at: str
    value: float


class Census(TypedDict):
    """Hosts per release after a rollout."""

    at: str
    releases: dict[str, int]


def host_of(key: str, value: Mapping[str, Any]) -> Host:
    """A row from the state ``host/<target>``; what an older writer did not know is None."""
    probe = value.get("probe") or {}
    return {
        "target": key.removeprefix(HOST_KEY),
        "release": value.get("release"),
        "digest": value.get("digest"),
        "state": value.get("state"),
        "since": value.get("since"),
        "rollout": value.get("rollout"),
        "previous": value.get("previous"),
        "pinned": value.get("pinned"),
        "group": value.get("group"),
        "healthy": probe.get("healthy"),
        "probe": probe.get("detail"),
        "probed": probe.get("at"),
        "error": value.get("error"),
        "dag_id": value.get("dag_id"),
        "run_id": value.get("run_id"),
    }


def summary_of(hosts: Iterable[Host]) -> Summary:
    """The counts of a fleet, its releases with the most frequent one first."""
    rows = list(hosts)
    health = Counter(row["healthy"] for row in rows)
    releases = Counter(row["release"] for row in rows)
    return {
        "hosts": len(rows),
        "healthy": health[True],
        "unhealthy": health[False],
        "unknown": health[None],
        "pinned": sum(row["pinned"] is not None for row in rows),
        "releases": [{"release": release, "hosts": count} for release, count in releases.most_common()],
    }


def is_running(rollout: Mapping[str, Any] | None) -> bool:
    """Whether the state ``rollout`` is of one that goes on."""
    return rollout is not None and rollout.get("state") not in ENDED


def change_of(
    event_id: int | str, at: str, extra: Mapping[str, Any], source: Mapping[str, Any]
) -> Change | None:
    """A row of the history from an event's extra; None for an event that is none of ours."""
    if "kind" in extra:
        kind, training = str(extra["kind"]), extra.get("training")
    elif "artifact" in extra and "job" in extra:
        kind, training = (
            "training",
            {key: extra.get(key) for key in ("job", "arn", "metrics", "billable_seconds")},
        )
    else:
        return None
    return {
        "id": event_id,
        "at": at,
        "kind": kind,
        "rollout": extra.get("rollout"),
        "release": extra.get("release"),
        "digest": extra.get("digest"),
        "state": extra.get("state") or extra.get("status"),
        "targets": dict(extra.get("targets") or {}),
        "seconds": extra.get("seconds"),
        "training": training,
        "approved_by": extra.get("approved_by"),
        "dag_id": extra.get("dag_id") or source.get("dag_id"),
        "run_id": extra.get("run_id") or source.get("run_id"),
        "task_id": source.get("task_id"),
    }


def metric_series(changes: Sequence[Change]) -> dict[str, list[Point]]:
    """Each metric over the releases that were deployed, oldest first, each release once."""
    series: dict[str, dict[str, Point]] = {}
    for change in sorted(changes, key=lambda change: change["at"]):
        release = change["release"]
        metrics = (change["training"] or {}).get("metrics") or {}
        for name, value in metrics.items() if release else ():
            if isinstance(value, int | float):
                point: Point = {"release": str(release), "at": change["at"], "value": float(value)}
                series.setdefault(str(name), {}).setdefault(str(release), point)
    return {name: list(points.values()) for name, points in sorted(series.items())}


def census(changes: Sequence[Change], hosts: Sequence[Host]) -> list[Census]:
    """Hosts per release after each rollout, oldest first; the last is the fleet as it is.

    An event says how many hosts its own release has. The others stayed where they were; those that must have
    moved for the fleet to keep its size are taken from the release that most of them had.
    """
    counts: Counter[str] = Counter()
    size = 0
    steps: list[Census] = []
    for change in sorted(changes, key=lambda change: change["at"]):
        if change["kind"] not in {"deploy", "rollback"} or not change["release"]:
            continue
        release = change["release"]
        size = max(size, sum(change["targets"].values()))
        counts[release] = max(counts[release], sum(change["targets"].get(state, 0) for state in _SERVING))
        for other, count in counts.most_common():
            if other != release:
                counts[other] -= min(count, max(0, counts.total() - size))
        steps.append({"at": change["at"], "releases": {name: n for name, n in counts.items() if n}})
    now = Counter(host["release"] for host in hosts if host["release"])
    if steps and now:
        steps[-1]["releases"] = dict(now)
    return steps
