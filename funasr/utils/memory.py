"""Memory that is free but still counted as this process's."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from functools import cache


def give_back_memory() -> None:
    """Return what was freed to the system, where the C library is glibc; elsewhere do nothing.

    glibc keeps the holes between small blocks that stay.  Work on arrays of ever other sizes leaves hundreds of MiB of
    them; returning them takes about a millisecond.
    """
    trim = _malloc_trim()
    if trim is not None:
        trim(0)


@cache
def _malloc_trim() -> Callable[[int], int] | None:
    if not sys.platform.startswith("linux"):
        return None
    found: Callable[[int], int] | None = getattr(ctypes.CDLL(None), "malloc_trim", None)  # None: another C library
    return found
