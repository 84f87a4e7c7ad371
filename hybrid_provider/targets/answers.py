"""What the scripts on a POSIX target answer, read as values."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from hybrid_provider.artifacts.manifest import HEADER, Manifest
from hybrid_provider.artifacts.progress import in_units
from hybrid_provider.exceptions import ArtifactRefused
from hybrid_provider.targets.target import Readiness

if TYPE_CHECKING:
    from hybrid_provider.targets.target import Order
    from hybrid_provider.targets.tarstream import Parts

# The bytes that travel are on the disk once; as much again stays free for what else the host does.
_FREE_FACTOR: Final = 2


@dataclass(frozen=True, slots=True)
class Preflight:
    """The answer of ``preflight.sh``."""

    faults: tuple[str, ...]
    locked: str | None
    epoch: int
    readiness: Readiness
    free_bytes: int
    manifest: Manifest | None


def locked_reason(words: str) -> str:
    """Explain what ``preflight.sh`` says of another rollout: its id, and for how many seconds at most."""
    holder, _, seconds = words.partition(" ")
    until = f" for at most {seconds} s" if seconds else ""
    return f"rollout {holder} works on this target{until}; wait for its end, or stop it"


def read_phase(answer: str) -> tuple[str, str]:
    """The phase of an activation as ``wait.sh`` saw it, and its reason."""
    _, _, words = answer.strip().partition(" ")
    phase, _, reason = words.partition(" ")
    return phase, reason.strip()


def disk_faults(order: Order, parts: Parts, free_bytes: int) -> list[str]:
    """Why the bytes that must travel do not fit, if they do not."""
    needed = _FREE_FACTOR * parts.sent_bytes
    if free_bytes >= needed:
        return []
    release_id = order.brought.release_id
    remedy = "free space or lower keep_releases"
    return [f"{in_units(free_bytes)} free, {in_units(needed)} needed for release {release_id}; {remedy}"]


def read_preflight(answer: str, digest: str) -> Preflight:
    """Read what ``preflight.sh`` answered about a release with this digest."""
    head, _, manifest = answer.partition("\nmanifest\n")
    faults: list[str] = []
    words: dict[str, str] = {}
    for line in head.splitlines():
        key, _, value = line.partition(" ")
        if key == "fault":
            faults.append(value)
        else:
            words[key] = value
    committed, _, live_seconds = words.get("committed", "").partition(" ")
    blocks, _, block_bytes = words.get("free", "0 0").partition(" ")
    return Preflight(
        faults=tuple(faults),
        locked=words.get("locked"),
        epoch=int(words.get("epoch", 0)),
        readiness=Readiness(
            current=words.get("current") or None,
            committed=committed == digest,
            live=timedelta(seconds=max(0, int(live_seconds or 0))),
            present="present" in words,
            undone=words.get("undone"),
        ),
        free_bytes=int(blocks) * int(block_bytes),
        manifest=_manifest(manifest),
    )


def _manifest(text: str) -> Manifest | None:
    """The manifest of the live release; one that is not in order only means that nothing is linked."""
    try:
        return Manifest.parse(text) if text.startswith(HEADER) else None
    except ArtifactRefused:
        return None
