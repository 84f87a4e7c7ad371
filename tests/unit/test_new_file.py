"""A file that is being written, past the page cache where it is large and the file system can."""

from __future__ import annotations

import errno
import hashlib
import os
import random
from fcntl import F_GETFL, fcntl

import pytest

from hybrid_provider.artifacts import new_file
from hybrid_provider.artifacts.new_file import Blocks, NewFile

BLOCK = 1 << 20
SIZES = [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 4097]
CONTENT = random.Random(20261124).randbytes(max(SIZES))


def chunks(content: bytes, most: int = 300_000):
    rest = memoryview(content)
    while rest:
        yield rest[:most]
        rest = rest[most:]


@pytest.fixture
def refused(monkeypatch, request):
    """The file system refuses at this call what would go past the cache."""
    real = getattr(os, request.param)

    def refuse(first, *rest):
        flags = rest[0] if request.param == "open" else fcntl(first, F_GETFL)
        if flags & os.O_DIRECT:
            raise OSError(errno.EINVAL, "Invalid argument")
        return real(first, *rest)

    monkeypatch.setattr(new_file.os, request.param, refuse)


def append(tmp_path, size):
    content = CONTENT[:size]
    file = NewFile(tmp_path, "weights.bin", Blocks())
    file.append(chunks(content))
    file.close()
    assert (tmp_path / "weights.bin").read_bytes() == content
    assert (file.size_bytes, file.sha256.digest()) == (size, hashlib.sha256(content).digest())


@pytest.mark.parametrize("size", SIZES)
def test_what_is_appended_is_written_and_hashed(tmp_path, size):
    append(tmp_path, size)


@pytest.mark.parametrize("refused", ["open", "pwrite"], indirect=True)
@pytest.mark.usefixtures("refused")
def test_a_file_system_that_cannot_pass_its_cache_is_written_through_it(tmp_path):
    append(tmp_path, SIZES[-1])


@pytest.mark.parametrize("part", [1000, 65536, BLOCK, BLOCK + 4096, 2 * BLOCK + 1])
def test_parts_may_come_in_any_order(tmp_path, part):
    file = NewFile(tmp_path, "weights.bin", Blocks())
    starts = range(0, len(CONTENT), part)
    for start in random.Random(part).sample(starts, len(starts)):
        file.put(start, chunks(CONTENT[start : start + part]))
    file.close()
    assert (tmp_path / "weights.bin").read_bytes() == CONTENT


def test_a_large_file_goes_past_the_cache_and_its_end_through_it(tmp_path, monkeypatch):
    try:
        os.close(os.open(tmp_path / "probe", os.O_WRONLY | os.O_CREAT | os.O_DIRECT))
    except OSError:
        pytest.skip("this file system knows no way past its cache")
    past, pwrite = [], os.pwrite

    def watched(descriptor, block, offset):
        past.append(bool(fcntl(descriptor, F_GETFL) & os.O_DIRECT))
        return pwrite(descriptor, block, offset)

    monkeypatch.setattr(new_file.os, "pwrite", watched)
    append(tmp_path, SIZES[-1])
    assert past == [True, True, True, False]


def test_other_errors_of_the_disk_are_not_hidden(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    file = NewFile(tmp_path, "weights.bin", Blocks())
    monkeypatch.setattr(new_file.os, "pwrite", full)
    with pytest.raises(OSError, match="No space left"):
        file.append(chunks(CONTENT))
    file.close()
