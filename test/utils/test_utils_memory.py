"""What is freed goes back to the system when we say so, and not in between."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from funasr.utils import memory
from funasr.utils.memory import give_back_memory

FAULTS = """
import resource
from funasr.utils.memory import keep_freed_memory

keep_freed_memory()
before = 0
for i in range(12):
    if i == 2:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    arrays = [bytearray(9 << 20) for _ in range(3)]
    for array in arrays:
        array[::4096] = bytes(len(array) // 4096)
    del array, arrays
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
PAGES = 10 * 3 * (9 << 20) // 4096  # of the last ten rounds


def faults(**environment: str) -> int:
    unset = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    command = [sys.executable, "-c", FAULTS]
    done = subprocess.run(command, capture_output=True, text=True, env={**unset, **environment}, check=True)
    return int(done.stdout)


def resident_mib() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("RssAnon")).split()[1]) / 1024


@pytest.mark.skipif(memory._malloc_trim() is None, reason="the C library is not glibc")
def test_holes_between_small_blocks_are_returned() -> None:
    give_back_memory()
    blocks = [bytearray(64 << 10) for _ in range(3200)]  # below the size from which each would be a mapping of its own
    full = resident_mib()
    blocks = blocks[::50]  # those that stay keep the heap from shrinking
    give_back_memory()
    assert full - resident_mib() > 100


@pytest.mark.skipif(memory._malloc_trim() is None, reason="the C library is not glibc")
def test_the_next_arrays_find_the_memory_of_the_last() -> None:
    assert faults() < PAGES / 20
    assert faults(MALLOC_TRIM_THRESHOLD_=str(1 << 20)) > PAGES / 2  # the environment has the last word


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_malloc_trim", lambda: None)
    give_back_memory()
    memory.keep_freed_memory()
