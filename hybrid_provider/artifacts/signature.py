"""Signatures of models in OpenSSF's format, made and checked offline with an elliptic-curve key.

A signature is what ``model_signing sign key`` writes: a Sigstore bundle whose DSSE envelope holds an in-toto
statement that lists each file's SHA-256. Either tool verifies what the other signed. Ours also states which
model it is and when it was signed (the format leaves room for that), so that a signature of another model
or of an older release cannot be passed off as the new one's.

The format is written here with ``cryptography``, which Airflow brings: the reference library imports for two
seconds, asks for twelve packages that serve its online modes, and would read every file a second time.
"""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, cast

from hybrid_provider.artifacts.file_names import shown
from hybrid_provider.artifacts.manifest import Manifest, ManifestFile
from hybrid_provider.exceptions import ArtifactRefused, ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec

SIGNATURE_NAME = "model.sig"
"""Where a model's own folder holds its signature, as OpenSSF's tool names it."""
MAX_SIGNATURE_BYTES = 64 << 20
"""100,000 files with long names take half of it."""

_BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"
_PAYLOAD = "application/vnd.in-toto+json"
_STATEMENT = "https://in-toto.io/Statement/v1"
_PREDICATE = "https://model_signing/signature/v1.0"
_OURS = "hybrid"
_CURVES = ("secp256r1", "secp384r1", "secp521r1")
_SHOWN_FILES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Signed:
    """What a valid signature says.

    Attributes:
        files: Each file's path and SHA-256.
        model: The model's name; None in a signature of another tool.
        signed: When it was signed; None likewise.
        key: SHA-256 of the public key that it was verified with.
    """

    files: Mapping[str, str]
    model: str | None
    signed: datetime | None
    key: str

    def check_files(self, manifest: Manifest) -> None:
        """Compare with what is there: no file more, none less, each with the signed content.

        Raises:
            ArtifactRefused: They differ; the message names the first files that do.
        """
        there = {file.path: file.sha256 for file in manifest.files if file.path != SIGNATURE_NAME}
        for what, paths in (
            ("is not signed", there.keys() - self.files.keys()),
            ("is signed and missing", self.files.keys() - there.keys()),
            ("is not what was signed", {p for p in there.keys() & self.files if there[p] != self.files[p]}),
        ):
            if paths:
                named = ", ".join(map(shown, sorted(paths)[:_SHOWN_FILES]))
                raise ArtifactRefused(f"file {named} {what} ({len(paths)} in all); sign what is to be synced")


def sign(manifest: Manifest, model: str, private_key: ec.EllipticCurvePrivateKey, signed: datetime) -> str:
    """The signature of a model's files.

    Args:
        manifest: The files; a ``model.sig`` among them is left out.
        model: The model's name.
        private_key: Of :func:`load_private_key`.
        signed: Now, or the date of the release; a sync refuses a lower one than the last it accepted.

    Returns:
        The text of a ``model.sig``.
    """
    from cryptography.hazmat.primitives.asymmetric import ec as curves

    payload = json.dumps(_statement(manifest, model, signed), indent=2, sort_keys=True).encode()
    signature = private_key.sign(_envelope(payload), curves.ECDSA(_hash_of(private_key.curve)))
    bundle = {
        "mediaType": _BUNDLE,
        "verificationMaterial": {
            "publicKey": {"hint": fingerprint(private_key.public_key())},
            "tlogEntries": [],
        },
        "dsseEnvelope": {
            "payload": base64.b64encode(payload).decode(),
            "payloadType": _PAYLOAD,
            "signatures": [{"sig": base64.b64encode(signature).decode(), "keyid": ""}],
        },
    }
    return json.dumps(bundle, separators=(",", ":"))


def sign_folder(
    folder: Path, model: str, private_key: ec.EllipticCurvePrivateKey, signed: datetime | None = None
) -> Path:
    """Sign all files of a folder, as the last step of a training script, and leave ``model.sig`` in it.

    Args:
        folder: The model's files, and no others.
        model: Its name; the signature is of no other model.
        private_key: As :func:`load_private_key` reads it.
        signed: When; now by default. A sync refuses one that is older than the last it accepted.

    Returns:
        The signature's path.

    Raises:
        ArtifactRefused: A link or a device is among the files.
    """
    files = []
    for path in sorted(folder.rglob("*")):
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise ArtifactRefused(f"{path} is a link or a device; put the file itself there")
        if path.is_file():
            with path.open("rb") as content:
                sha256 = hashlib.file_digest(content, "sha256").hexdigest()
            files.append(ManifestFile(str(path.relative_to(folder)), path.stat().st_size, sha256))
    written = folder / SIGNATURE_NAME
    written.write_text(sign(Manifest.of(files), model, private_key, signed or datetime.now(UTC)))
    return written


