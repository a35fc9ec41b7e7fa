"""What Linux says of this machine's processor."""

from __future__ import annotations

from functools import cache
from pathlib import Path


@cache
def cpu_info() -> str:
    """The text of /proc/cpuinfo, with the maker and the flags of each core; "" where there is none."""
    file = Path("/proc/cpuinfo")
    return file.read_text(encoding="utf-8", errors="replace") if file.is_file() else ""
