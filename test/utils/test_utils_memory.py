"""What is freed goes back to the system."""

from __future__ import annotations

from pathlib import Path

import pytest

from funasr.utils import memory
from funasr.utils.memory import give_back_memory


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


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_malloc_trim", lambda: None)
    give_back_memory()
