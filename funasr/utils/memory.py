"""Memory that is counted as this process's, but free, or to be had again from a file."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

KEPT_BYTES = 64 << 20
LARGEST_KEPT = 32 << 20
"""What glibc comes to by itself as soon as an array of 32 MiB has been freed; it allows no more for one array."""

_DONTNEED = 4  # of madvise(2)
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


class FilePages:
    """The memory in which this process has a file mapped and has changed nothing, where Linux tells.

    Such pages can be given back: whoever reads them again has them from the file.
    """

    def __init__(self, path: str | Path) -> None:
        self._ranges = _unchanged(Path(path).resolve())

    def hold(self, start: int, size: int) -> bool:
        """Whether the memory of `size` bytes from this address is a part of the file."""
        return any(range_.start <= start and start + size <= range_.stop for range_ in self._ranges)

    def give_back(self, start: int, size: int) -> None:
        """Return the whole pages within these bytes, if they are a part of the file."""
        page = os.sysconf("SC_PAGE_SIZE")
        begin, end = -(-start // page) * page, (start + size) // page * page
        if self.hold(start, size) and end > begin:
            madvise = ctypes.CDLL(None, use_errno=True).madvise
            madvise(ctypes.c_void_p(begin), ctypes.c_size_t(end - begin), _DONTNEED)  # advice: nothing lost if refused

    def give_back_all(self) -> None:
        """Return all of them."""
        for range_ in self._ranges:
            self.give_back(range_.start, len(range_))


def _unchanged(path: Path) -> list[range]:
    """Addresses of the mappings of a file in which no page has become a copy of this process's own."""
    table = Path("/proc/self/smaps")
    found: list[range] = []
    current: range | None = None
    for line in table.read_text(errors="replace").splitlines() if table.is_file() else ():
        name, *fields = line.split(maxsplit=5)
        if not name.endswith(":"):  # 7f00-7f10 rw-p 00000000 fe:00 5694641 /path/of/the file
            start, end = (int(address, 16) for address in name.split("-"))
            current = range(start, end) if len(fields) == 5 and fields[4] == str(path) else None
        elif name == "Anonymous:" and current is not None and fields[0] == "0":
            found.append(current)
    return found


@cache
def _malloc_trim() -> Callable[[int], int] | None:
    if not sys.platform.startswith("linux"):
        return None
    found: Callable[[int], int] | None = getattr(ctypes.CDLL(None), "malloc_trim", None)  # None: another C library
    return found
