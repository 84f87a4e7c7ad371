"""Archives for tests, made by hand, and what they unpack to."""

from __future__ import annotations

import io
import os
import tarfile

from hybrid_provider.artifacts.archive import Limits, unpack
from hybrid_provider.artifacts.folder import FolderWriter

FILES = {"model.onnx": os.urandom(3000), "code/inference.py": b"print('hello')\n", "empty": b""}


def member(name: str, content: bytes = b"", **fields) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for field, value in fields.items():
        setattr(info, field, value)
    return info, content


def tar_of(*members: tuple[tarfile.TarInfo, bytes], form: int = tarfile.PAX_FORMAT, **arguments) -> bytes:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w", format=form, **arguments) as tar:
        for info, content in members:
            tar.addfile(info, io.BytesIO(content))
    return archive.getvalue()


def packed(files: dict[str, bytes], form: int = tarfile.PAX_FORMAT) -> bytes:
    return tar_of(*(member(name, content) for name, content in files.items()), form=form)


def chunked(content: bytes, size: int):
    return (memoryview(content)[start : start + size] for start in range(0, len(content), size))


def unpacked(
    folder, content: bytes, name: str = "model.tar.gz", chunk: int = 1 << 16, limits: Limits | None = None
):
    """Unpack into ``folder``; what the manifest says and what lies there, which must be one."""
    with FolderWriter(folder) as writer:
        unpack(name, len(content), chunked(content, chunk), writer, limits or Limits())
        manifest = writer.seal()
    found = {str(path.relative_to(folder)): path for path in folder.rglob("*") if not path.is_dir()}
    assert {file.path for file in manifest.files} == found.keys()
    return {name: path.read_bytes() for name, path in found.items()}


def pax(**records: str) -> bytes:
    """A pax header alone, for the member after it."""
    return tar_of(member("s", pax_headers=records))[:1024]
