"""Signatures in OpenSSF's format: what is accepted, what is refused, and that the reference tool agrees."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from hypothesis import given
from hypothesis import strategies as st

from hybrid_provider.artifacts.admission import Admission
from hybrid_provider.artifacts.importing import import_release
from hybrid_provider.artifacts.manifest import Manifest, ManifestFile
from hybrid_provider.artifacts.policy import ArtifactPolicy
from hybrid_provider.artifacts.signature import (
    fingerprint,
    load_private_key,
    load_public_key,
    sign,
    sign_folder,
    verify,
)
from hybrid_provider.artifacts.store import ReleaseStore
from hybrid_provider.exceptions import ArtifactRefused, ConfigurationError, StoreError
from tests.releases import make_release

if TYPE_CHECKING:
    from pathlib import Path

SIGNED = datetime(2026, 11, 23, 18, tzinfo=UTC)
FILES = {"model.onnx": b"weights", "a.b/x": b"1", "a/y": b"2", "Z": b"3", "ä/é.bin": b"4"}
KEY = ec.generate_private_key(ec.SECP256R1())
OTHER = ec.generate_private_key(ec.SECP256R1())


@pytest.fixture
def release(tmp_path):
    return make_release(tmp_path, FILES)


def write_keys(folder: Path, key=KEY, password: bytes | None = None) -> tuple[Path, Path]:
    encryption = BestAvailableEncryption(password) if password else NoEncryption()
    private, public = folder / "private.pem", folder / "public.pem"
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption))
    public.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return private, public


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1()], ids=lambda c: c.name)
def test_what_was_signed_is_verified(release, curve):
    key = ec.generate_private_key(curve)
    signed = verify(sign(release.manifest, "digits", key, SIGNED), [OTHER.public_key(), key.public_key()])
    assert (signed.model, signed.signed, signed.key) == ("digits", SIGNED, fingerprint(key.public_key()))
    signed.check_files(release.manifest)


def test_another_key_s_signature_is_refused(release):
    with pytest.raises(ArtifactRefused, match="none of the trusted keys"):
        verify(sign(release.manifest, "digits", OTHER, SIGNED), [KEY.public_key()])


@pytest.mark.parametrize(
    ("files", "named"),
    [
        (FILES | {"extra.py": b"x"}, "'extra.py' is not signed"),
        (FILES | {".git/hooks/run": b"x"}, "'.git/hooks/run' is not signed"),
        ({name: FILES[name] for name in ("Z", "a/y")}, "is signed and missing"),
        (FILES | {"model.onnx": b"weight5"}, "'model.onnx' is not what was signed"),
    ],
)
def test_other_files_than_the_signed_ones_are_refused_by_name(release, tmp_path, files, named):
    signed = verify(sign(release.manifest, "digits", KEY, SIGNED), [KEY.public_key()])
    with pytest.raises(ArtifactRefused, match=named):
        signed.check_files(make_release(tmp_path / "other", files).manifest)


TEXT = sign(Manifest.of([ManifestFile("a", 1, "0" * 64)]), "digits", KEY, SIGNED)


@given(st.integers(0, len(TEXT) - 1), st.characters(codec="ascii"))
def test_no_changed_signature_says_something_else(position, character):
    before = verify(TEXT, [KEY.public_key()])
    try:
        after = verify(TEXT[:position] + character + TEXT[position + 1 :], [KEY.public_key()])
    except ArtifactRefused:
        return
    assert after == before


@given(st.text() | st.recursive(st.none() | st.text() | st.integers(), lambda x: st.lists(x) | st.dictionaries(st.sampled_from(["dsseEnvelope", "payload", "payloadType", "signatures", "sig"]), x)).map(json.dumps))  # fmt: skip
def test_any_text_is_refused_and_explained(text):
    with pytest.raises(ArtifactRefused):
        verify(text, [KEY.public_key()])


def resigned(change) -> str:
    """A bundle whose statement was changed and signed again by the trusted key."""
    from cryptography.hazmat.primitives import hashes

    bundle = json.loads(TEXT)
    statement = json.loads(base64.b64decode(bundle["dsseEnvelope"]["payload"]))
    change(statement)
    payload = json.dumps(statement).encode()
    kind = b"application/vnd.in-toto+json"
    over = b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)
    bundle["dsseEnvelope"]["payload"] = base64.b64encode(payload).decode()
    signature = KEY.sign(over, ec.ECDSA(hashes.SHA256()))
    bundle["dsseEnvelope"]["signatures"] = [{"sig": base64.b64encode(signature).decode()}]
    return json.dumps(bundle)


def set_in(*path_and_value):
    *path, last, value = path_and_value

    def change(statement):
        for key in path:
            statement = statement[key]
        statement[last] = value

    return change


@pytest.mark.parametrize(
    "change",
    [
        set_in("predicateType", "https://slsa.dev/provenance/v1"),
        set_in("_type", "x"),
        set_in("predicate", "serialization", "method", "shards"),
        set_in("predicate", "serialization", "hash_type", "blake2b"),
        set_in("predicate", "resources", 0, "algorithm", "blake3"),
        set_in("predicate", "resources", [{"name": "a", "algorithm": "sha256", "digest": "0"}] * 2),
        set_in("predicate", "hybrid", {"model": "digits"}),
        set_in("predicate", "hybrid", "signed", "yesterday"),
        set_in("predicate", 7),
    ],
)
def test_a_trusted_key_s_signature_of_something_else_is_refused(change):
    with pytest.raises(ArtifactRefused, match="statement cannot be read"):
        verify(resigned(change), [KEY.public_key()])


def test_keys_that_cannot_be_used_are_explained(tmp_path):
    private, public = write_keys(tmp_path, password=b"secret")
    assert load_private_key(private, "secret").private_numbers() == KEY.private_numbers()
    for wrong in (None, "guess"):
        with pytest.raises(ConfigurationError, match=r"private key .*password") as refusal:
            load_private_key(private, wrong)
        assert "guess" not in str(refusal.value)
    with pytest.raises(ConfigurationError, match="public key"):
        load_public_key(private)
    with pytest.raises(ConfigurationError, match="No such file"):
        load_public_key(tmp_path / "absent")
    write_keys(tmp_path, rsa.generate_private_key(65537, 2048))
    with pytest.raises(ConfigurationError, match="curves"):
        load_public_key(public)


class TestWithTheReferenceTool:
    """``model_signing`` is a development dependency; what it signs is verified here, and the reverse."""

    @staticmethod
    def tool(*arguments):
        command = [sys.executable, "-m", "model_signing", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    def test_it_verifies_what_we_sign(self, release, tmp_path):
        private, public = write_keys(tmp_path)
        written = sign_folder(release.path, "digits", load_private_key(private), SIGNED)
        ran = self.tool("verify", "key", release.path, "--signature", written, "--public_key", public)
        assert ran.returncode == 0, ran.stderr + ran.stdout
        (release.path / "Z").write_bytes(b"?")
        ran = self.tool("verify", "key", release.path, "--signature", written, "--public_key", public)
        assert ran.returncode != 0

    def test_we_verify_what_it_signs(self, release, tmp_path):
        private, public = write_keys(tmp_path)
        made = tmp_path / "model.sig"
        ran = self.tool("sign", "key", release.path, "--signature", made, "--private_key", private)
        assert ran.returncode == 0, ran.stderr
        signed = verify(made.read_text(), [load_public_key(public)])
        signed.check_files(release.manifest)
        assert (signed.model, signed.signed) == (None, None)


class TestAdmission:
    """A signature where the policy requires one, over a store with a memory."""

    @pytest.fixture
    def place(self, tmp_path):
        (tmp_path / "in").mkdir()
        return tmp_path

    def bring(self, place, files, *, when=SIGNED, key=KEY, model="digits", inside=False, **policy):
        """Import a folder with a signature of ``when``; None for no signature at all."""
        _, public = write_keys(place, KEY)
        folder = make_release(place / "in", files).path
        (beside := folder.with_name(f"{folder.name}.sig")).unlink(missing_ok=True)
        (folder / "model.sig").unlink(missing_ok=True)
        if when is not None:
            written = sign_folder(folder, model, key, when)
            if not inside:
                written.rename(beside)
        store = ReleaseStore(place / "store")
        return store, import_release(
            store, "digits", folder, policy=ArtifactPolicy(public_keys=(public,), **policy)
        )

    @pytest.mark.parametrize("inside", [True, False])
    def test_a_signature_is_found_among_the_files_and_beside_them(self, place, inside):
        store, release = self.bring(place, FILES, inside=inside)
        assert (store.signature(release) is None) is inside
        assert store.provenance(release)["signature"] == {
            "key": fingerprint(KEY.public_key()),
            "signed": SIGNED.isoformat(),
        }

    @pytest.mark.parametrize(
        ("arguments", "named"),
        [
            ({"when": None}, "is not signed"),
            ({"key": OTHER}, "none of the trusted keys"),
            ({"model": "letters"}, "of model 'letters'"),
        ],
    )
    def test_what_is_not_signed_as_required_leaves_nothing(self, place, arguments, named):
        with pytest.raises(ArtifactRefused, match=named):
            self.bring(place, FILES, **arguments)
        assert {path.name for path in (place / "store").rglob("*") if path.is_file()} == {".lock"}

    def test_an_older_signature_than_the_last_is_refused_unless_asked_for(self, place):
        _, newest = self.bring(place, {"m": b"2"}, when=SIGNED)
        older = {"files": {"m": b"1"}, "when": SIGNED - timedelta(days=1)}
        with pytest.raises(ArtifactRefused, match="allow_older"):
            self.bring(place, **older)
        store, release = self.bring(place, **older, allow_older=True)
        assert release.digest != newest.digest
        with pytest.raises(ArtifactRefused, match="allow_older"):
            self.admission(place, store).admit_known(release)

    def test_a_signature_without_a_date_is_older_than_any(self, place):
        private, public = write_keys(place)
        self.bring(place, {"m": b"2"})
        folder = make_release(place / "in", {"m": b"3"}).path
        undated = TestWithTheReferenceTool.tool(
            "sign", "key", folder, "--signature", folder / "model.sig", "--private_key", private
        )
        assert undated.returncode == 0
        with pytest.raises(ArtifactRefused, match="on no date"):
            import_release(
                ReleaseStore(place / "store"), "digits", folder, policy=ArtifactPolicy(public_keys=(public,))
            )

    @staticmethod
    def admission(place, store, beside=lambda: None):
        return Admission(ArtifactPolicy(public_keys=(place / "public.pem",)), store, "digits", beside)

    def test_a_damaged_memory_of_the_last_signature_is_not_taken_for_none(self, place):
        store, release = self.bring(place, FILES)
        (place / "store/digits/last-signed").write_text("")
        with pytest.raises(StoreError, match="last-signed"):
            self.admission(place, store).admit_known(release)

    def test_a_release_from_before_the_policy_is_signed_later(self, place):
        store = ReleaseStore(place / "store")
        folder = make_release(place / "in", FILES).path
        release = import_release(store, "digits", folder)
        write_keys(place)
        with pytest.raises(ArtifactRefused, match="not signed"):
            self.admission(place, store).admit_known(release)
        text = sign(release.manifest, "digits", KEY, SIGNED)
        self.admission(place, store, lambda: text).admit_known(release)
        assert store.signature(release) == text
        self.admission(place, store).admit_known(release)
