"""What the C library's heap keeps and gives back, counted by the system: pages that it had to clear, bytes in use."""

import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="other systems' heaps have no such knobs")

# In a process of its own: the heap of this one is not as fresh.
COUNT = """
import os, resource, sys
from pathlib import Path
from kinescribe.pipelines import heap

def used():
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()

def cleared():
    begin = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(4):
        b"x" * (40 << 20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - begin

before = cleared()
heap.keep_freed()
cleared()
after, held = cleared(), used()
heap.give_back()
print(before, after, held - used())
"""


def counted(**own: str) -> tuple[int, int, int]:
    done = subprocess.run(
        [sys.executable, "-c", COUNT], capture_output=True, text=True, check=True, env={"PATH": "", **own}
    )
    before, after, given_back = map(int, done.stdout.split())
    return before, after, given_back


def test_freed_memory_is_used_again_and_given_back_when_asked() -> None:
    before, after, given_back = counted()
    if before < 100:
        pytest.skip("this C library keeps freed memory by itself")
    assert after < before / 10
    assert given_back > 30 << 20


def test_a_users_own_settings_stand() -> None:
    before, after, _ = counted(
        GLIBC_TUNABLES="glibc.malloc.trim_threshold=131072:glibc.malloc.mmap_threshold=131072"
    )
    assert after > before / 2
