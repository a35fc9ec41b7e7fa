"""Memory that is free but still counted as this process's."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable
from functools import cache

KEPT_BYTES = 64 << 20
LARGEST_KEPT = 32 << 20
"""What glibc comes to by itself as soon as an array of 32 MiB has been freed; it allows no more for one array."""

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of mallopt(3)


def keep_freed_memory() -> None:
    """Let glibc keep some freed memory for the arrays to come, unless the environment sets its limits.

    Before it has learned their size, it returns each larger array to the system, which clears the pages anew for the
    next one: a tenth of the time of a small model.
    """
    own = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_")
    if any(name in os.environ for name in own) or "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", ""):
        return
    if _malloc_trim() is not None:
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_MMAP_THRESHOLD, LARGEST_KEPT)
        mallopt(_TRIM_THRESHOLD, KEPT_BYTES)


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
