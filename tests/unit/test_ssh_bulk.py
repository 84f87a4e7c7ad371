"""Packets that are made in bulk are those that asyncssh makes one by one."""

import random
from types import SimpleNamespace

import pytest
from asyncssh.crypto.cipher import GCMCipher
from asyncssh.encryption import GCMEncryption
from asyncssh.packet import SSHPacket
from hypothesis import given
from hypothesis import strategies as st

from hybrid_provider.targets.ssh_bulk import _asyncssh_seals_alike, _Packets, send_in_bulk

CHANNEL = 7
SEALED = 4 + 16  # the length before a packet, and the tag after it


def opened(sealed, cipher):
    """What a host that reads these bytes takes for the data of its channel."""
    sealed, data = bytes(sealed), []
    while sealed:
        size = int.from_bytes(sealed[:4], "big")
        plain = cipher.verify_and_decrypt(sealed[:4], sealed[4 : 4 + size], sealed[4 + size : SEALED + size])
        assert plain is not None, "the host would close the connection: corrupted MAC"
        assert size % 16 == 0, "not a whole number of the cipher's blocks"
        padding = plain[0]
        assert 4 <= padding < 4 + 16
        packet = SSHPacket(plain[1:-padding])
        assert (packet.get_byte(), packet.get_uint32()) == (94, CHANNEL)
        data.append(packet.get_string())
        packet.check_end()
        sealed = sealed[SEALED + size :]
    return data


@pytest.mark.parametrize("cipher", ["aes128-gcm", "aes256-gcm"])
@given(
    most=st.integers(1, 40_000),
    sizes=st.lists(st.integers(1, 100_000), min_size=1, max_size=3),
    counter=st.sampled_from([0, 1, 2**32 - 2, 2**64 - 3]),
)
def test_what_is_sealed_in_bulk_is_opened_one_by_one(cipher, most, sizes, counter):
    most = max(most, max(sizes) // 10)
    key, nonce = bytes(range(int(cipher[3:6]) // 8)), b"same" + counter.to_bytes(8, "big")
    host, packets = GCMCipher(cipher, key, nonce), _Packets(CHANNEL, most)
    for size in sizes:
        data = random.Random(size).randbytes(size)
        sealed, count, nonce = packets.sealed(key, nonce, memoryview(data))
        came = opened(sealed, host)
        assert (b"".join(came), len(came)) == (data, count)
        assert max(map(len, came)) <= most
        assert nonce == host._iv, "the next packet would be sealed with a nonce that was used"


class Clogged:
    """A transport that sends nothing yet, and keeps what it was given as it is."""

    def __init__(self):
        self.kept = []

    def get_write_buffer_size(self):
        return sum(map(len, self.kept))


def bulk_over(transport, key, nonce):
    """What sends for one channel of a connection that is as asyncssh's."""
    channel = SimpleNamespace(_send_buf=[], _send_buf_len=0, _send_chan=CHANNEL, _send_pktsize=32768)
    channel._send_window, channel._flush_send_buf = 2**21, lambda: None
    channel._conn = SimpleNamespace(
        _auth_complete=True, _compressor=None, _deferred_packets=[], _kex_complete=True, _rekey_bytes=2**30,
        _rekey_bytes_sent=0, _rekey_seconds=0, _rekey_time=0.0, _send_seq=2**32 - 1, _transport=transport,
        _send=transport.kept.append, _send_encryption=GCMEncryption(GCMCipher("aes128-gcm", key, nonce)),
    )  # fmt: skip
    assert send_in_bulk(channel)
    return channel


def test_what_is_still_to_be_sent_is_neither_written_over_nor_takes_more_memory_than_it_must():
    key, nonce, transport = bytes(16), bytes(12), Clogged()
    channel = bulk_over(transport, key, nonce)
    written = [random.Random(number).randbytes(512 + number % 700) for number in range(1000)]
    for piece in written:
        channel._send_buf.append((bytearray(piece), None))
        channel._send_buf_len += len(piece)
        channel._flush_send_buf()
    host = GCMCipher("aes128-gcm", key, nonce)
    assert [b"".join(opened(sealed, host)) for sealed in transport.kept] == written
    total = sum(map(len, written))
    assert (channel._send_buf, channel._send_buf_len, channel._send_window) == ([], 0, 2**21 - total)
    assert channel._conn._send_seq == len(written) - 1
    rooms = {id(sealed.obj): len(sealed.obj) for sealed in transport.kept}
    assert sum(rooms.values()) < 2 * total


def test_what_was_sent_is_written_over():
    transport = Clogged()
    channel = bulk_over(transport, bytes(16), bytes(12))
    rooms = set()
    for _ in range(100):
        channel._send_buf.append((bytearray(10_000), None))
        channel._send_buf_len += 10_000
        transport.kept.clear()
        channel._conn._send = lambda sealed: rooms.add(id(sealed.obj))
        channel._flush_send_buf()
    assert len(rooms) == 1


def test_after_a_change_of_keys_the_new_one_seals():
    nonce, packets = bytes(12), _Packets(CHANNEL, 100)
    for key in (bytes(16), bytes(15) + b"1", bytes(16)):
        sealed, _, _ = packets.sealed(key, nonce, memoryview(b"x" * 100))
        assert opened(sealed, GCMCipher("aes128-gcm", key, nonce)) == [b"x" * 100]


@pytest.mark.parametrize(
    "changed",
    [
        {"_iv": property(lambda self: bytes(12), lambda self, value: None)},
        {"_key": property(None, lambda self, value: None)},
        {"encrypt_and_sign": lambda self, header, data: (header + data, b"")},
        {"verify_and_decrypt": lambda self, header, data, mac: None},
    ],
    ids=["keeps its nonce elsewhere", "keeps no key", "counts otherwise", "opens otherwise"],
)
def test_an_asyncssh_that_seals_otherwise_sends_by_itself(changed, monkeypatch):
    for name, value in changed.items():
        monkeypatch.setattr(GCMCipher, name, value, raising=False)
    _asyncssh_seals_alike.cache_clear()
    try:
        assert not _asyncssh_seals_alike()
    finally:
        _asyncssh_seals_alike.cache_clear()


def test_an_asyncssh_that_is_built_otherwise_sends_by_itself():
    channel = SimpleNamespace(_conn=SimpleNamespace(), _flush_send_buf=None)
    assert not send_in_bulk(channel)
    assert channel._flush_send_buf is None
