"""The record of transfers and activations: whatever is done to its file shows."""

from __future__ import annotations

import json
import multiprocessing
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybrid_provider.artifacts.importing import import_release
from hybrid_provider.artifacts.store import ReleaseStore
from hybrid_provider.evidence.__main__ import main
from hybrid_provider.evidence.chain import EvidenceChain, Head
from hybrid_provider.exceptions import ConfigurationError, EvidenceBroken, StoreError
from tests.releases import make_release

LENGTH = 6


@pytest.fixture
def chain(tmp_path):
    return EvidenceChain(tmp_path)


def fill(chain, length=LENGTH):
    """A chain of some entries, and each head that was ever told."""
    return [chain.append("transfer", {"model": "digits", "size_bytes": n}) for n in range(length)]


def test_every_head_that_was_told_is_in_the_chain(chain):
    heads = fill(chain)
    assert chain.verify(*heads) == heads[-1] == chain.head()
    assert [entry.facts["size_bytes"] for entry in chain.entries()] == list(range(LENGTH))


def test_a_store_without_evidence_has_an_empty_chain(chain):
    assert chain.verify() == chain.head() == Head(0, "0" * 64)
    with pytest.raises(EvidenceBroken, match="cut off"):
        chain.verify(Head(1, "a" * 64))


@st.composite
def tampering(draw):
    """A change of a file of lines, as whoever can write it could make it."""
    kind = draw(st.sampled_from(["flip", "remove", "swap", "repeat", "insert", "cut"]))
    first, second = draw(st.integers(0, LENGTH - 1)), draw(st.integers(0, LENGTH - 1))
    where, bit = draw(st.floats(0, 1, exclude_max=True)), draw(st.integers(0, 7))

    def tamper(content: bytes) -> bytes:
        lines = content.splitlines(keepends=True)
        if kind == "flip":
            changed = bytearray(content)
            changed[int(where * len(content))] ^= 1 << bit
            return bytes(changed)
        if kind == "remove":
            del lines[first]
        if kind == "swap":
            lines[first], lines[second] = lines[second], lines[first]
        if kind == "repeat":
            lines.insert(second, lines[first])
        if kind == "insert":
            forged = json.loads(lines[first]) | {"facts": {"forged": True}}
            lines.insert(second, json.dumps(forged, sort_keys=True, separators=(",", ":")).encode() + b"\n")
        if kind == "cut":
            return content[: int(where * len(content))]
        return b"".join(lines)

    return tamper


@settings(max_examples=120, deadline=None)
@given(tampering())
def test_any_change_of_the_file_is_found_with_the_head(tamper):
    with tempfile.TemporaryDirectory() as root:
        chain = EvidenceChain(Path(root))
        head = fill(chain)[-1]
        content = chain.path.read_bytes()
        changed = tamper(content)
        chain.path.write_bytes(changed)
        if changed == content:
            assert chain.verify(head) == head
        else:
            with pytest.raises(EvidenceBroken):
                chain.verify(head)


def test_a_record_that_was_written_anew_is_found_by_any_older_head(chain):
    heads = fill(chain)
    chain.path.unlink()
    fill(chain)
    with pytest.raises(EvidenceBroken, match="entry 3 is another than when its head was kept"):
        chain.verify(heads[2])


def test_a_writer_that_was_killed_in_an_entry_leaves_no_trace(chain):
    heads = fill(chain)
    with chain.path.open("ab") as file:
        file.write(b'{"at":"2026-')
    assert chain.verify(*heads) == heads[-1]
    next_head = chain.append("activation", {})
    assert next_head.length == LENGTH + 1
    assert chain.verify(*heads, next_head) == next_head


def _append_many(root):
    for n in range(25):
        EvidenceChain(root).append("activation", {"n": n})


def test_processes_that_append_at_once_make_one_chain(chain):
    writers = [multiprocessing.Process(target=_append_many, args=(chain.store_root,)) for _ in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0] * 4
    assert chain.verify().length == 100


def test_an_end_that_is_no_entry_is_not_built_upon(chain):
    fill(chain, 1)
    with chain.path.open("ab") as file:
        file.write(b"rubbish\n")
    with pytest.raises(StoreError, match="last line is no entry"):
        chain.append("transfer", {})


def test_the_command_proves_a_record_and_names_what_is_broken(chain, capsys):
    heads = fill(chain)
    store = ["--store", str(chain.store_root)]
    assert main(["verify", *store, "--head", str(heads[1]), "--head", str(heads[-1])]) == 0
    assert "6 entries, whole, and 2 heads are in it" in capsys.readouterr().out
    assert main(["head", *store]) == 0
    assert Head.parse(capsys.readouterr().out) == heads[-1]
    assert main(["show", *store, "--last", "2"]) == 0
    assert [json.loads(line)["n"] for line in capsys.readouterr().out.splitlines()] == [5, 6]
    lines = chain.path.read_bytes().splitlines(keepends=True)
    chain.path.write_bytes(b"".join(lines[:3] + lines[4:]))
    assert main(["verify", *store, "--head", str(heads[-1])]) == 1
    assert "entry 4 is not what was appended after entry 3" in capsys.readouterr().err
    assert main(["verify", *store, "--head", "4"]) == 2
    assert main(["verify", "--store", f"{store[1]}-misspelt"]) == 2


def test_the_command_runs_as_a_module(chain):
    fill(chain)
    command = [sys.executable, "-m", "hybrid_provider.evidence", "verify", "--store", chain.store_root]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "no --head was given" in done.stdout.lower()


@pytest.mark.parametrize("text", ["", "4", "-1:" + "0" * 64, "01:" + "0" * 64, "1:xyz"])
def test_what_is_no_head_is_refused(text):
    with pytest.raises(ConfigurationError, match="looks like"):
        Head.parse(text)


def test_a_release_appears_only_with_its_transfer_in_the_evidence(tmp_path):
    made = make_release(tmp_path, {"model.onnx": b"1"})
    store = ReleaseStore(tmp_path / "other")
    release = import_release(
        store, "digits", made.path, provenance={"run": {"dag_id": "d"}, "objects": ["x"] * 99}
    )
    (entry,) = store.evidence.entries()
    assert entry.kind == "transfer"
    assert entry.facts["release"] == release.release_id
    assert entry.facts["digest"] == release.digest
    assert entry.facts["run"] == {"dag_id": "d"}
    assert "objects" not in entry.facts


def test_a_store_whose_evidence_cannot_be_written_takes_no_release(tmp_path):
    made = make_release(tmp_path, {"model.onnx": b"1"})
    store = ReleaseStore(tmp_path / "other")
    store.root.mkdir()
    (store.root / ".evidence").write_text("a file where the folder belongs")
    with pytest.raises(StoreError, match="without its evidence nothing is brought here"):
        import_release(store, "digits", made.path)
    assert store.release_ids("digits") == ()
