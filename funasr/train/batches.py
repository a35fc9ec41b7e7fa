"""What the trainer expects of a source of batches, and reading one batch ahead."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple, Protocol

from torch import Tensor

Batch = dict[str, Tensor]


class IterFactory(Protocol):
    """Source of batches: the same epoch gives the same batches, `skip` leaves out the first ones."""

    def build_iter(self, epoch: int, skip: int = 0) -> Iterable[tuple[list[str], Batch]]: ...


class Item(NamedTuple):
    """One batch, whether it is the last of the epoch, and the seconds waited for the one read ahead."""

    ids: list[str]
    batch: Batch
    is_last: bool
    wait_s: float


def look_ahead(batches: Iterable[tuple[list[str], Batch]]) -> Iterator[Item]:
    """Read one batch ahead, so that the last one is known as such without the iterator having a length."""
    iterator = iter(batches)
    start = time.perf_counter()
    current = next(iterator, None)
    while current is not None:
        following = next(iterator, None)
        yield Item(current[0], current[1], following is None, time.perf_counter() - start)
        start = time.perf_counter()
        current = following


def known_length(batches: Any) -> int | None:
    """Number of batches, or None if the iterable does not know it."""
    try:
        return len(batches)
    except TypeError:
        return None
