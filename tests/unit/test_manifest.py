"""A release's identity: one canonical text, and nothing else is read as one."""

from __future__ import annotations

import contextlib
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid_provider.artifacts.manifest import Manifest, ManifestFile
from hybrid_provider.exceptions import ArtifactRefused
from tests.names import components

SHA256 = hashlib.sha256(b"x").hexdigest()
files = st.builds(
    ManifestFile, components, st.integers(0, 1 << 62), st.binary(min_size=32, max_size=32).map(bytes.hex)
)
manifests = st.lists(files, min_size=1, max_size=8, unique_by=lambda file: file.path.casefold())


@given(manifests)
def test_what_was_written_is_read_back_the_same(files):
    manifest = Manifest.of(files)
    assert Manifest.parse(manifest.text()) == manifest
    assert Manifest.of(reversed(files)).digest == manifest.digest


@given(manifests, st.data())
def test_no_changed_text_is_read_as_the_same_release(files, data):
    text = Manifest.of(files).text()
    position = data.draw(st.integers(0, len(text) - 1))
    other = data.draw(
        st.characters(exclude_categories=["Cs"]).filter(lambda character: character != text[position])
    )
    changed = text[:position] + other + text[position + 1 :]
    try:
        digest = Manifest.parse(changed).digest
    except ArtifactRefused:
        return
    assert digest != Manifest.of(files).digest


def test_names_that_are_longer_together_than_fit_into_memory_are_refused():
    paths = (f"{number:05}{'x' * 240}/{'y' * 250}" for number in range(100_000))
    with pytest.raises(ArtifactRefused, match="more than 33554432 bytes; shorten them"):
        Manifest.of(ManifestFile(path, 1, SHA256) for path in paths)


@given(st.text(max_size=200))
def test_any_text_is_a_manifest_or_refused(text):
    with contextlib.suppress(ArtifactRefused):
        assert Manifest.parse(text).text() == text


def test_the_digest_is_the_sha256_of_the_documented_lines():
    manifest = Manifest.of([ManifestFile("b", 2, SHA256), ManifestFile("a/é", 1, SHA256)])
    lines = f"hybrid-manifest/1\n{SHA256} 1 a/é\n{SHA256} 2 b\n"
    assert manifest.digest == hashlib.sha256(lines.encode()).hexdigest()
    assert manifest.size_bytes == 3


@pytest.mark.parametrize(
    "text",
    [
        "",
        "hybrid-manifest/2\n",
        "hybrid-manifest/1\n",
        f"hybrid-manifest/1\n{SHA256} 1 a",
        f"hybrid-manifest/1\n{SHA256} 01 a\n",
        f"hybrid-manifest/1\n{SHA256} \u0661 a\n",
        f"hybrid-manifest/1\n{SHA256} -1 a\n",
        f"hybrid-manifest/1\n{SHA256} {'9' * 5000} a\n",
        f"hybrid-manifest/1\n{SHA256.upper()} 1 a\n",
        f"hybrid-manifest/1\n{SHA256[:-1]} 1 a\n",
        f"hybrid-manifest/1\n{SHA256} 1 b\n{SHA256} 1 a\n",
        f"hybrid-manifest/1\n{SHA256} 1 a\n{SHA256} 1 a\n",
        f"hybrid-manifest/1\n{SHA256} 1 a\n\n",
        f"hybrid-manifest/1\r\n{SHA256} 1 a\r\n",
    ],
)
def test_a_text_that_is_not_canonical_is_refused(text):
    with pytest.raises(ArtifactRefused):
        Manifest.parse(text)
