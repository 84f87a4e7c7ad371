"""What a channel sends in bulk, made into SSH's packets at a third of the processor time that asyncssh takes.

asyncssh copies each packet ten times on its way and gives it to the kernel by itself. Measured with eight
hosts at once: that kept one processor busy from the first byte to the last, and the hosts waited for it. Here
many packets are encrypted into one buffer, which is sent by one call. The bytes on the wire are the same.

This reaches into asyncssh. Where something there is not as it is known, and for all that is rare (a cipher
other than AES-GCM, compression, the change of keys), asyncssh sends as it always does.
"""

from __future__ import annotations

import os
import struct
import time
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import asyncssh
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

# Measured: larger batches fall out of the processor's cache.
_BATCH_BYTES: Final = 2**18
# RFC 4254: the type of data on a channel. RFC 4253: what a packet begins with, and its least padding.
_CHANNEL_DATA: Final = 94
_HEAD: Final = struct.Struct(">BBII")
_LENGTH: Final = struct.Struct(">I")
_LEAST_PADDING: Final = 4
_MOST_PADDING: Final = 19
# RFC 5647: a nonce is four bytes that stay and a counter of the packets; the tag follows what it vouches for.
_COUNTER: Final = struct.Struct(">Q")
_BLOCK_BYTES: Final = 16
_TAG_BYTES: Final = 16
_AROUND_BYTES: Final = _LENGTH.size + _TAG_BYTES
_FIXED_BYTES: Final = 4
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
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    if not hasattr(AESGCM, "encrypt_into"):
        return False
    if not all(hasattr(channel, name) for name in _OF_A_CHANNEL):
        return False
    if not all(hasattr(channel._conn, name) for name in _OF_A_CONNECTION):
        return False
    channel._flush_send_buf = _Bulk(channel).flush  # type: ignore[method-assign]
    return True


class _Bulk:
    """Sends the data of one channel; for the rest, asyncssh's own method is called after it."""

    def __init__(self, channel: Any) -> None:  # noqa: ANN401 - what is used of it has no types
        self._channel = channel
        self._connection = channel._conn
        self._flush_the_rest = channel._flush_send_buf
        self._packets = _Packets(channel._send_chan, min(channel._send_pktsize, _BATCH_BYTES))

    def flush(self) -> None:
        """Send what was written, as far as the host's window lets it through."""
        while self._may_send() and self._send_batch():
            pass
        self._flush_the_rest()

    def _may_send(self) -> bool:
        """Whether the next packets may go as they are: encrypted with AES-GCM, and under the present keys."""
        from asyncssh.encryption import GCMEncryption

        connection = self._connection
        return (
            type(connection._send_encryption) is GCMEncryption
            and connection._compressor is None
            and connection._auth_complete
            and connection._kex_complete
            and connection._rekey_bytes_sent + _BATCH_BYTES < connection._rekey_bytes
            and (not connection._rekey_seconds or time.monotonic() < connection._rekey_time)
            and connection._transport is not None
        )

    def _send_batch(self) -> bool:
        """Whether there was something to send, now sent."""
        channel = self._channel
        if not channel._send_buf:
            return False
        written, kind = channel._send_buf[0]
        size_bytes = min(len(written), channel._send_window, _BATCH_BYTES)
        if kind is not None or not size_bytes:
            return False
        # Both released here: the error of a lost connection keeps what was passed on alive.
        with memoryview(written) as whole, whole[:size_bytes] as data:
            self._send(data)
        del written[:size_bytes]
        if not written:
            del channel._send_buf[0]
        channel._send_buf_len -= size_bytes
        channel._send_window -= size_bytes
        return True

    def _send(self, data: memoryview) -> None:
        """Send packets; the connection's counters are then as after each of them."""
        connection, cipher = self._connection, self._connection._send_encryption._cipher
        # Whatever fails before the next nonce is noted, nothing was sent: no nonce is seen twice.
        sealed, count, nonce = self._packets.sealed(cipher._key, cipher._iv, data)
        cipher._iv = nonce
        connection._send_seq = (connection._send_seq + count) % 2**32
        connection._rekey_bytes_sent += len(sealed) - count * _AROUND_BYTES
        connection._send(sealed)
        still_to_send = getattr(connection._transport, "get_write_buffer_size", lambda: len(sealed))
        if still_to_send():
            self._packets.leave_room()


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
        self.leave_room()

    def leave_room(self) -> None:
        """Take other memory from now on: what was made is still to be sent."""
        most = -(-_BATCH_BYTES // self._most_bytes)
        self._room = memoryview(bytearray(most * (len(self._plain) + _AROUND_BYTES)))

    def sealed(self, key: bytes, nonce: bytes, data: memoryview) -> tuple[memoryview, int, bytes]:
        """The packets of at most a batch: their bytes until the next call, how many, and the next nonce."""
        if key != self._key:
            self._aead, self._key = _aead(key), key
        fixed, counter = nonce[:_FIXED_BYTES], int.from_bytes(nonce[_FIXED_BYTES:], "big")
        random = os.urandom(_MOST_PADDING)
        at = count = 0
        for start in range(0, len(data), self._most_bytes):
            plain = self._filled(data[start : start + self._most_bytes], random)
            length = _LENGTH.pack(len(plain))
            begin = at + len(length)
            self._room[at:begin] = length
            at = begin + len(plain) + _TAG_BYTES
            self._aead.encrypt_into(fixed + _COUNTER.pack(counter), plain, length, self._room[begin:at])
            counter, count = (counter + 1) % 2**64, count + 1
        return self._room[:at], count, fixed + _COUNTER.pack(counter)

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
