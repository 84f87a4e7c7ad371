"""File names as the grammar writes them, for property tests."""

from __future__ import annotations

import unicodedata

from hypothesis import strategies as st

_UNSEEN = "\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u3164\uffa0"
_UNSEEN += "".join(map(chr, (*range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0))))
_first = st.characters(categories=["L", "N"], exclude_characters=_UNSEEN) | st.sampled_from(
    "!#$%&'()+,.=@[]^_{}"
)
_other = _first | st.characters(categories=["Mn", "Mc"], exclude_characters=_UNSEEN) | st.sampled_from("-~ ")
components = (
    st.builds(lambda first, rest: f"{first}{rest}", _first, st.text(_other, max_size=20))
    .map(lambda text: unicodedata.normalize("NFC", text))
    .filter(lambda text: not text.endswith((".", " ")))
)
file_names = st.lists(components, min_size=1, max_size=4).map("/".join)
