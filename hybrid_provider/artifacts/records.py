"""What the store keeps of a release besides its files, each kind in a folder of its own beside ``releases``.

The store's docstring draws them. All are small files that are replaced by one rename, and written before the
release appears; only what an artifact became is noted after it.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

from hybrid_provider.artifacts.artifact import Artifact
from hybrid_provider.artifacts.folder import make_folder, read_small_file, write_small_file
from hybrid_provider.artifacts.manifest import Manifest
from hybrid_provider.artifacts.release import Release
from hybrid_provider.exceptions import ArtifactRefused, StoreError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


def write_record(
    folder: Path,
    release_id: str,
    manifest: Manifest,
    artifact: Artifact | None,
    provenance: Mapping[str, object],
) -> None:
    """Keep the manifest of a model's release, and where it came from."""
    origin = {"artifact": artifact.to_dict() if artifact else None, **provenance}
    _write(folder / "manifests" / release_id, manifest.text())
    _write(_provenance(folder, release_id), json.dumps(origin, indent=2, sort_keys=True) + "\n")


def read_release(folder: Path, release_id: str) -> Release:
    """A release by its records; its files are not looked at.

    Raises:
        StoreError: A record is gone or damaged.
    """
    text = read_small_file(folder / "manifests" / release_id)
    origin = read_small_file(_provenance(folder, release_id))
    try:
        manifest = Manifest.parse(f"{text}\n")
        source = json.loads(origin or "")["artifact"]
        artifact = Artifact.from_dict(source) if source else None
    except (ArtifactRefused, ValueError, KeyError, TypeError) as error:
        raise _damaged(folder, release_id, str(error)) from error
    if not release_id.endswith(f"-{manifest.digest[:12]}"):
        raise _damaged(folder, release_id, "the manifest is of another release")
    return Release(
        model=folder.name,
        release_id=release_id,
        manifest=manifest,
        path=folder / "releases" / release_id,
        artifact=artifact,
    )


def read_provenance(folder: Path, release_id: str) -> Mapping[str, object]:
    """Where a release came from."""
    origin = read_small_file(_provenance(folder, release_id))
    return dict(json.loads(origin)) if origin else {}


def write_signature(folder: Path, release_id: str, signature: str | None) -> Path:
    """Keep who vouches for a release, if anybody does; where."""
    path = folder / "signatures" / release_id
    if signature is not None:
        _write(path, f"{signature}\n")
    return path


def read_signature(folder: Path, release_id: str) -> str | None:
    """Who vouches for a release."""
    return read_small_file(folder / "signatures" / release_id)


def write_source(folder: Path, artifact: Artifact, digest: str, archive_sha256: str | None) -> None:
    """Note what an artifact became, and the SHA-256 of its own bytes where it was computed."""
    _write(folder / "sources" / _identity(artifact), f"{digest} {archive_sha256 or ''}\n")


def read_source(folder: Path, artifact: Artifact) -> tuple[str, str] | None:
    """What exactly this artifact became: a digest and, or nothing, the SHA-256 of its own bytes."""
    text = read_small_file(folder / "sources" / _identity(artifact))
    if text is None:
        return None
    digest, _, archive_sha256 = text.partition(" ")
    return digest, archive_sha256


def _write(path: Path, text: str) -> None:
    make_folder(path.parent)
    write_small_file(path, text)


def _provenance(folder: Path, release_id: str) -> Path:
    return folder / "provenance" / f"{release_id}.json"


def _damaged(folder: Path, release_id: str, fault: str) -> StoreError:
    return StoreError(
        f"{folder / 'manifests' / release_id}, or the provenance beside it, is gone or damaged ({fault}); "
        f"remove {folder / 'releases' / release_id} and sync again"
    )


def _identity(artifact: Artifact) -> str:
    """A file name for exactly this artifact; the date is left out, as a copy of a listing may round it."""
    identity = [artifact.uri, artifact.version_id, artifact.etag, artifact.size_bytes]
    return hashlib.sha256(json.dumps(identity).encode()).hexdigest()
