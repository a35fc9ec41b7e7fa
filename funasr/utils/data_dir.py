"""Kaldi-style data directories: read their tables, check them, put them in order.

A table is a text file of lines `ID value`; `wav.scp`, `text`, `utt2spk` are tables (data directory rules: one record
per line, UTF-8, ids unique, sorted in the C locale).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from funasr.utils.errors import DataError

# The separators of a table are space and tab; a no-break or ideographic space may belong to an id or a transcript.
_GAP = re.compile(r"[ \t]+")


def read_lines(path: str | Path) -> Iterator[tuple[int, str]]:
    """(line number from 1, line without its end) of a UTF-8 text file.

    Only a newline (or CR LF) ends a line, so a line may hold any other Unicode space.  A leading byte-order mark is
    dropped.  Raises DataError if the file is missing or a line is not UTF-8.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path} does not exist or is not a file")
    with path.open("rb") as stream:
        for number, raw in enumerate(stream, 1):
            try:
                line = raw.decode("utf-8")
            except UnicodeDecodeError as error:
                raise DataError(
                    f"{path}:{number}: not UTF-8 (byte {error.start + 1} of the line); convert the file, "
                    "e.g. `iconv -f gb18030 -t utf-8`"
                ) from None
            yield number, line.removeprefix("\ufeff" if number == 1 else "").rstrip("\r\n")


def split_record(line: str) -> tuple[str, str]:
    """(id, value) of one table line; the value is everything after the first gap, "" if there is nothing."""
    parts = _GAP.split(line.strip(" \t"), maxsplit=1)
    return parts[0], parts[1] if len(parts) > 1 else ""


def read_table(path: str | Path, value_optional: bool = False) -> dict[str, str]:
    """The records of a table file, id -> value, in file order; blank lines are skipped.

    `value_optional` allows an id alone (an empty transcript in `text`), whose value is "".  Raises DataError, naming
    file and line, for a duplicate id, an id without a value, a line that is not UTF-8 and a missing file.
    """
    table: dict[str, str] = {}
    lines: dict[str, int] = {}
    for number, line in read_lines(path):
        if not line.strip():
            continue
        key, value = split_record(line)
        if key in table:
            raise DataError(f"{path}:{number}: id '{key}' was given before, on line {lines[key]}; ids must be unique")
        if not value and not value_optional:
            raise DataError(f"{path}:{number}: id '{key}' has no value")
        table[key] = value
        lines[key] = number
    return table
