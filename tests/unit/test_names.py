"""The grammar of names: everything outside the allow-list is refused, with what to use instead."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid_provider.exceptions import InvalidName
from hybrid_provider.names import checked_name


@pytest.mark.parametrize("name", ["digits", "line-07", "edge_01", "a", "v1.2.3", "A" * 64])
def test_a_plain_name_is_returned_unchanged(name):
    assert checked_name("model", name) == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        "..",
        "../etc",
        "a/b",
        "a..b",
        "-rf",
        ".hidden",
        "; rm -rf ~",
        "$(id)",
        "a b",
        "a\n",
        "a\x00b",
        "modèle",
        "a" * 65,
        None,
        7,
    ],
)
def test_any_other_name_is_refused_by_name(name):
    with pytest.raises(InvalidName, match="model name"):
        checked_name("model", name)


@given(st.text())
def test_whatever_is_allowed_is_one_inert_shell_word_and_one_folder(name):
    import shlex

    try:
        checked_name("target", name)
    except InvalidName:
        return
    assert shlex.quote(name) == name
    assert "/" not in name
    assert name not in {".", ".."}
