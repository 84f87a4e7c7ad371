"""What a channel sends in bulk, made into SSH's packets many at a time.

asyncssh copies each packet about ten times on its way and gives it to the kernel by itself. Measured with
eight hosts at once: that kept one processor busy from the first byte to the last, and the hosts waited for
it. Here many packets are encrypted into one buffer, which is sent by one call. On the wire they are what they
were.

This reaches into asyncssh. Where something there is not as it is known, and for all that is rare (a cipher
other than AES-GCM, compression, the change of keys), asyncssh sends as it always does.
"""

from __future__ import annotations

import logging
import os
import struct
import time
from functools import cache
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import asyncssh
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_log = logging.getLogger(__name__)

# Measured: half of it takes longer, double as long.
_BATCH_BYTES: Final = 2**19
# RFC 4254: the type of data on a channel. RFC 4253: what a packet begins with, and its least padding.
_CHANNEL_DATA: Final = 94
_HEAD: Final = struct.Struct(">BBII")
_LENGTH: Final = struct.Struct(">I")
_LEAST_PADDING: Final = 4
_MOST_PADDING: Final = 19
# RFC 5647: a nonce is four bytes that stay and a counter of the packets; the tag follows what it vouches for.
_COUNTER: Final = struct.Struct(">Q")
_FIXED_BYTES: Final = 4
_BLOCK_BYTES: Final = 16
_TAG_BYTES: Final = 16
_AROUND_BYTES: Final = _LENGTH.size + _TAG_BYTES
_MOST_AROUND_BYTES: Final = _HEAD.size + _MOST_PADDING + _AROUND_BYTES
# Smaller ones are of no host's choice; each costs as much as a large one.
_LEAST_PACKET_BYTES: Final = 2**10
_OF_A_CHANNEL: Final = (
    "_conn",
    "_flush_send_buf",
    "_send_buf",
    "_send_buf_len",
    "_send_chan",
    "_send_pktsize",
    "_send_window",
)
_OF_A_CONNECTION: Final = (
    "_auth_complete",
    "_compressor",
    "_deferred_packets",
    "_kex_complete",
    "_rekey_bytes",
    "_rekey_bytes_sent",
    "_rekey_seconds",
    "_rekey_time",
    "_send",
    "_send_encryption",
    "_send_seq",
    "_transport",
)


def send_in_bulk(channel: asyncssh.SSHClientChannel[bytes]) -> bool:
    """Have a channel send in bulk from now on, and say whether this asyncssh is known well enough for it."""
    known = (
        all(hasattr(channel, name) for name in _OF_A_CHANNEL)
        and all(hasattr(channel._conn, name) for name in _OF_A_CONNECTION)
        and channel._send_pktsize >= _LEAST_PACKET_BYTES
        and _asyncssh_seals_alike()
    )
    if known:
        channel._flush_send_buf = _Bulk(channel).flush  # type: ignore[method-assign]
    else:
        _log.debug("this asyncssh or cryptography is not known: asyncssh makes its packets itself")
    return known


@cache
def _asyncssh_seals_alike() -> bool:
    """Try whether asyncssh keeps its key and nonces as is thought, and opens what was made here.

    A nonce that is used twice gives the key away. So that is tried, and not taken from a version's number.
    """
    try:
        from asyncssh.crypto.cipher import GCMCipher

        key, nonce, data = bytes(range(16)), bytes(range(12)), b"x" * 100
        ours, theirs = GCMCipher("aes128-gcm", key, nonce), GCMCipher("aes128-gcm", key, nonce)
        packets = _Packets(1, len(data))
        sealed, _, after = packets.sealed(ours._key, ours._iv, memoryview(data))
        length, body = bytes(sealed[: _LENGTH.size]), bytes(sealed[_LENGTH.size :])
        opened = ours.verify_and_decrypt(length, body[:-_TAG_BYTES], body[-_TAG_BYTES:])
        theirs.encrypt_and_sign(length, data)
    except (AttributeError, ImportError, TypeError, ValueError):
        return False
    return opened is not None and data in opened and after == ours._iv == theirs._iv != nonce


