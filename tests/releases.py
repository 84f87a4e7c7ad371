"""Releases on disk for tests, made by hand."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from hybrid_provider.artifacts.manifest import Manifest, ManifestFile
from hybrid_provider.artifacts.release import Release, release_id_of

if TYPE_CHECKING:
    from pathlib import Path


def make_release(folder: Path, files: dict[str, bytes], minute: int = 0, model: str = "digits") -> Release:
    """A release with these files; ``minute`` orders releases by their date."""
    manifest = Manifest.of(
        ManifestFile(path, len(content), hashlib.sha256(content).hexdigest())
        for path, content in files.items()
    )
    release_id = release_id_of(datetime(2026, 11, 23, 18, minute, tzinfo=UTC), manifest.digest)
    root = folder / release_id
    for path, content in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content)
    return Release(model=model, release_id=release_id, manifest=manifest, path=root, artifact=None)
