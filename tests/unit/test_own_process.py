"""A process that ends with its command keeps the memory that it will need again."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

LETS_GO_OF_PARTS = """
import gc, resource, sys
from hybrid_provider.artifacts import own_process

if "tuned" in sys.argv:
    own_process.tune()

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

for _ in range(3):  # glibc's own rule learns from what it sees
    parts = [bytes(12 << 20) for _ in range(6)]
    del parts
before = faults()
for _ in range(10):
    parts = [b"x" * (12 << 20) for _ in range(6)]
    del parts
print(faults() - before)
if "tuned" in sys.argv:
    assert gc.get_threshold()[0] > 100_000
    own_process.end()
    assert gc.get_freeze_count() > 1000
"""


def faults(*arguments: str) -> int:
    done = subprocess.run(
        [sys.executable, "-c", LETS_GO_OF_PARTS, *arguments],
        env={name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))},
        capture_output=True,
        text=True,
        check=True,
    )
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's allocator is what is tuned")
def test_parts_of_objects_get_the_memory_of_those_before_them():
    assert faults("tuned") < faults() / 10
