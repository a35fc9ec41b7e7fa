"""How many threads torch computes with, for a while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def torch_threads(count: int | None = None) -> Iterator[None]:
    """Compute with `count` threads, if given, and afterwards with as many as before.

    The number belongs to the calling thread.  Threads that torch meets meanwhile take it over, for theirs is the one
    that was set last anywhere; those it meets afterwards do not.
    """
    before = torch.get_num_threads()
    try:
        if count is not None:
            torch.set_num_threads(count)
        yield
    finally:
        torch.set_num_threads(before)
