"""What an object unpacks to: an archive's files, or itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from hybrid_provider.artifacts.behind import take_behind
from hybrid_provider.artifacts.file_names import shown
from hybrid_provider.artifacts.inflate import GZIP, ZSTD, inflate
from hybrid_provider.artifacts.tar import read_tar
from hybrid_provider.exceptions import ArtifactRefused

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from hybrid_provider.artifacts.folder import FolderWriter

_COMPRESSED = {".tar.gz": GZIP, ".tgz": GZIP, ".tar.zst": ZSTD, ".tzst": ZSTD}
_TAR = ".tar"
_NOT_READ = (".tar.bz2", ".tar.xz", ".tbz2", ".txz")
# Its own, one or two for a long name, and a folder's.
_HEADERS_PER_FILE = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What an archive may unpack to.

    Attributes:
        files: The largest model repositories have some thousands.
        unpacked_bytes: 1 TiB; larger than the largest open weights.
        ratio: Unpacked to packed. Weights reach 1.1 to 4, text 10, and deflate's own bound is 1032.
        ratio_from_bytes: A smaller result is harmless whatever its ratio.
    """

    files: int = 100_000
    unpacked_bytes: int = 1 << 40
    ratio: int = 200
    ratio_from_bytes: int = 1 << 30


def unpack(
    name: str,
    packed_bytes: int,
    chunks: Iterator[memoryview],
    writer: FolderWriter,
    limits: Limits,
    *,
    stop: Callable[[], None] | None = None,
) -> None:
    """Write what an object holds.

    Args:
        name: The object's name without its folder; its suffix says what it is.
        packed_bytes: The object's size.
        chunks: Its bytes, in order.
        writer: Takes the files.
        limits: What it may unpack to.
        stop: Ends the wait for the next chunk; called from another thread.

    Raises:
        ArtifactRefused: The archive is damaged, or must not be unpacked; the message names the member.
    """
    if name.lower().endswith(_NOT_READ):
        raise ArtifactRefused(f"{name}: archives of this form are not read; pack it as .tar.gz or .tar.zst")
    compression = next((form for suffix, form in _COMPRESSED.items() if name.lower().endswith(suffix)), None)
    if compression is not None:
        take_behind(
            inflate(chunks, compression),
            lambda inflated: _untar(inflated, packed_bytes, writer, limits),
            batch=6,
            batches=5,
            stop=stop,
        )
    elif name.lower().endswith(_TAR):
        _untar(chunks, packed_bytes, writer, limits)
    else:
        writer.write(name, chunks)


def _untar(chunks: Iterator[memoryview], packed_bytes: int, writer: FolderWriter, limits: Limits) -> None:
    unpacked_bytes = 0
    allowed_bytes = min(limits.unpacked_bytes, max(limits.ratio_from_bytes, packed_bytes * limits.ratio))
    for count, member in enumerate(read_tar(chunks, limits.files * _HEADERS_PER_FILE), start=1):
        unpacked_bytes += member.size_bytes
        if unpacked_bytes > allowed_bytes:
            raise ArtifactRefused(
                f"member {shown(member.name)}: with it {packed_bytes} bytes unpack to more than "
                f"{allowed_bytes}; raise the limit if that is right"
            )
        if count > limits.files:
            raise ArtifactRefused(
                f"the archive holds more than {limits.files} files; raise the limit if that is right"
            )
        writer.write(member.name, member.chunks)
