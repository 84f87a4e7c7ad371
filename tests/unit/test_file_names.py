"""The grammar of a release's file names: what is taken, what is refused and why, and which names clash."""

from __future__ import annotations

import contextlib
import unicodedata
from pathlib import PurePosixPath, PureWindowsPath

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hybrid_provider.artifacts.file_names import PUNCTUATION, TakenNames, checked_path
from hybrid_provider.exceptions import ArtifactRefused
from tests.names import file_names

REAL_NAMES = [
    "saved_model.pb",
    "variables/variables.data-00000-of-00001",
    "assets.extra/tf_serving_warmup_requests",
    "model-00001-of-00002.safetensors",
    "model.safetensors.index.json",
    ".gitattributes",
    "1_Pooling/config.json",
    "epoch=3-step=1200-val_loss=0.12.ckpt",
    "checkpoint-500/optimizer.pt",
    "snapshots/main@2026-11-24/weights.bin",
    "onnx/model_q4f16.onnx_data",
    "lib/libtorch_cuda.so.2+cu121",
    "unet/diffusion_pytorch_model.fp16-[ema].bin",
    "vocab (copy) #2, {final}.txt",
    "100%_data/it's & more!.csv",
    "code/lib/Model$Inner.class",
    "model.py~",
    "__MACOSX/._weights",
    "..a",
    "é/模型.onnx",
    "モデル１/①.bin",
    "हिन्दी/ไทย/العربية.txt",
    "n" * 255,
]  # fmt: skip


@pytest.mark.parametrize("path", REAL_NAMES)
def test_the_names_that_real_models_have_stay_as_they_are(path):
    assert checked_path(path) == path


@pytest.mark.parametrize(
    ("path", "why"),
    [
        *((path, "plain relative path") for path in ["", "/", "/a", "a/", "a//b", ".", "..", "a/..", "../a", "./a"]),
        *((f"a{character}b", "holds") for character in '\\:*?"<>|;`\0\n\r\t\x1b\x7f\x85\xa0'),
        *((f"a{character}b", "holds") for character in "\u200b\u200d\u202e\u2028\u2066\ufeff\u3000\uffff\U000e0041"),
        *((f"a{character}b", "holds") for character in "\u2215\uff0f\u2024\uff0e\u29f5\u2044\U0001f600\ue000\u0378"),
        *((f"a{character}b", "holds") for character in "\u034f\u115f\u1160\u17b4\u180b\u3164\ufe0f\uffa0\U000e0100"),
        ("a\ud800b", "holds"),
        ("e\u0301", "NFC"),
        ("\u212b", "NFC"),
        *((path, "begins with") for path in ["-rf", "a/-rf", "~", "~root/x", " a", "a/ b", "\u0308a", "a/\u0903"]),
        *((path, "ends with") for path in ["a.", "a ", "a./b", "a /b", "...", "a/. "]),
        *((path, "device") for path in ["CON", "nul.txt", "a/Aux", "com1.tar.gz", "LPT9", "con .x", "COM\xb9", "conin$"]),
        ("n" * 256, "longer"),
        ("é" * 128, "longer"),
        ("/".join(["n" * 99] * 11), "longer"),
        ("é" * 1000, "longer"),
        ("n" * 100_000, "longer"),
    ],
)  # fmt: skip
def test_any_other_name_is_refused_with_the_reason(path, why):
    with pytest.raises(ArtifactRefused, match=why):
        checked_path(path)


@given(file_names)
def test_what_the_grammar_writes_is_taken(path):
    assert checked_path(path) == path


@given(st.one_of(st.text(max_size=30), st.text(f"aA.-~ /:\\{PUNCTUATION}\u0308é\u202e\u3164", max_size=30)))
@example("com\xb2.x")
def test_whatever_is_taken_means_the_same_to_every_host(path):
    try:
        checked_path(path)
    except ArtifactRefused:
        return
    assert unicodedata.normalize("NFC", path) == path
    assert str(PurePosixPath(path)) == path
    assert not PurePosixPath(path).is_absolute()
    assert len(path.encode()) <= 1024
    for part in path.split("/"):
        assert part not in {"", ".", ".."}
        assert not part.startswith(("-", "~", " "))
        assert part == part.rstrip(". ")
        assert not PureWindowsPath(part).is_reserved()
        assert len(part.encode()) <= 255
        for character in part:
            is_mark = unicodedata.category(character) in {"Mn", "Mc"}
            assert character.isalnum() or is_mark or character in f"{PUNCTUATION} "


CLASHES = [
    ("a", "a", "twice"),
    ("Model.bin", "model.BIN", "only by case"),
    ("straße", "STRASSE", "only by case"),
    ("ΣΑΣ", "σας", "only by case"),
    ("\u01f0", "J\u030c", "only by case"),
    ("A/x", "a/y", "'a' and another, 'A', differ only by case"),
    ("top/A/in/x", "top/a/in/y", "'top/a' and another, 'top/A'"),
    ("top/in/x", "TOP/in/y", "'TOP' and another, 'top'"),
    ("é/x", "É/y", "only by case"),
    ("a", "a/b", "itself a file"),
    ("A", "a/b", "itself a file"),
    ("a/b", "a", "twice"),
    ("a/b/c", "A/B", "only by case"),
    ("a/b/c", "a/B", "only by case"),
]


@pytest.mark.parametrize(("first", "second", "why"), CLASHES)
def test_names_that_a_host_may_take_for_one_are_refused(first, second, why):
    taken = TakenNames()
    taken.take(checked_path(first))
    with pytest.raises(ArtifactRefused, match=why):
        taken.take(checked_path(second))


@pytest.mark.parametrize(("first", "second", "_"), CLASHES)
def test_they_are_refused_in_either_order(first, second, _):
    taken = TakenNames()
    taken.take(second)
    with pytest.raises(ArtifactRefused):
        taken.take(first)


@given(st.lists(st.from_regex(r"[aAbB](/[aAbB]){0,3}", fullmatch=True), max_size=8))
def test_a_set_of_names_is_taken_where_lower_case_makes_no_two_places_one(paths):
    """A host that folds case is a dict by lower case: what is put there is what is found there."""
    taken, accepted, places = TakenNames(), True, {}
    for path in paths:
        parts = path.split("/")
        for depth in range(1, len(parts) + 1):
            place, kind = "/".join(parts[:depth]), "file" if depth == len(parts) else "folder"
            before = places.setdefault(place.lower(), (place, kind))
            accepted &= before == (place, kind)
    accepted &= len(set(paths)) == len(paths)
    with contextlib.suppress(ArtifactRefused):
        for path in paths:
            taken.take(path)
        assert accepted
        return
    assert not accepted
