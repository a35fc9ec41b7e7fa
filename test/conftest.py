"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
os.environ.setdefault("GOMP_SPINCOUNT", "100")  # idle threads sleep: the tests share two cores with what they start


@pytest.fixture(scope="session", autouse=True)
def two_threads() -> None:
    import torch

    torch.set_num_threads(2)


@pytest.fixture(scope="session")
def parity() -> Path:
    """Official-style model directories with outputs recorded from released FunASR 1.4.16."""
    return Path(__file__).parent / "parity"
