"""Look-up tables over `ID value` and jsonl files that leave the text on disk.

A corpus of a million lines costs about 25 bytes a line: the file is memory-mapped and only line offsets and
64-bit hashes of the ids are held, in numpy arrays that worker processes share without copying.
"""

from __future__ import annotations

import hashlib
import json
import mmap
from array import array
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from funasr.utils.errors import DamagedUtteranceError, DataError

BOM = b"\xef\xbb\xbf"


def _hash(key: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "little")


class IndexedTable(Mapping[str, str]):
    """`ID rest of the line`, as a mapping id -> rest ("" if there is none), in the order of the file.

    Blank lines are passed over.  Raises DataError, naming file and lines, if the file is missing, not UTF-8, or has
    an id twice.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise DataError(f"{self.path} does not exist")
        offsets, hashes, lines = array("q"), array("Q"), array("l")
        with self.path.open("rb") as file:
            offset = 0
            for number, raw in enumerate(file, 1):
                line = raw.removeprefix(BOM) if number == 1 else raw
                start, offset = offset + len(raw) - len(line), offset + len(raw)
                if line.strip():
                    offsets.append(start)
                    lines.append(number)
                    hashes.append(_hash(self._key(line, number)))
        self._offsets = np.array(offsets, dtype=np.int64)
        self._lines = np.array(lines, dtype=np.int32)
        hash_array = np.array(hashes, dtype=np.uint64)
        self._order = np.argsort(hash_array, kind="stable")
        self._sorted_hashes = hash_array[self._order]
        self._order = self._order.astype(np.int32)
        self._map: mmap.mmap | bytes | None = None
        self._check_duplicates()

    def _key(self, line: bytes, number: int) -> bytes:
        """The id of one line."""
        return line.split(None, 1)[0]

    def _value(self, line: bytes) -> str:
        """What the table gives for one line."""
        parts = line.split(None, 1)
        return self._decode(parts[1].strip()) if len(parts) > 1 else ""

    def _decode(self, text: bytes) -> str:
        try:
            return text.decode("utf-8")
        except UnicodeDecodeError as error:
            raise DamagedUtteranceError(f"{self.path} is not UTF-8: {error}") from None

    def _check_duplicates(self) -> None:
        same = np.flatnonzero(self._sorted_hashes[1:] == self._sorted_hashes[:-1])
        for i in same:
            first, second = int(self._order[i]), int(self._order[i + 1])
            key = self._key_at(first)
            if key == self._key_at(second):
                raise DataError(
                    f"{self.path}: id '{key}' is on line {self._lines[first]} and again on line {self._lines[second]}"
                )

    def _line(self, row: int) -> bytes:
        if self._map is None:
            with self.path.open("rb") as file:
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        start = int(self._offsets[row])
        end = self._map.find(b"\n", start)
        return self._map[start : end if end >= 0 else len(self._map)]

    def _key_at(self, row: int) -> str:
        key = self._key(self._line(row), int(self._lines[row]))
        try:
            return key.decode("utf-8")
        except UnicodeDecodeError as error:
            raise DataError(f"{self.path}, line {self._lines[row]}: id is not UTF-8: {error}") from None

    def _row(self, uid: str) -> int | None:
        wanted = np.uint64(_hash(uid.encode("utf-8")))
        at = int(np.searchsorted(self._sorted_hashes, wanted))
        while at < len(self._order) and self._sorted_hashes[at] == wanted:
            row = int(self._order[at])
            if self._key_at(row) == uid:
                return row
            at += 1
        return None

    def __getitem__(self, uid: str) -> str:
        row = self._row(uid)
        if row is None:
            raise KeyError(uid)
        return self._value(self._line(row))

    def __contains__(self, uid: object) -> bool:
        return isinstance(uid, str) and self._row(uid) is not None

    def __iter__(self) -> Iterator[str]:
        return (self._key_at(row) for row in range(len(self)))

    def __len__(self) -> int:
        return len(self._offsets)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_map": None}  # a map belongs to its process; the next one opens its own


class JsonlTable(IndexedTable):
    """One field of a jsonl manifest, as a mapping `key` -> text.

    Args:
        path: one JSON object with a `key` on each line.
        fields: field names; the first one that an object has counts.

    An object without any of them raises DamagedUtteranceError when it is asked for.
    """

    def __init__(self, path: str | Path, fields: tuple[str, ...]) -> None:
        self.fields = fields
        super().__init__(path)

    def _object(self, line: bytes, number: int | None = None) -> dict[str, Any]:
        where = str(self.path) if number is None else f"{self.path}, line {number}"
        try:
            value = json.loads(line)
        except ValueError as error:
            raise DataError(f"{where} is not JSON: {error}") from None
        if not isinstance(value, dict) or "key" not in value:
            raise DataError(f"{where} must be a JSON object with a 'key'")
        return value

    def _key(self, line: bytes, number: int) -> bytes:
        return str(self._object(line, number)["key"]).encode("utf-8")

    def _value(self, line: bytes) -> str:
        value = self._object(line)
        for field in self.fields:
            if value.get(field) is not None:
                return str(value[field])
        raise DamagedUtteranceError(f"{self.path}: {value['key']} has no {' or '.join(self.fields)}")
