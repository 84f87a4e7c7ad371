"""Which releases stay in the store: pins, leases, and pruning the rest.

A release that a channel names, that was the champion before, that is pinned, or that a process reads now
is never removed, whatever its age.
"""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hybrid_provider.artifacts.channels import CHAMPION, CHANNELS
from hybrid_provider.artifacts.folder import (
    make_folder,
    store_errors_explained,
    sync_folder,
    write_small_file,
)
from hybrid_provider.exceptions import ConfigurationError, ReleaseNotFound

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from hybrid_provider.artifacts.release import Release
    from hybrid_provider.artifacts.store import ReleaseStore

KEEP_RELEASES = 5
"""Capistrano's and Kamal's default."""

# What is kept about a release beside its folder, and how its file is called.
_RECORDS = {
    "manifests": "{}",
    "provenance": "{}.json",
    "signatures": "{}",
    "pins": "{}",
    "leases": "{}",
}
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pruned:
    """What a pruning did, or would do.

    Attributes:
        removed: The ids of the releases that went, the oldest first.
        freed_bytes: What the disk holds less.
        kept: Each release that stayed, and why.
    """

    removed: tuple[str, ...]
    freed_bytes: int
    kept: Mapping[str, str]


def pin(store: ReleaseStore, model: str, name: str, reason: str = "") -> Release:
    """Keep a release until it is unpinned.

    Args:
        store: The store.
        model: The model's name.
        name: A release id, ``latest`` or a channel; the pin stays on the release that it names now.
        reason: One line for whoever wonders why it is there.

    Raises:
        ReleaseNotFound: There is no such release.
    """
    with store.locked(model):
        release = store.release(model, name)
        folder = store.folder(model) / "pins"
        with store_errors_explained(folder):
            make_folder(folder)
            write_small_file(folder / release.release_id, " ".join(reason.split()) + "\n")
    return release


def unpin(store: ReleaseStore, model: str, name: str) -> Release:
    """Let a release be pruned again; one that is not pinned stays as it is."""
    with store.locked(model):
        release = store.release(model, name)
        path = store.folder(model) / "pins" / release.release_id
        with store_errors_explained(path):
            path.unlink(missing_ok=True)
            if path.parent.is_dir():
                sync_folder(path.parent)
    return release


def pins(store: ReleaseStore, model: str) -> Mapping[str, str]:
    """The pinned releases' ids, each with its reason."""
    folder = store.folder(model) / "pins"
    with store_errors_explained(folder):
        return {
            release_id: (folder / release_id).read_text(encoding="utf-8", errors="replace").strip()
            for release_id in store.release_ids(model)
            if (folder / release_id).is_file()
        }


@contextmanager
def in_use(store: ReleaseStore, release: Release) -> Iterator[None]:
    """Keep a release from being pruned while it is read; the kernel lets go when the process ends.

    Raises:
        ReleaseNotFound: It was pruned before this began.
    """
    path = store.folder(release.model) / "leases" / release.release_id
    try:
        make_folder(path.parent)
        descriptor = _locked(path, fcntl.LOCK_SH)
    except OSError as error:
        # A store that this process may only read is pruned by others, if at all.
        _log.warning("Release %s is read without a lease: %s", release.release_id, error)
        descriptor = None
    try:
        if not release.path.is_dir():
            raise ReleaseNotFound(
                f"release {release.release_id} of model {release.model!r} was pruned from {store.root} on "
                f"{os.uname().nodename}; sync it again, and pin it or raise keep_releases"
            )
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)


def check_keep(keep: int) -> None:
    """Raise ConfigurationError unless so many releases can be kept."""
    if keep < 1:
        raise ConfigurationError(f"keep_releases is {keep}; keep at least 1")


def prune(store: ReleaseStore, model: str, keep: int = KEEP_RELEASES, *, only_look: bool = False) -> Pruned:
    """Remove all but the newest releases and those that must stay.

    A crash at any point leaves each release whole or gone.

    Args:
        store: The store.
        model: The model's name.
        keep: How many of the newest stay, those that stay for another reason included or not.
        only_look: Change nothing; say what would go.

    Raises:
        ConfigurationError: ``keep`` is below 1.
        StoreError: The disk refuses.
    """
    check_keep(keep)
    if not store.folder(model).is_dir():
        return Pruned(removed=(), freed_bytes=0, kept={})
    with store.locked(model), store_errors_explained(store.folder(model)):
        release_ids = store.release_ids(model)
        kept = dict.fromkeys(release_ids[-keep:], f"one of the newest {keep}") | _protected(store, model)
        removed, freed_bytes = [], 0
        for release_id in release_ids:
            if release_id in kept:
                continue
            bytes_of_it = _remove(store.folder(model), release_id, only_look=only_look)
            if bytes_of_it is None:
                kept[release_id] = "in use"
            else:
                removed.append(release_id)
                freed_bytes += bytes_of_it
        if not only_look:
            _forget(store, model)
    ordered = {release_id: kept[release_id] for release_id in release_ids if release_id in kept}
    return Pruned(removed=tuple(removed), freed_bytes=freed_bytes, kept=ordered)


def _protected(store: ReleaseStore, model: str) -> dict[str, str]:
    reasons = dict.fromkeys(pins(store, model), "pinned")
    # What a fleet may go back to; an earlier candidate is a release like any other.
    previous = store.channel(model, CHAMPION).previous
    if previous:
        reasons[previous] = f"previous {CHAMPION}"
    for name in CHANNELS:
        current = store.channel(model, name).current
        if current:
            reasons[current] = name
    return reasons


def _remove(folder: Path, release_id: str, *, only_look: bool) -> int | None:
    """Take one release away by one rename, then delete it; the bytes it frees, None if it is in use."""
    lease = folder / "leases" / release_id
    make_folder(lease.parent)
    try:
        descriptor = _locked(lease, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return None
    try:
        release = folder / "releases" / release_id
        freed_bytes = sum(
            status.st_size
            for status in (path.lstat() for path in release.rglob("*") if path.is_file())
            if status.st_nlink == 1
        )
        if not only_look:
            gone = folder / ".staging" / f"pruned-{release_id}"
            make_folder(gone.parent)
            shutil.rmtree(gone, ignore_errors=True)
            release.rename(gone)
            sync_folder(release.parent)
            shutil.rmtree(gone)
            with suppress(OSError):  # what a killed sync left there is for its retry
                gone.parent.rmdir()
            lease.unlink()
        return freed_bytes
    finally:
        os.close(descriptor)


def _locked(path: Path, operation: int) -> int:
    """Lock a file that whoever removes it holds exclusively: the locked file must still be the one there."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(descriptor, operation)
            if path.exists() and os.path.samestat(os.fstat(descriptor), path.stat()):
                return descriptor
        except OSError:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _forget(store: ReleaseStore, model: str) -> None:
    """Delete what is kept about releases that are gone, by this pruning or one that was killed."""
    folder, release_ids = store.folder(model), store.release_ids(model)
    for kind, form in _RECORDS.items():
        known = {form.format(release_id) for release_id in release_ids}
        _delete_besides(folder / kind, known)
    digests = tuple(release_id.rpartition("-")[2] for release_id in release_ids)
    sources = folder / "sources"
    if sources.is_dir():
        known = {path.name for path in sources.iterdir() if path.read_text().startswith(digests)}
        _delete_besides(sources, known)


def _delete_besides(folder: Path, known: set[str]) -> None:
    if folder.is_dir():
        for path in folder.iterdir():
            if path.name not in known:
                path.unlink()
        sync_folder(folder)
