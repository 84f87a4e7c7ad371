"""Packets that are made in bulk are those that asyncssh makes one by one."""

import random
from types import SimpleNamespace

import pytest
from asyncssh.crypto.cipher import GCMCipher
from asyncssh.packet import SSHPacket
from hypothesis import given
from hypothesis import strategies as st

from hybrid_provider.targets.ssh_bulk import _Packets, send_in_bulk

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


def test_what_is_still_to_be_sent_is_not_written_over():
    key, nonce, packets = bytes(16), bytes(12), _Packets(CHANNEL, 100)
    first, _, then = packets.sealed(key, nonce, memoryview(b"1" * 100))
    packets.leave_room()
    packets.sealed(key, then, memoryview(b"2" * 100))
    assert opened(first, GCMCipher("aes128-gcm", key, nonce)) == [b"1" * 100]


def test_after_a_change_of_keys_the_new_one_seals():
    nonce, packets = bytes(12), _Packets(CHANNEL, 100)
    for key in (bytes(16), bytes(15) + b"1", bytes(16)):
        sealed, _, _ = packets.sealed(key, nonce, memoryview(b"x" * 100))
        assert opened(sealed, GCMCipher("aes128-gcm", key, nonce)) == [b"x" * 100]


def test_an_asyncssh_that_is_built_otherwise_sends_by_itself():
    channel = SimpleNamespace(_conn=SimpleNamespace(), _flush_send_buf=None)
    assert not send_in_bulk(channel)
    assert channel._flush_send_buf is None
