"""Fixtures shared by all tests."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
os.environ.setdefault("GOMP_SPINCOUNT", "100")  # idle threads sleep: the tests share two cores with what they start


@pytest.fixture(scope="session", autouse=True)
def two_threads() -> None:
    import torch

    torch.set_num_threads(2)


@pytest.fixture
def threads_as_before() -> Iterator[None]:
    """The test may change how many threads torch has."""
    import torch

    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def log_handlers_as_before() -> Iterator[None]:
    """Commands send the log to stderr and a file; the next test expects neither."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    for handler in root.handlers[:]:
        if handler not in handlers:
            root.removeHandler(handler)
            handler.close()
    root.setLevel(level)


@pytest.fixture(scope="session")
def parity() -> Path:
    """Official-style model directories with outputs recorded from released FunASR 1.4.16."""
    return Path(__file__).parent / "parity"
