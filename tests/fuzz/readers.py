"""Fuzzes what reads bytes from outside: ``python -m tests.fuzz.readers TARGET [libFuzzer's options]``.

An input must be read, or refused by an error of our own; anything else is a finding, whose input libFuzzer keeps.
"""

from __future__ import annotations

import contextlib
import io
import sys
import tarfile
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["hybrid_provider.artifacts"]):
    from hybrid_provider.artifacts.archive import Limits
    from hybrid_provider.artifacts.file_names import checked_path
    from hybrid_provider.artifacts.formats import Format, format_of
    from hybrid_provider.artifacts.inflate import GZIP, ZSTD, Compression, inflate
    from hybrid_provider.artifacts.manifest import Manifest, ManifestFile
    from hybrid_provider.artifacts.signature import verify
    from hybrid_provider.artifacts.tar import read_tar
    from hybrid_provider.exceptions import ArtifactRefused

BLOCK = 512
CHECKSUM = slice(148, 156)
EMPTY = "0" * 64


def read_archive(content: bytes) -> None:
    """A tar archive, whose headers get a right checksum so that what they say is read as well."""
    blocks = bytearray(content[1:])
    if content[:1] > b"\x40":
        for start in range(0, len(blocks) - BLOCK + 1, BLOCK):
            header = blocks[start : start + BLOCK]
            if header[257:262] == b"ustar":
                header[CHECKSUM] = b" " * 8
                header[CHECKSUM] = b"%06o\0 " % sum(header)
                blocks[start : start + BLOCK] = header
    size = max(content[0] if content else 1, 1)
    chunks = (memoryview(blocks)[start : start + size] for start in range(0, len(blocks), size))
    read = []
    for member in read_tar(chunks, Limits(files=100).files):
        length = sum(map(len, member.chunks))
        if length != member.size_bytes:
            raise AssertionError(f"{member.name} has {length} bytes, not {member.size_bytes}")
        read.append(ManifestFile(checked_path(member.name), length, EMPTY))
    manifest = Manifest.of(read)
    for file in manifest.files:
        place = Path("/staging", file.path)
        if not place.resolve().is_relative_to("/staging"):
            raise AssertionError(f"{file.path} leaves the folder")


def read_compressed(content: bytes, compression: Compression) -> None:
    """A compressed stream, in pieces of any size."""
    size = max(content[0] if content else 1, 1)
    body = content[1:]
    chunks = (memoryview(body)[start : start + size] for start in range(0, len(body), size))
    inflated = 0
    for piece in inflate(chunks, compression):
        inflated += len(piece)
        if inflated > 1 << 20:
            return


def read_manifest(content: bytes) -> None:
    """A manifest's text."""
    text = content.decode(errors="replace")
    if Manifest.parse(text).text() != text:
        raise AssertionError("two texts are one manifest")


def read_format(content: bytes) -> None:
    """A file of a release."""
    with tempfile.NamedTemporaryFile(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as file:
        file.write(content)
        file.flush()
        if format_of(Path(file.name)) not in set(Format):
            raise AssertionError


def read_signature(content: bytes) -> None:
    """A signature that no key is trusted for is refused, whatever it is."""
    verify(content.decode(errors="replace"), [])
    raise AssertionError("a signature by nobody was accepted")


TARGETS = {
    "archive": read_archive,
    "gzip": lambda content: read_compressed(content, GZIP),
    "zstd": lambda content: read_compressed(content, ZSTD),
    "manifest": read_manifest,
    "format": read_format,
    "signature": read_signature,
}


def seeds() -> dict[str, list[bytes]]:
    """Small honest inputs to begin with."""
    import gzip
    import pickle
    import zipfile

    from backports import zstd

    archives = []
    for form in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w", format=form) as tar:
            for name in ("a", "b/" * 60 + "ä"):
                member = tarfile.TarInfo(name)
                member.size = 3
                tar.addfile(member, io.BytesIO(b"abc"))
        archives.append(b"\xff" + buffer.getvalue())
    zipped = io.BytesIO()
    with zipfile.ZipFile(zipped, "w") as archive:
        archive.writestr("data.pkl", pickle.dumps({"a": 1}))
    files = [ManifestFile("a", 1, EMPTY), ManifestFile("b/ä", 2, EMPTY)]
    return {
        "archive": archives,
        "gzip": [b"\x40" + gzip.compress(b"abc" * 50) * 2],
        "zstd": [b"\x40" + zstd.compress(b"abc" * 50) * 2],
        "manifest": [Manifest.of(files).text().encode()],
        "format": [
            pickle.dumps([1, "a"]),
            zipped.getvalue(),
            gzip.compress(pickle.dumps(1)),
            b"\x93NUMPY\x01\0",
        ],
        "signature": [
            b'{"dsseEnvelope":{"payload":"e30=","payloadType":"application/vnd.in-toto+json","signatures":[{"sig":"AA=="}]}}'
        ],
    }


def main() -> None:
    """Run one target with a folder of seeds."""
    name = sys.argv.pop(1)
    target = TARGETS[name]

    def once(content: bytes) -> None:
        with contextlib.suppress(ArtifactRefused):
            target(content)

    with tempfile.TemporaryDirectory() as corpus:
        for number, seed in enumerate(seeds()[name]):
            Path(corpus, str(number)).write_bytes(seed)
        atheris.Setup([*sys.argv, corpus], once)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
