"""Readers for the third word of a `path,name,type` triplet: each is a mapping utterance id -> array (or text).

    sound                  ID path | ID file.ark:offset | ID command |     float32 (samples,) or (samples, channels)
    multi_columns_sound    ID a.wav b.wav ...                              (samples, channels)
    kaldi_ark              ID file.ark:offset                              matrix (frames, dim), or wave
    npy                    ID file.npy                                     array
    text                   ID anything                                     str
    text_int, text_float   ID 1 2 3                                        (numbers,)
    csv_int, csv_float     ID 100,80                                       (numbers,)
    hdf5                   (path of the .h5 itself)                        dataset named ID
    rand_float, rand_int_LOW_HIGH   ID 3,4                                 random array of that shape, for tests

The path may be a jsonl manifest: `train.jsonl,speech,sound` takes its `source`, `train.jsonl,text,text` its `target`
(or `text`), and `train.jsonl#FIELD,name,type` any other field.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from funasr.datasets.rng import keyed_generator
from funasr.datasets.sound import MultiColumnSoundReader, SoundReader, load_ark
from funasr.datasets.table import IndexedTable, JsonlTable
from funasr.register import nearest_names
from funasr.utils.errors import ConfigError, DamagedUtteranceError

Triplet = tuple[str, str, str]
Reader = Mapping[str, Any]

_JSONL = re.compile(r"^(?P<path>.*\.jsonl)(?:#(?P<field>\w+))?$")
_RAND_INT = re.compile(r"^rand_int_(-?\d+)_(-?\d+)$")


class TableReader(Mapping[str, Any]):
    """A table whose values go through `convert(value, id)`; a ValueError there means that one line is damaged."""

    def __init__(self, table: Mapping[str, str], convert: Callable[[str, str], Any]) -> None:
        self.table = table
        self.convert = convert

    def __getitem__(self, uid: str) -> Any:
        value = self.table[uid]
        try:
            return self.convert(value, uid)
        except DamagedUtteranceError:
            raise
        except ValueError as error:
            raise DamagedUtteranceError(f"'{value[:60]}': {error}") from None

    def __contains__(self, uid: object) -> bool:
        return uid in self.table

    def __iter__(self) -> Iterator[str]:
        return iter(self.table)

    def __len__(self) -> int:
        return len(self.table)


class Hdf5Reader(Mapping[str, np.ndarray]):
    """Datasets of one HDF5 file, by name (`utt`, or `group/utt` for two levels)."""

    def __init__(self, path: str | Path) -> None:
        try:
            import h5py
        except ImportError:
            raise ConfigError(f"reading {path} needs h5py: pip install h5py") from None
        if not Path(path).is_file():
            raise ConfigError(f"{path} does not exist")
        self.path = Path(path)
        self._file: Any = None
        self._names: list[str] = []
        with h5py.File(self.path, "r") as file:
            file.visititems(lambda name, item: self._names.append(name) if isinstance(item, h5py.Dataset) else None)
        self._known = set(self._names)

    def __getitem__(self, uid: str) -> np.ndarray:
        if uid not in self._known:
            raise KeyError(uid)
        if self._file is None:
            import h5py

            self._file = h5py.File(self.path, "r")
        return np.asarray(self._file[uid][()])

    def __contains__(self, uid: object) -> bool:
        return uid in self._known

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_file": None}  # an open file belongs to its process


class _Numbers:
    """Text of numbers -> (numbers,) array."""

    def __init__(self, separator: str | None, dtype: DTypeLike) -> None:
        self.separator = separator
        self.dtype = dtype

    def __call__(self, value: str, uid: str) -> np.ndarray:
        words = value.split(self.separator)
        return np.array(words if value.strip() else [], dtype=str).astype(self.dtype)


class _Random:
    """Shape as text -> random array of that shape, the same for the same id."""

    def __init__(self, bounds: tuple[int, int] | None = None) -> None:
        self.bounds = bounds

    def __call__(self, value: str, uid: str) -> np.ndarray:
        shape = tuple(int(n) for n in value.split(","))
        rng = keyed_generator("rand", uid)
        if self.bounds is None:
            return rng.standard_normal(shape, dtype=np.float32)
        return rng.integers(*self.bounds, size=shape)


def _npy(value: str, uid: str) -> np.ndarray:
    return np.load(value, allow_pickle=False)


def _ark(value: str, uid: str) -> np.ndarray:
    return load_ark(value)[0]


def _text(value: str, uid: str) -> str:
    return value


_CONVERTERS: dict[str, Callable[[str, str], Any]] = {
    "kaldi_ark": _ark,
    "npy": _npy,
    "text": _text,
    "text_int": _Numbers(None, np.int64),
    "text_float": _Numbers(None, np.float32),
    "csv_int": _Numbers(",", np.int64),
    "csv_float": _Numbers(",", np.float32),
    "rand_float": _Random(),
}
_SOUND_TYPES = ("sound", "multi_columns_sound", "variable_columns_sound")
TYPE_NAMES = (*_SOUND_TYPES, *_CONVERTERS, "hdf5", "rand_int_LOW_HIGH")


def check_type(type_name: str) -> None:
    """Raise ConfigError with the nearest names if there is no such data type."""
    if type_name in TYPE_NAMES[:-1]:
        return
    match = _RAND_INT.fullmatch(type_name)
    if match is None:
        near = nearest_names(type_name, list(TYPE_NAMES))
        hint = f" Did you mean {' or '.join(near)}?" if near else ""
        raise ConfigError(f"Unknown data type '{type_name}'.{hint} Types: {', '.join(TYPE_NAMES)}.")
    if int(match[1]) >= int(match[2]):
        raise ConfigError(f"data type '{type_name}': the low bound must be less than the high bound")


def open_table(path: str, type_name: str) -> IndexedTable:
    """The `id -> value` table of a triplet's path, which is a Kaldi-style table or a jsonl manifest."""
    manifest = _JSONL.fullmatch(path)
    if manifest is None:
        return IndexedTable(path)
    if manifest["field"]:
        return JsonlTable(manifest["path"], (manifest["field"],))
    return JsonlTable(path, ("source",) if type_name in _SOUND_TYPES else ("target", "text"))