def verify(text: str, public_keys: Sequence[ec.EllipticCurvePublicKey]) -> Signed:
    """Check a signature.

    Args:
        text: The bundle's JSON.
        public_keys: The keys that are trusted; of :func:`load_public_key`.

    Raises:
        ArtifactRefused: None of the keys made it, or it is no signature of files by their SHA-256.
    """
    try:
        envelope = _mapping(json.loads(text)["dsseEnvelope"])
        (entry,) = cast("list[object]", envelope["signatures"])
        payload = base64.b64decode(str(envelope["payload"]), validate=True)
        signature = base64.b64decode(str(_mapping(entry)["sig"]), validate=True)
        payload_type = envelope["payloadType"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ArtifactRefused(f"the signature is damaged ({error!r}); sign the model again") from error
    if payload_type != _PAYLOAD:
        raise ArtifactRefused(f"the signature is of {shown(str(payload_type))}, and of no model")
    key = _key_of(payload, signature, public_keys)
    # Only what was signed is read from here on, and it is the signer's own.
    try:
        return _signed(json.loads(payload), key)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ArtifactRefused(
            f"the signature's statement cannot be read ({error!r}); sign with OpenSSF model-signing 1, "
            "serialized by files with sha256, or with `python -m hybrid_provider.artifacts sign`"
        ) from error


def _key_of(payload: bytes, signature: bytes, public_keys: Sequence[ec.EllipticCurvePublicKey]) -> str:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric import ec as curves

    for public_key in public_keys:
        try:
            public_key.verify(signature, _envelope(payload), curves.ECDSA(_hash_of(public_key.curve)))
        except InvalidSignature:
            continue
        return fingerprint(public_key)
    raise ArtifactRefused(
        "the signature was made by none of the trusted keys, or changed since; give its public key in "
        "public_keys, or sign the model again"
    )


def _signed(statement: dict[str, object], key: str) -> Signed:
    predicate = _mapping(statement["predicate"])
    serialization = _mapping(predicate["serialization"])
    if statement["_type"] != _STATEMENT or statement["predicateType"] != _PREDICATE:
        raise ValueError(f"it is a {statement['predicateType']}")
    if (serialization["method"], serialization["hash_type"]) != ("files", "sha256"):
        raise ValueError(f"it is serialized by {serialization['method']} with {serialization['hash_type']}")
    resources = [_mapping(resource) for resource in cast("list[object]", predicate["resources"])]
    if any(resource["algorithm"] != "sha256" for resource in resources):
        raise ValueError("a file has no SHA-256")
    files = {str(resource["name"]): str(resource["digest"]) for resource in resources}
    if len(files) != len(resources):
        raise ValueError("a file is there twice")
    ours = _mapping(predicate.get(_OURS, {}))
    return Signed(
        files=files,
        model=str(ours["model"]) if ours else None,
        signed=datetime.fromisoformat(str(ours["signed"])).astimezone(UTC) if ours else None,
        key=key,
    )


def _statement(manifest: Manifest, model: str, signed: datetime) -> dict[str, object]:
    files = sorted(
        (file for file in manifest.files if file.path != SIGNATURE_NAME),
        key=lambda file: PurePosixPath(file.path),
    )
    root = hashlib.sha256(b"".join(bytes.fromhex(file.sha256) for file in files)).hexdigest()
    return {
        "_type": _STATEMENT,
        "subject": [{"name": model, "digest": {"sha256": root}}],
        "predicateType": _PREDICATE,
        "predicate": {
            "serialization": {
                "method": "files",
                "hash_type": "sha256",
                "allow_symlinks": False,
                "ignore_paths": [SIGNATURE_NAME],
            },
            "resources": [
                {"name": file.path, "algorithm": "sha256", "digest": file.sha256} for file in files
            ],
            _OURS: {"model": model, "signed": signed.astimezone(UTC).isoformat(timespec="seconds")},
        },
    }


def _envelope(payload: bytes) -> bytes:
    """What DSSE has signed: the payload with its type and both lengths before it."""
    return b"DSSEv1 %d %s %d %s" % (len(_PAYLOAD), _PAYLOAD.encode(), len(payload), payload)


def _mapping(value: object) -> dict[str, object]:
    if not isinstance(value, dict):
        raise TypeError(f"{value!r} is no object")
    return value


def fingerprint(public_key: ec.EllipticCurvePublicKey) -> str:
    """SHA-256 of a public key's PEM text, as signatures hint at their key."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    pem = public_key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(pem).hexdigest()


def load_public_key(path: Path) -> ec.EllipticCurvePublicKey:
    """A trusted key.

    Raises:
        ConfigurationError: The file is not there, or holds no public key on P-256, P-384 or P-521.
    """
    from cryptography.hazmat.primitives.asymmetric import ec as curves
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        key = load_pem_public_key(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"public key {path}: {error}; give a PEM file, BEGIN PUBLIC KEY") from error
    if not isinstance(key, curves.EllipticCurvePublicKey) or key.curve.name not in _CURVES:
        raise ConfigurationError(f"public key {path} is not on one of the curves {', '.join(_CURVES)}")
    return key


def load_private_key(path: Path, password: str | None = None) -> ec.EllipticCurvePrivateKey:
    """The key to sign with.

    Raises:
        ConfigurationError: As of :func:`load_public_key`, or the password is wrong or missing.
    """
    from cryptography.hazmat.primitives.asymmetric import ec as curves
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(path.read_bytes(), password.encode() if password else None)
    except (OSError, ValueError, TypeError) as error:
        raise ConfigurationError(
            f"private key {path}: {error}; give a PEM file, and its password where it has one"
        ) from error
    if not isinstance(key, curves.EllipticCurvePrivateKey) or key.curve.name not in _CURVES:
        raise ConfigurationError(f"private key {path} is not on one of the curves {', '.join(_CURVES)}")
    return key


def _hash_of(curve: ec.EllipticCurve) -> hashes.HashAlgorithm:
    from cryptography.hazmat.primitives import hashes as algorithms

    by_size = {256: algorithms.SHA256(), 384: algorithms.SHA384(), 521: algorithms.SHA512()}
    return by_size[curve.key_size]
