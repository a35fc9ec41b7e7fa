"""Memory that libraries keep for a process."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from funasr.auto.device import PREPARED_OPERATIONS, limit_prepared_operations

GROWTH = """
import torch
from funasr.auto.device import limit_prepared_operations
from funasr.layers.linear import product

def resident_mib():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) / 256

limit_prepared_operations()
weights = [torch.ones(64, 64, dtype=dtype) for dtype in (torch.float32, torch.bfloat16)]
sizes = []
with torch.inference_mode():
    for rows in range(64, 764):
        for weight in weights:
            product(torch.ones(rows, 64, dtype=weight.dtype), weight)
        sizes.append(resident_mib())
print(sizes[-1] - sizes[199])
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_memory_does_not_grow_with_every_new_shape() -> None:
    """Without the limit these 1000 further operations hold some 200 MiB."""
    unset = {name: value for name, value in os.environ.items() if not name.endswith("CACHE_CAPACITY")}
    done = subprocess.run([sys.executable, "-c", GROWTH], capture_output=True, text=True, env=unset, check=True)
    assert float(done.stdout) < 40


def test_the_environment_has_the_last_word(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LRU_CACHE_CAPACITY", "7")
    monkeypatch.setenv("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "")  # so that it is put back in the end
    monkeypatch.delenv("ONEDNN_PRIMITIVE_CACHE_CAPACITY")
    limit_prepared_operations()
    assert os.environ["LRU_CACHE_CAPACITY"] == "7"
    assert os.environ["ONEDNN_PRIMITIVE_CACHE_CAPACITY"] == str(PREPARED_OPERATIONS)