def open_reader(path: str, type_name: str, fs: int | None = None, allow_pipes: bool = False) -> Reader:
    """The reader of one triplet.

    Args:
        path, type_name: of the triplet.
        fs: rate (Hz) that sound is resampled to; None leaves it as it is, and then all files must have one rate.
        allow_pipes: run the commands (`... |`) that stand in place of a sound path.

    Raises:
        ConfigError: the type is unknown.
        DataError: the file is missing, or has an id twice.
    """
    check_type(type_name)
    if type_name == "hdf5":
        return Hdf5Reader(path)
    table = open_table(path, type_name)
    if type_name == "sound":
        segments = Path(path).with_name("segments")
        has_segments = Path(path).name == "wav.scp" and segments.is_file()
        return SoundReader(table, fs, allow_pipes, IndexedTable(segments) if has_segments else None)
    if type_name in _SOUND_TYPES:
        return MultiColumnSoundReader(table, fs, allow_pipes, variable=type_name == "variable_columns_sound")
    match = _RAND_INT.fullmatch(type_name)
    if match is not None:
        return TableReader(table, _Random((int(match[1]), int(match[2]))))
    return TableReader(table, _CONVERTERS[type_name])


def manifest_triplets(path: str, speech_name: str = "speech", text_name: str = "text") -> list[Triplet]:
    """The triplets that read audio and transcript out of one jsonl manifest."""
    if _JSONL.fullmatch(path) is None:
        raise ConfigError(f"{path}: a manifest must be a .jsonl file")
    return [(path, speech_name, "sound"), (path, text_name, "text")]


def check_triplets(triplets: Iterable[Triplet]) -> list[Triplet]:
    """The triplets as a list; ConfigError if there is none, a name comes twice, or a name is reserved."""
    checked = [(str(path), str(name), str(type_name)) for path, name, type_name in triplets]
    if not checked:
        raise ConfigError("no data given: at least one path,name,type triplet is needed")
    seen: dict[str, str] = {}
    for path, name, type_name in checked:
        check_type(type_name)
        if name in seen:
            raise ConfigError(f"the data name '{name}' is given twice: {seen[name]} and {path}")
        if name.endswith("_lengths"):
            raise ConfigError(
                f"the data name '{name}' ({path}) is reserved: *_lengths are made by the collate function"
            )
        seen[name] = path
    return checked
