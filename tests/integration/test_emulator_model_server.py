"""The emulated hosts' model server: it serves the release that is current, or says why it does not."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from contextlib import closing
from dataclasses import dataclass
from http.client import HTTPConnection
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from hybrid_provider.emulator import Emulator

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from hybrid_provider.emulator import EmulatedHost


@dataclass(frozen=True)
class Reply:
    status: int
    release: str | None
    body: dict[str, Any]


def model_that_adds(number: float, element: int = TensorProto.FLOAT) -> bytes:
    """An ONNX model: rows of two numbers plus ``number``."""
    constant = helper.make_tensor("number", element, [1], [number])
    graph = helper.make_graph(
        [helper.make_node("Add", ["rows", "number"], ["sums"])],
        "adds",
        [helper.make_tensor_value_info("rows", element, [None, 2])],
        [helper.make_tensor_value_info("sums", element, [None, 2])],
        [constant],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    return model.SerializeToString()


class Served:
    """A host with a model server, and what a deploy does to it."""

    def __init__(self, host: EmulatedHost) -> None:
        self.host = host
        self.folder = host.root / "models" / "adds"

    def install(self, release: str, *models: bytes) -> None:
        folder = self.folder / "releases" / release
        folder.mkdir(parents=True)
        for number, model in enumerate(models):
            (folder / f"model{number}.onnx").write_bytes(model)

    def switch(self, release: str) -> None:
        link = self.folder / "next"
        link.symlink_to(f"releases/{release}")
        link.replace(self.folder / "current")

    def reload(self) -> None:
        environment = {"HOME": str(self.host.root), "PATH": "/usr/bin:/bin"}
        subprocess.run(["sh", "-c", self.host.reload_command], env=environment, check=True)

    def ping(self) -> Reply:
        return self._send("ping", None)

    def invoke(self, body: object) -> Reply:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self._send("invocations", raw)

    def until(self, done: Callable[[Reply], bool]) -> Reply:
        deadline = time.monotonic() + 30
        while not done(reply := self.ping()):
            assert time.monotonic() < deadline, reply
            time.sleep(0.02)
        return reply

    def _send(self, path: str, body: bytes | None) -> Reply:
        address = self.host.model_server_url.removeprefix("http://")
        with closing(HTTPConnection(address, timeout=30)) as connection:
            connection.request("GET" if body is None else "POST", f"/{path}", body)
            reply = connection.getresponse()
            return Reply(reply.status, reply.headers.get("X-Release-Id"), json.load(reply))


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    with Emulator(tmp_path_factory.mktemp("serving"), hosts=1, model="adds") as running:
        yield running


@pytest.fixture
def served(emulator: Emulator) -> Served:
    """A server that has been told of an empty folder."""
    served = Served(emulator.hosts[0])
    shutil.rmtree(served.folder, ignore_errors=True)
    served.folder.mkdir(parents=True)
    served.reload()
    served.until(lambda reply: reply.release is None)
    return served


def test_without_a_release_it_answers_503_and_says_so(served: Served) -> None:
    reply = served.ping()
    assert (reply.status, reply.release) == (503, None)
    assert "points to no release" in reply.body["reason"]
    assert served.invoke({"instances": [[1, 2]]}).status == 503


def test_it_serves_the_current_release_after_a_reload(served: Served) -> None:
    served.install("20261123T000000Z-aaaaaaaaaaaa", model_that_adds(1))
    served.switch("20261123T000000Z-aaaaaaaaaaaa")
    served.reload()

    reply = served.until(lambda reply: reply.status == 200)
    assert reply.release == "20261123T000000Z-aaaaaaaaaaaa"
    answer = served.invoke({"instances": [[1, 2], [3, 4]]})
    assert (answer.status, answer.release) == (200, "20261123T000000Z-aaaaaaaaaaaa")
    assert answer.body == {"predictions": [[2, 3], [4, 5]]}


def test_it_serves_the_old_release_until_it_is_told_of_the_new_one(served: Served) -> None:
    for release, number in (("one", 1), ("two", 2)):
        served.install(release, model_that_adds(number))
    served.switch("one")
    served.reload()
    served.until(lambda reply: reply.release == "one")
    served.switch("two")
    assert served.invoke({"instances": [[0, 0]]}).body == {"predictions": [[1, 1]]}

    served.reload()
    served.until(lambda reply: reply.release == "two" and reply.status == 200)
    assert served.invoke({"instances": [[0, 0]]}).body == {"predictions": [[2, 2]]}


@pytest.mark.parametrize(
    ("models", "reason"),
    [
        ([b"this is no model"], "does not load"),
        ([], "holds 0 .onnx files"),
        ([model_that_adds(1), model_that_adds(2)], "holds 2 .onnx files"),
    ],
    ids=["damaged", "none", "two"],
)
def test_a_release_that_does_not_load_is_named_and_the_old_one_is_not_served_in_its_place(
    served: Served, models: list[bytes], reason: str
) -> None:
    served.install("good", model_that_adds(1))
    served.switch("good")
    served.reload()
    served.until(lambda reply: reply.status == 200)
    served.install("bad", *models)
    served.switch("bad")
    served.reload()

    reply = served.until(lambda reply: reply.release == "bad")
    assert reply.status == 503
    assert reason in reply.body["reason"]
    assert served.invoke({"instances": [[1, 2]]}).status == 503

    served.switch("good")
    served.reload()
    served.until(lambda reply: reply.status == 200)
    assert served.invoke({"instances": [[0, 0]]}).body == {"predictions": [[1, 1]]}


@pytest.mark.parametrize(
    "body",
    [
        b"not json",
        [1, 2],
        {"rows": [[1, 2]]},
        {"instances": []},
        {"instances": [[1, 2, 3]]},
        {"instances": [[1], [2, 3]]},
        {"instances": [["a", "b"]]},
        {"instances": 7},
        {"instances": None},
    ],
    ids=str,
)
def test_input_that_the_model_does_not_take_is_answered_with_400(served: Served, body: object) -> None:
    served.install("good", model_that_adds(1))
    served.switch("good")
    served.reload()
    served.until(lambda reply: reply.status == 200)
    reply = served.invoke(body)
    assert reply.status == 400
    assert reply.body["reason"]


def test_a_model_of_doubles_is_given_doubles(served: Served) -> None:
    served.install("doubles", model_that_adds(0.1, TensorProto.DOUBLE))
    served.switch("doubles")
    served.reload()
    served.until(lambda reply: reply.status == 200)
    predictions = served.invoke({"instances": [[0.2, 1e-9]]}).body["predictions"]
    assert np.array_equal(predictions, [[0.2 + 0.1, 1e-9 + 0.1]])
