"""gzip and Zstandard as streams, checked to their last byte."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from hybrid_provider.exceptions import ArtifactRefused

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

# Measured: larger pieces fall out of the processor's cache, and after each smaller one the GIL is waited for.
# Weights take about a tenth more than their input.
_INPUT_BYTES = 320 << 10
_OUTPUT_BYTES = 384 << 10
# bgzip's, which are the smallest that anybody writes, hold 64 KiB; to begin one takes as long as some KiB.
_MANY_MEMBERS = 10_000
_MIN_BYTES_PER_MEMBER = 1 << 8


class _Member(Protocol):
    """What the standard library's decompressors, isal's and zstd's have in common."""

    @property
    def eof(self) -> bool: ...

    @property
    def needs_input(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes | memoryview, max_length: int = -1) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Compression:
    """A form of compression.

    Attributes:
        name: For messages.
        begins: Whether these bytes, ``magic_bytes`` of them, begin a member.
        magic_bytes: How many show it.
        begin: Makes the decompressor of one member, and the error that it raises.
    """

    name: str
    begins: Callable[[bytes], bool]
    magic_bytes: int
    begin: Callable[[], tuple[_Member, type[Exception]]]


def _begin_gzip() -> tuple[_Member, type[Exception]]:
    from isal import igzip_lib

    # isal's stub declares the error's class as an instance
    return igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP), igzip_lib.IsalError  # type: ignore[return-value]


def _begin_zstd() -> tuple[_Member, type[Exception]]:
    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        from backports import zstd

    # Its default refuses a window of more than 128 MiB, and so bounds the memory.
    return zstd.ZstdDecompressor(), zstd.ZstdError


GZIP = Compression("gzip", lambda magic: magic == b"\x1f\x8b", 2, _begin_gzip)
ZSTD = Compression(
    "Zstandard",
    # A frame, or one to be skipped, as pzstd writes them.
    lambda magic: magic == b"\x28\xb5\x2f\xfd" or (magic[0] & 0xF0 == 0x50 and magic[1:] == b"\x2a\x4d\x18"),  # noqa: PLR2004 - RFC 8878
    4,
    _begin_zstd,
)


def inflate(chunks: Iterable[memoryview], compression: Compression) -> Iterator[memoryview]:
    """Decompress one or more members (``pigz``, ``bgzip`` and ``pzstd`` write several) in bounded memory.

    Raises:
        ArtifactRefused: It is not of that form, is cut off or damaged, or something else follows it.
    """
    member: _Member | None = None
    fault: type[Exception] = Exception
    begun = 0
    inflated_bytes = 0
    carried = b""
    for piece in _pieces(chunks):
        left: bytes | memoryview = carried + bytes(piece) if carried else piece
        carried = b""
        while len(left):
            if member is None:
                if len(left) < compression.magic_bytes:
                    carried = bytes(left)
                    break
                _require_magic(compression, bytes(left[: compression.magic_bytes]), begun=bool(begun))
                if begun > _MANY_MEMBERS and inflated_bytes < begun * _MIN_BYTES_PER_MEMBER:
                    raise ArtifactRefused(
                        f"the {compression.name} archive is made of {begun} and more pieces of next to "
                        "nothing; pack it again"
                    )
                (member, fault), begun = compression.begin(), begun + 1
            for inflated in _inflated(member, left, fault, compression):
                inflated_bytes += len(inflated)
                yield inflated
            left = b""
            if member.eof:
                left, member = member.unused_data, None
    if member is not None or carried or not begun:
        raise ArtifactRefused(f"the {compression.name} archive is cut off; upload it again")


def _pieces(chunks: Iterable[memoryview]) -> Iterator[memoryview]:
    for chunk in chunks:
        for start in range(0, len(chunk), _INPUT_BYTES):
            yield chunk[start : start + _INPUT_BYTES]


def _require_magic(compression: Compression, magic: bytes, *, begun: bool) -> None:
    if compression.begins(magic):
        return
    name = compression.name
    raise ArtifactRefused(
        f"something that is not {name} follows the {name} archive; pack it again"
        if begun
        else f"it is named as a {name} archive and is none; name it as what it is, or compress it"
    )


def _inflated(
    member: _Member, piece: bytes | memoryview, fault: type[Exception], compression: Compression
) -> Iterator[memoryview]:
    try:
        while True:
            inflated = member.decompress(piece, _OUTPUT_BYTES)
            if inflated:
                yield memoryview(inflated)
            if member.eof or member.needs_input:
                return
            piece = b""
    except fault as error:
        raise ArtifactRefused(
            f"the {compression.name} archive is damaged ({error}); upload it again"
        ) from error
