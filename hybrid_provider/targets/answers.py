"""What the scripts on a POSIX target answer, read as values."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import TYPE_CHECKING, Final

from hybrid_provider.artifacts.manifest import Manifest
from hybrid_provider.artifacts.progress import in_units
from hybrid_provider.exceptions import ArtifactRefused
from hybrid_provider.names import checked_name
from hybrid_provider.targets.target import Inspection, Readiness

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hybrid_provider.targets.target import Order
    from hybrid_provider.targets.tarstream import Parts

# The bytes that travel are on the disk once; as much again stays free for what else the host does.
_FREE_FACTOR: Final = 2
_CONTROLS: Final = dict.fromkeys((*range(32), *range(127, 160)), "?")
_LONGEST_WORDS: Final = 2000


@dataclass(frozen=True, slots=True)
class Preflight:
    """The answer of ``preflight.sh``.

    Attributes:
        faults: What must be put right before anything can be brought.
        locked: Which other rollout works there, and for how long at most.
        epoch: Of the lease that was taken.
        readiness: What the rollout is told.
        folder: Where the model's releases lie.
        free_bytes: On the disk of that folder; None where a fault hides it.
        free_files: How many more that disk can hold; None where it knows no limit.
        false_sum: Whether its sha256sum, on which every proof rests, errs about what it has not seen before.
        left_bytes: What a stream of this release brought before it was cut; None where none was.
        manifests: What may be linked from, the live release first.
    """

    faults: tuple[str, ...]
    locked: str | None
    epoch: int
    readiness: Readiness
    folder: str
    free_bytes: int | None
    free_files: int | None
    false_sum: bool
    left_bytes: int | None
    manifests: Mapping[str, Manifest]


def told(words: str) -> str:
    """What a target said, as one line that no terminal obeys and in which no log drowns."""
    line = " ".join(words.split()).translate(_CONTROLS)
    return line if len(line) <= _LONGEST_WORDS else f"{line[:_LONGEST_WORDS]}…"


def locked_reason(words: str) -> str:
    """Explain what ``preflight.sh`` says of another rollout: its id, and for how many seconds at most."""
    holder, _, seconds = told(words).partition(" ")
    until = f" for at most {seconds} s" if seconds else ""
    return f"rollout {holder} works on this target{until}; wait for its end, or stop it"


def read_phase(answer: str) -> tuple[str, str]:
    """The phase of an activation as ``wait.sh`` saw it, and its reason."""
    # The last line: a login may have printed others before.
    phase, _, reason = _read(answer).get("phase", [""])[-1].partition(" ")
    return told(phase), told(reason)


def disk_faults(order: Order, parts: Parts, found: Preflight) -> list[str]:
    """Why what must travel does not fit, if it does not."""
    faults = []
    needed, files = _FREE_FACTOR * parts.sent_bytes, _FREE_FACTOR * len(parts.sent)
    needed -= found.left_bytes or 0
    where = f" in {found.folder}" if found.folder else ""
    wanted = f"needed for release {order.brought.release_id}; free space or lower keep_releases"
    if found.free_bytes is not None and found.free_bytes < needed:
        faults.append(f"{in_units(found.free_bytes)} free{where}, {in_units(needed)} {wanted}")
    if found.free_files is not None and found.free_files < files:
        faults.append(f"room for {found.free_files} more files{where}, {files} {wanted}")
    return faults


def read_preflight(answer: str, digest: str, nonce: str = "") -> Preflight:
    """Read what ``preflight.sh`` answered about a release with this digest, and a lease with this nonce.

    Raises:
        ValueError: It is no such answer; the same is true of :func:`read_inspection`.
        OverflowError: Likewise.
        InvalidName: Likewise.
    """
    head, _, manifests = answer.partition("\nmanifests\n")
    answers = _read(head)
    words = {key: values[-1] for key, values in answers.items()}
    committed, _, live_seconds = words.get("committed", "").partition(" ")
    wanted = sha256(f"{nonce}\n".encode()).hexdigest()
    free_blocks, block_bytes, inodes, free_inodes = map(int, words.get("free", "0 0 0 0").split())
    known = "free" in words or not answers.get("fault")
    return Preflight(
        faults=tuple(map(told, answers.get("fault", ()))),
        locked=words.get("locked"),
        epoch=int(words.get("epoch", 0)),
        readiness=Readiness(
            current=_release(words.get("current")),
            previous=_release(words.get("previous")),
            committed=committed == digest,
            live=timedelta(seconds=max(0, int(live_seconds or 0))),
            present="present" in words,
            undone=_release(words.get("undone")),
            pinned=_release(words.get("pinned")),
            lease=nonce,
            overtaken=told(words.get("overtaken", "")),
        ),
        folder=told(words.get("folder", "")),
        free_bytes=free_blocks * block_bytes if known else None,
        free_files=free_inodes if inodes else None,
        false_sum=words.get("sum", wanted).split(" ")[0] != wanted,
        left_bytes=int(words["left"]) if "left" in words else None,
        manifests=_manifests(manifests),
    )


def read_inspection(answer: str) -> Inspection:
    """Read what ``inspect.sh`` answered."""
    answers = _read(answer)
    words = {key: told(values[-1]) or None for key, values in answers.items()}
    since = int(words.get("since") or 0)
    return Inspection(
        release=_release(words.get("current")),
        digest=words.get("digest"),
        committed=_release(words.get("committed")),
        previous=_release(words.get("previous")),
        since=datetime.fromtimestamp(since, UTC) if since else None,
        rollout=words.get("by"),
        holder=words.get("holder"),
        pinned=_release(words.get("pinned")),
        releases=tuple(checked_name("release", name) for name in answers.get("release", ())),
        changed=_changed(answers),
    )


def _changed(answers: Mapping[str, list[str]]) -> tuple[str, ...]:
    """Files that are not as they should be, and those that are missing or that nobody brought."""
    unequal = set(answers.get("wanted", ())) ^ set(answers.get("there", ()))
    return tuple(dict.fromkeys(map(told, [*answers.get("changed", ()), *sorted(unequal)])))


def _release(name: str | None) -> str | None:
    return checked_name("release", name) if name else None


def _read(answer: str) -> dict[str, list[str]]:
    """Lines of a word and its values, by the word."""
    answers: dict[str, list[str]] = {}
    for line in answer.split("\n"):
        key, _, value = line.partition(" ")
        answers.setdefault(key, []).append(value)
    return answers


def read_arrived(answer: str) -> dict[str, tuple[str, int]]:
    """Read what ``arrived.sh`` answered: path in the release to where it is there, and how much of it."""
    arrived: dict[str, tuple[str, int]] = {}
    for line in _read(answer).get("arrived", ()):
        size, _, where = line.partition(" ")
        path = where.partition("/files/./")[2]
        if size.isdecimal() and int(size) > arrived.get(path, ("", -1))[1]:
            arrived[path] = (where.replace("/files/./", "/files/", 1), int(size))
    return arrived


def _manifests(text: str) -> dict[str, Manifest]:
    """By their release; from one that is not in order nothing is linked."""
    manifests = {}
    for block in f"\n{text}".split("\nmanifest ")[1:]:
        release_id, _, manifest = block.partition("\n")
        with contextlib.suppress(ArtifactRefused):
            manifests[release_id] = Manifest.parse(manifest if manifest.endswith("\n") else f"{manifest}\n")
    return manifests