class _Bulk:
    """Sends the data of one channel; for the rest, asyncssh's own method is called after it."""

    def __init__(self, channel: Any) -> None:  # noqa: ANN401 - what is used of it has no types
        from asyncssh.encryption import GCMEncryption

        self._aes_gcm = GCMEncryption
        self._channel = channel
        self._connection = channel._conn
        self._flush_the_rest = channel._flush_send_buf
        self._packets: _Packets | None = None

    def flush(self) -> None:
        """Send what was written, as far as the host's window lets it through."""
        while self._channel._send_buf and self._may_send() and self._send_batch():
            pass
        self._flush_the_rest()

    def _may_send(self) -> bool:
        """Whether the next packets may go as they are: encrypted with AES-GCM, and under the present keys."""
        connection = self._connection
        return (
            type(connection._send_encryption) is self._aes_gcm
            and connection._compressor is None
            and connection._auth_complete
            and connection._kex_complete
            and not connection._deferred_packets
            and connection._rekey_bytes_sent + _BATCH_BYTES < connection._rekey_bytes
            and (not connection._rekey_seconds or time.monotonic() < connection._rekey_time)
            and connection._transport is not None
        )

    def _send_batch(self) -> bool:
        """Whether some of what was written first could be sent, and was."""
        channel = self._channel
        written, kind = channel._send_buf[0]
        size_bytes = min(len(written), channel._send_window, _BATCH_BYTES)
        if kind is not None or not size_bytes:
            return False
        # Both released here: the error of a lost connection keeps what was passed on alive.
        with memoryview(written) as whole, whole[:size_bytes] as data:
            sealed = self._sealed(data)
        del written[:size_bytes]
        if not written:
            del channel._send_buf[0]
        channel._send_buf_len -= size_bytes
        channel._send_window -= size_bytes
        self._send(sealed)
        return True

    def _sealed(self, data: memoryview) -> memoryview:
        """Packets, to be sent next; the connection's counters are as after each of them."""
        connection, cipher = self._connection, self._connection._send_encryption._cipher
        if self._packets is None:
            most = min(self._channel._send_pktsize, _BATCH_BYTES)
            self._packets = _Packets(self._channel._send_chan, most)
        # Whatever fails before the next nonce is noted, nothing is sent: no nonce is seen twice.
        sealed, count, nonce = self._packets.sealed(cipher._key, cipher._iv, data)
        cipher._iv = nonce
        connection._send_seq = (connection._send_seq + count) % 2**32
        connection._rekey_bytes_sent += len(sealed) - count * _AROUND_BYTES
        return sealed

    def _send(self, sealed: memoryview) -> None:
        connection = self._connection
        connection._send(sealed)
        still_to_send = getattr(connection._transport, "get_write_buffer_size", lambda: len(sealed))
        if self._packets is not None and not still_to_send():
            self._packets.reuse()


class _Packets:
    """Makes packets of one channel, in memory that is used over and over.

    Args:
        channel: The number that the host gave it.
        most_bytes: Of data in a packet, as the host allows.
    """

    def __init__(self, channel: int, most_bytes: int) -> None:
        self._channel = channel
        self._most_bytes = most_bytes
        self._plain = memoryview(bytearray(_HEAD.size + most_bytes + _MOST_PADDING))
        self._key = b""
        self._aead: AESGCM | None = None
        most_packets = -(-_BATCH_BYTES // most_bytes)
        self._room_bytes = _BATCH_BYTES + most_packets * _MOST_AROUND_BYTES
        self._room = memoryview(b"")
        self._used = 0

    def reuse(self) -> None:
        """Write over what was made: all of it was sent."""
        self._used = 0

    def sealed(self, key: bytes, nonce: bytes, data: memoryview) -> tuple[memoryview, int, bytes]:
        """The packets of at most a batch: their bytes until :meth:`reuse`, how many, and the next nonce."""
        if self._aead is None or key != self._key:
            self._aead, self._key = _aead(key), key
        self._find_room(len(data))
        fixed, counter = nonce[:_FIXED_BYTES], int.from_bytes(nonce[_FIXED_BYTES:], "big")
        random, begun, count = os.urandom(_MOST_PADDING), self._used, 0
        for start in range(0, len(data), self._most_bytes):
            plain = self._filled(data[start : start + self._most_bytes], random)
            length = _LENGTH.pack(len(plain))
            begin = self._used + len(length)
            self._room[self._used : begin] = length
            self._used = begin + len(plain) + _TAG_BYTES
            room = self._room[begin : self._used]
            self._aead.encrypt_into(fixed + _COUNTER.pack(counter), plain, length, room)
            counter, count = (counter + 1) % 2**64, count + 1
        return self._room[begun : self._used], count, fixed + _COUNTER.pack(counter)

    def _find_room(self, data_bytes: int) -> None:
        """Begin new memory where the old has too little left; what is in that is still to be sent."""
        packets = -(-data_bytes // self._most_bytes)
        if self._used + data_bytes + packets * _MOST_AROUND_BYTES > len(self._room):
            self._room, self._used = memoryview(bytearray(self._room_bytes)), 0

    def _filled(self, data: memoryview, random: bytes) -> memoryview:
        """One packet that is not yet encrypted."""
        end = _HEAD.size + len(data)
        padding = -end % _BLOCK_BYTES
        padding += _BLOCK_BYTES if padding < _LEAST_PADDING else 0
        _HEAD.pack_into(self._plain, 0, padding, _CHANNEL_DATA, self._channel, len(data))
        self._plain[_HEAD.size : end] = data
        self._plain[end : end + padding] = random[:padding]
        return self._plain[: end + padding]


def _aead(key: bytes) -> AESGCM:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    return AESGCM(key)
