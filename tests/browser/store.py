"""A store with two small releases that the emulated hosts can serve."""

from __future__ import annotations

from datetime import UTC, datetime

from onnx import TensorProto, helper

from hybrid_provider.artifacts.store import ReleaseStore
from tests.releases import make_release


def model(factor):
    """A network that the emulator's model server takes: its input times a number."""
    numbers = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, 1]) for name in ("x", "y")]
    constant = helper.make_tensor("factor", TensorProto.FLOAT, [1], [factor])
    node = helper.make_node("Mul", ["x", "factor"], ["y"])
    graph = helper.make_graph([node], "times", numbers[:1], numbers[1:], [constant])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    made.ir_version = 9
    return made.SerializeToString()


def two_releases(folder):
    """Their ids, the older first."""
    store = ReleaseStore(folder)
    ids = []
    for minute, content in enumerate((model(1.0), model(2.0))):
        made = make_release(folder.parent / "made", {"model.onnx": content}, minute)
        with store.locked("digits"):
            created = datetime(2026, 11, 23, 18, minute, tzinfo=UTC)
            release = store.add(
                "digits", made.path, made.manifest, created=created, artifact=None, provenance={}
            )
        ids.append(release.release_id)
    return ids
