"""Releases on disk for tests, made by hand."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from hybrid_provider.artifacts.manifest import Manifest, ManifestFile
from hybrid_provider.artifacts.release import Release, release_id_of
from hybrid_provider.artifacts.store import ReleaseStore

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


def stored_release(
    folder: Path, store_root: Path, files: dict[str, bytes], minute: int = 0, model: str = "digits"
) -> Release:
    """The same in a store; ``folder`` is for its making."""
    made = make_release(folder, files, minute, model)
    store = ReleaseStore(store_root)
    with store.locked(made.model):
        return store.add(
            made.model,
            made.path,
            made.manifest,
            created=datetime(2026, 11, 23, 18, minute, tzinfo=UTC),
            artifact=None,
            provenance={},
        )


def network(factor: float) -> bytes:
    """An ONNX model that the emulator's model server takes: its input times a number."""
    from onnx import TensorProto, helper

    numbers = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, 1]) for name in ("x", "y")]
    constant = helper.make_tensor("factor", TensorProto.FLOAT, [1], [factor])
    node = helper.make_node("Mul", ["x", "factor"], ["y"])
    graph = helper.make_graph([node], "times", numbers[:1], numbers[1:], [constant])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    made.ir_version = 9
    return made.SerializeToString()
