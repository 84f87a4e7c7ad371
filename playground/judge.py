"""What a host really holds and serves, asked of the host itself and not of Airflow."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import numpy as np

from hybrid_provider.artifacts.manifest import Manifest, ManifestFile

if TYPE_CHECKING:
    from hybrid_provider.emulator import EmulatedHost
    from playground.dataset import HeldOut


@dataclass(frozen=True)
class Verdict:
    """One host, looked at from outside.

    Attributes:
        host: Its name.
        release: The release that answers its requests.
        on_disk: The release that ``current`` points to.
        digest: Of the files under ``current``, hashed now.
        probe: Status of ``GET /ping``.
        accuracy: Share of the held-out rows that ``POST /invocations`` gets right.
    """

    host: str
    release: str
    on_disk: str
    digest: str
    probe: int
    accuracy: float


def judge(host: EmulatedHost, model: str, rows: HeldOut) -> Verdict:
    """Ask the host's server, and read the host's disk."""
    current = Path(host.root) / "models" / model / "current"
    ping = httpx.get(f"{host.model_server_url}/ping", timeout=30)
    answer = httpx.post(
        f"{host.model_server_url}/invocations", json={"instances": rows.pixels.tolist()}, timeout=30
    )
    predictions = np.array(answer.json().get("predictions", []))
    right = predictions == rows.labels if predictions.shape == rows.labels.shape else np.zeros(1)
    return Verdict(
        host=host.name,
        release=answer.headers.get("X-Release-Id", "none"),
        on_disk=current.resolve().name if current.exists() else "none",
        digest=_digest(current) if current.exists() else "none",
        probe=ping.status_code,
        accuracy=float(np.mean(right)),
    )


def _digest(folder: Path) -> str:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return Manifest.of(
        ManifestFile(
            str(path.relative_to(folder)), path.stat().st_size, hashlib.sha256(path.read_bytes()).hexdigest()
        )
        for path in files
    ).digest
